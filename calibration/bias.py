"""Bias correction: take the mean error that quantization adds to a layer's output back out of its bias.

M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019, section 4.2,
in its empirical form. Biases stay float in the forms for TensorRT, so it costs nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from calibration.placement import Layer, Plan
from calibration.prepare import Prepared
from calibration.scales import dequantize_weight, fake_quantize, weight_codes
from calibration.session import open_session
from calibration.suffix import activations_of
from calibration.table import TABLE


def correct_biases(
    prepared: Prepared,
    plan: Plan,
    inputs: Mapping[str, float],
    weights: Mapping[str, np.ndarray],
    probe: np.ndarray,
    threads: int,
) -> dict[str, np.ndarray]:
    """Corrected biases of the convolutions that have one.

    Args:
        inputs: tensor -> scale; weights: node name -> scales; probe: float32 (P, C, H, W) pictures.

    Returns:
        Node name -> float32 (channels,): ``b - mean(conv(Q(x), Q(w)) - conv(x, w))`` over pictures and places.
    """
    layers = [layer for layer in plan.int8_layers if layer.operator in ("Conv", "ConvTranspose")]
    values = activations_of(prepared, [layer.input for layer in layers], probe, threads)
    found = {}
    for layer in layers:
        bias = prepared.graph.constant(prepared.graph.nodes[layer.node], 2)
        if bias is None:
            continue
        weight, scale = prepared.graph.constants[layer.weight], weights[layer.node]
        quantized = dequantize_weight(weight_codes(weight, scale, layer.axis), scale, layer.axis)
        error = _mean_error(prepared, layer, values[layer.input], inputs[layer.input], quantized, threads)
        found[layer.node] = (bias.reshape(-1).astype(np.float64) - error).astype(np.float32)
    return found


def _mean_error(
    prepared: Prepared, layer: Layer, values: np.ndarray, scale: float, quantized: np.ndarray, threads: int
) -> np.ndarray:
    """Mean of conv(Q(x), Q(w)) - conv(x, w) per channel, float64 (channels,).

    A convolution is linear, so the mean over pictures of what it makes is what it makes of the mean picture.
    """
    node = onnx.NodeProto.FromString(prepared.graph.nodes[layer.node].SerializeToString())
    roles = TABLE.weighted[layer.operator]
    del node.input[:]
    node.input.extend(["x", "w"])
    kind = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "w", node.output[0])]
    graph = helper.make_graph([node], "layer", kind[:2], kind[2:])
    model = helper.make_model(graph, opset_imports=prepared.model.opset_import, ir_version=8)
    session = open_session(model, threads)
    original = prepared.graph.constants[prepared.graph.nodes[layer.node].input[roles.weight]]
    rounded = fake_quantize(values, scale).mean(axis=0, keepdims=True)
    error = session.run(None, {"x": rounded, "w": quantized})[0]
    error -= session.run(None, {"x": values.mean(axis=0, keepdims=True), "w": original})[0]
    return np.asarray(error.mean(axis=(0, *range(2, error.ndim)), dtype=np.float64))
