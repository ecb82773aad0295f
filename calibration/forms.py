"""Forms A and B: the Q/DQ networks for TensorRT, from one plan and one set of scales.

Form A (TensorRT 8.x, weakly typed 10.x): FP32 tensors and scales, the source's opset (13 to 17), explicit zero
points, weights FP32 + QuantizeLinear + DequantizeLinear (8.0 to 8.2 refuse stored INT8 weights).
Form B (strongly typed 10/11): FP16 tensors and scales, opset 19, weights as INT8 codes + DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx

from calibration.bounds import clip_is_redundant, relu_in_clip
from calibration.graph import opset_of
from calibration.half import to_half
from calibration.placement import Layer, Plan, Point
from calibration.prepare import Prepared
from calibration.scales import Scales, clip_weight, weight_codes
from calibration.table import TABLE
from calibration.writer import Writer

ZERO = np.asarray(0, dtype=np.int8)
Weights = Literal["float_pair", "codes"]


def form_a(prepared: Prepared, plan: Plan, scales: Scales) -> onnx.ModelProto:
    """The network for TensorRT 8.x and weakly typed 10.x."""
    return _emit(prepared, plan, scales, "float_pair", "form_a")


def form_b(
    prepared: Prepared, plan: Plan, scales: Scales, ranges: Mapping[str, tuple[float, float]]
) -> onnx.ModelProto:
    """The network for strongly typed TensorRT 10 and 11.

    Args:
        ranges: tensor -> (smallest, largest) seen, for the FP16 range check.

    Raises:
        HalfRangeError: a constant or an activation does not fit into FP16.
    """
    return to_half(_emit(prepared, plan, scales, "codes", "form_b"), ranges)


def form_half(prepared: Prepared, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """The FP16 network without quantization inside; only the wire is INT8.

    Raises:
        HalfRangeError: a constant or an activation does not fit into FP16.
    """
    empty = Plan((), (), ())
    return to_half(_emit(prepared, empty, Scales({}, {}), "codes", "form_fp16"), ranges)


def _emit(prepared: Prepared, plan: Plan, scales: Scales, weights: Weights, name: str) -> onnx.ModelProto:
    graph, writer = prepared.graph, Writer(prepared)
    layers = {layer.node: layer for layer in plan.int8_layers}
    points = {point.tensor: point for point in plan.points}
    reads: dict[tuple[str, int], str] = {}
    dropped, renamed = _wire_simplification(prepared)

    def pair(tensor: str) -> None:
        point = points.get(tensor)
        if point is not None:
            _pair(writer, point, scales, reads)

    pair(prepared.picture)
    for node in graph.nodes.values():
        if node.name in dropped:
            continue
        inputs = [reads.get((node.name, i), renamed.get(item, item)) for i, item in enumerate(node.input)]
        if node.name in layers:
            _weight(writer, prepared, layers[node.name], scales, weights, inputs)
        writer.copy(node, inputs)
        for out in node.output:
            pair(out)
    return writer.model(opset_of(prepared.model), name)


def _wire_simplification(prepared: Prepared) -> tuple[set[str], dict[str, str]]:
    """Nodes that can go without changing a code, and what their output is read as."""
    wire, graph = prepared.wire, prepared.graph
    if clip_is_redundant(prepared):
        clip = graph.nodes[wire.nodes[0]]
        return {clip.name}, {clip.output[0]: clip.input[0]}
    relu = relu_in_clip(prepared)
    if relu is not None:
        node = graph.nodes[relu]
        return {relu}, {node.output[0]: node.input[0]}
    return set(), {}


def _pair(writer: Writer, point: Point, scales: Scales, reads: dict[tuple[str, int], str]) -> None:
    scale = np.asarray(scales.activations[point.tensor], dtype=np.float32)
    name = writer.pair(point.tensor, scale, ZERO)
    reads.update(dict.fromkeys(point.uses, name))


def _weight(
    writer: Writer, prepared: Prepared, layer: Layer, scales: Scales, style: Weights, inputs: list[str]
) -> None:
    """Replace a layer's weight (and corrected bias) in ``inputs``."""
    roles = TABLE.weighted[layer.operator]
    value, scale = prepared.graph.constants[layer.weight], scales.weights[layer.node]
    stem = f"{layer.node}.weight"
    zero = np.zeros(scale.shape, dtype=np.int8)
    names = [writer.constant(f"{stem}.scale", scale), writer.constant(f"{stem}.zero_point", zero)]
    if style == "float_pair":
        clipped = clip_weight(value, scale, layer.axis)
        name = layer.weight if np.array_equal(clipped, value) else f"{stem}.clipped"
        source = writer.constant(name, clipped)
        codes = writer.node(
            "QuantizeLinear", [source, *names], f"{stem}.codes", f"{stem}.quantize", axis=layer.axis
        )
    else:
        codes = writer.constant(f"{stem}.codes", weight_codes(value, scale, layer.axis))
    read = writer.node(
        "DequantizeLinear", [codes, *names], f"{stem}.dequantized", f"{stem}.dequantize", axis=layer.axis
    )
    inputs[roles.weight] = read
    bias = scales.biases.get(layer.node)
    if bias is not None and roles.bias is not None:
        name = writer.constant(f"{layer.node}.corrected_bias", bias.astype(np.float32))
        inputs[roles.bias :] = [name]
