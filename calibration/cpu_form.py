"""The cpu form: the same plan and scales, written so that ONNX Runtime runs its integer kernels.

ONNX Runtime fuses a convolution into QLinearConv only when QuantizeLinear follows it at once, and it computes on
UINT8. So a pair stands behind every convolution and addition *before* its activation, with the scale that the
plan gives the activation's output; Relu and Clip become bounds on the codes. Codes are stored as UINT8: with
zero point 128 where they are signed (the same codes, shifted), with zero point 0 and at most 127 where the
activation is not negative. The values are those of the INT8 codes of the other forms. Biases are INT32. A first
layer with a large kernel runs on 2x2 blocks (``calibration.stem``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from calibration.bounds import saturation
from calibration.graph import Graph, opset_of
from calibration.placement import Layer, Plan
from calibration.prepare import Prepared
from calibration.scales import Scales, weight_codes
from calibration.stem import BLOCK, BlockedStem, blocked_stem
from calibration.table import TABLE
from calibration.writer import Writer

SHIFT = 128
LOW, HIGH = TABLE.activation_codes


@dataclass(frozen=True)
class Chain:
    """A tensor, the saturating nodes behind it, and what they come to.

    Attributes:
        end: the tensor behind the last of them.
        nodes: their names; low, high: the bounds they put on the value.
    """

    end: str
    nodes: tuple[str, ...]
    low: float
    high: float


def follow(graph: Graph, tensor: str, stops: frozenset[str]) -> Chain:
    """The saturating operators behind ``tensor`` that nobody else reads into, up to a tensor of ``stops``."""
    nodes: list[str] = []
    low, high = -math.inf, math.inf
    while tensor not in stops:
        reader = graph.only_reader(tensor)
        limits = saturation(graph, reader) if reader is not None else None
        if reader is None or limits is None:
            break
        low, high = min(max(low, limits[0]), limits[1]), max(min(high, limits[1]), limits[0])
        nodes.append(reader.name)
        tensor = reader.output[0]
    return Chain(tensor, tuple(nodes), low, high)


def internal_tensors(prepared: Prepared, plan: Plan) -> tuple[str, ...]:
    """Outputs of INT8 layers that need a scale of their own in this form (they are float in the others)."""
    stops = _stops(prepared, plan)
    found = []
    for layer in plan.int8_layers:
        out = prepared.graph.nodes[layer.node].output[0]
        if follow(prepared.graph, out, stops).end not in stops:
            found.append(out)
    return tuple(found)


def _stops(prepared: Prepared, plan: Plan) -> frozenset[str]:
    return frozenset([*(point.tensor for point in plan.points), prepared.wire.feature])


def form_cpu(prepared: Prepared, plan: Plan, scales: Scales) -> onnx.ModelProto:
    """The network for ONNX Runtime on a CPU."""
    return _CpuWriter(prepared, plan, scales).write()


class _CpuWriter:
    def __init__(self, prepared: Prepared, plan: Plan, scales: Scales) -> None:
        self._prepared, self._graph, self._scales = prepared, prepared.graph, scales
        self._writer = Writer(prepared)
        self._layers = {layer.node: layer for layer in plan.int8_layers}
        self._points = {point.tensor: point for point in plan.points}
        self._stops = _stops(prepared, plan)
        self._joins = {join.node for join in plan.joins}
        self._reads: dict[str, str] = {}
        self._zeros: dict[str, int] = {}
        self._late: dict[str, tuple[int, int]] = {}
        self._stem = blocked_stem(prepared, plan)
        self._done: set[str] = set()

    def write(self) -> onnx.ModelProto:
        if self._prepared.picture in self._points:
            self._pair(self._prepared.picture, self._prepared.picture)
        for node in self._graph.nodes.values():
            if node.name not in self._done:
                self._node(node)
        return self._writer.model(opset_of(self._prepared.model), "form_cpu")

    def _node(self, node: onnx.NodeProto) -> None:
        inputs = [self._reads.get(name, name) for name in node.input]
        out = node.output[0]
        if node.name in self._layers:
            self._weights(self._layers[node.name], inputs)
        blocked = self._stem is not None and node.name == self._stem.node
        self._writer.copy(_with_attributes(node, self._stem) if blocked and self._stem else node, inputs)
        joined = node.name in self._joins and all(name in self._reads for name in node.input)
        if node.name in self._layers or joined:
            self._finish(out)
        elif node.op_type in TABLE.share_scale and node.input[0] in self._zeros and out in self._stops:
            zeros = [self._zeros.get(name, SHIFT) for name in node.input if name not in self._graph.constants]
            low, high = self._late.get(node.input[0], (-max(zeros), 255 - max(zeros)))
            self._end(out, out, max(zeros), low, high)
        elif out in self._points:
            self._pair(out, out)

    def _finish(self, out: str) -> None:
        """Quantize behind a layer or an addition, with its activation as bounds of the codes."""
        chain = follow(self._graph, out, self._stops)
        if chain.end in self._stops:
            scale = self._scale(chain.end)
            low = LOW if chain.low == -math.inf else max(LOW, round(np.rint(chain.low / scale)))
            high = HIGH if chain.high == math.inf else min(HIGH, round(np.rint(chain.high / scale)))
            self._done.update(chain.nodes)
            self._end(chain.end, out, 0 if low >= 0 else SHIFT, low, high)
        elif out in self._scales.internal:
            scale_array = np.asarray(self._scales.internal[out], dtype=np.float32)
            self._reads[out] = self._writer.pair(out, scale_array, np.asarray(SHIFT, np.uint8))

    def _scale(self, tensor: str) -> float:
        return (
            self._prepared.wire.step if tensor == self._prepared.wire.feature else self._scales.activations[tensor]
        )

    def _end(self, tensor: str, source: str, zero: int, low: int, high: int) -> None:
        if tensor == self._prepared.wire.feature:
            wire = self._prepared.wire
            self._wire(source, zero, max(low, wire.low), min(high, wire.high))
            return
        scale, zero_point = np.asarray(self._scale(tensor), np.float32), np.asarray(zero, np.uint8)
        codes = self._writer.quantize(tensor, scale, zero_point, source)
        if self._before_pool(tensor):
            self._late[tensor] = (low, high)
        else:
            codes = self._bound(tensor, codes, zero, low, high)
        if self._stem is not None and tensor == self._stem.tensor:
            blocks = {"blocksize": BLOCK}
            codes = self._writer.node("SpaceToDepth", [codes], f"{tensor}.blocks", f"{tensor}.rearrange", **blocks)
        self._reads[tensor] = self._writer.dequantize(tensor, codes, scale, zero_point)
        self._zeros[tensor] = zero

    def _before_pool(self, tensor: str) -> bool:
        """Whether only a maximum pool with codes of its own reads it: then the pool's fewer codes are bounded."""
        reader = self._graph.only_reader(tensor)
        return reader is not None and reader.op_type == "MaxPool" and reader.output[0] in self._points

    def _bound(self, tensor: str, codes: str, zero: int, low: int, high: int) -> str:
        """Clip UINT8 codes where the type alone does not do it."""
        least, most = max(0, low + zero), min(255, high + zero)
        if least == 0 and most == 255:
            return codes
        limits = [
            self._writer.constant(f"{tensor}.{name}", np.asarray(value, np.uint8))
            for name, value in (("low", least), ("high", most))
        ]
        return self._writer.node("Clip", [codes, *limits], f"{tensor}.bounded", f"{tensor}.bound")

    def _pair(self, tensor: str, source: str) -> None:
        self._end(tensor, source, SHIFT, LOW, HIGH)

    def _wire(self, source: str, zero: int, low: int, high: int) -> None:
        wire = self._prepared.wire
        step, zero_point = np.asarray(wire.step, np.float32), np.asarray(zero, np.uint8)
        codes = self._writer.quantize(wire.output, step, zero_point, source)
        codes = self._bound(wire.output, codes, zero, low, high)
        self._done.update(wire.nodes)
        if zero == 0:
            self._writer.node("Cast", [codes], wire.output, f"{wire.output}.to_int8", to=onnx.TensorProto.INT8)
            return
        value = self._writer.dequantize(wire.output, codes, step, zero_point)
        name = self._writer.constant(f"{wire.output}.zero_point_int8", np.asarray(0, np.int8))
        self._writer.node(
            "QuantizeLinear", [value, f"{wire.output}.scale", name], wire.output, f"{wire.output}.shift"
        )

    def _weights(self, layer: Layer, inputs: list[str]) -> None:
        roles = TABLE.weighted[layer.operator]
        value, scale = self._graph.constants[layer.weight], self._scales.weights[layer.node]
        stem = f"{layer.node}.weight"
        names = [
            self._writer.constant(f"{stem}.codes", self._weight_codes(layer, value, scale)),
            self._writer.constant(f"{stem}.scale", scale),
            self._writer.constant(f"{stem}.zero_point", np.zeros(scale.shape, np.int8)),
        ]
        inputs[roles.weight] = self._writer.node(
            "DequantizeLinear", names, f"{stem}.dequantized", f"{stem}.dequantize", axis=layer.axis
        )
        node = self._graph.nodes[layer.node]
        bias = self._scales.biases.get(layer.node)
        if bias is None and roles.bias is not None:
            bias = self._graph.constant(node, roles.bias)
        if bias is None or roles.bias is None:
            return
        inputs[roles.bias :] = [self._bias(layer, bias.reshape(-1).astype(np.float64), scale)]

    def _weight_codes(self, layer: Layer, value: np.ndarray, scale: np.ndarray) -> np.ndarray:
        codes = weight_codes(value, scale, layer.axis)
        return self._stem.weight(codes) if self._stem is not None and layer.node == self._stem.node else codes

    def _bias(self, layer: Layer, bias: np.ndarray, weight_scale: np.ndarray) -> str:
        scale = (np.float32(self._scales.activations[layer.input]) * weight_scale).astype(np.float32)
        limit = 2**31 - 1
        codes = np.clip(np.rint(bias / scale), -limit, limit).astype(np.int32)
        stem = f"{layer.node}.bias"
        names = [
            self._writer.constant(f"{stem}.codes", codes),
            self._writer.constant(f"{stem}.scale", scale),
            self._writer.constant(f"{stem}.zero_point", np.zeros(scale.shape, np.int32)),
        ]
        return self._writer.node("DequantizeLinear", names, f"{stem}.dequantized", f"{stem}.dequantize", axis=0)


def _with_attributes(node: onnx.NodeProto, stem: BlockedStem) -> onnx.NodeProto:
    """A copy of the convolution with the attributes that it has on blocks."""
    changed = stem.attributes()
    copy = onnx.NodeProto.FromString(node.SerializeToString())
    kept = [item for item in node.attribute if item.name not in changed]
    del copy.attribute[:]
    copy.attribute.extend([*kept, *(onnx.helper.make_attribute(name, value) for name, value in changed.items())])
    return copy
