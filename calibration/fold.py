"""Fold BatchNormalization into the convolution in front of it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from calibration.graph import Graph, attribute, integer

FOLDABLE = frozenset({"Conv", "ConvTranspose"})


def fold_batch_norms(model: onnx.ModelProto) -> int:
    """Fold every BatchNormalization that directly follows a convolution nobody else reads.

    With scale ``g``, shift ``b``, mean ``m`` and variance ``v`` per channel, ``w' = w * g / sqrt(v + e)`` and
    ``bias' = (bias - m) * g / sqrt(v + e) + b``; computed in float64.

    Args:
        model: changed in place; its nodes have unique names.

    Returns:
        How many were folded. Others (behind an addition, grouped transposed convolutions) stay.
    """
    graph = Graph.of(model)
    dropped: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        conv = graph.maker(node.input[0])
        if conv is None or conv.op_type not in FOLDABLE or graph.only_reader(node.input[0]) is None:
            continue
        if _fold_one(model, graph, conv, node):
            dropped.add(node.name)
    if dropped:
        kept = [
            onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node if n.name not in dropped
        ]
        del model.graph.node[:]
        model.graph.node.extend(kept)
    return len(dropped)


def _fold_one(model: onnx.ModelProto, graph: Graph, conv: onnx.NodeProto, norm: onnx.NodeProto) -> bool:
    if attribute(norm, "training_mode", 0):
        return False
    parts = [graph.constant(norm, position) for position in range(1, 5)]
    weight = graph.constant(conv, 1)
    if weight is None or any(part is None for part in parts):
        return False
    if conv.op_type == "ConvTranspose" and integer(conv, "group", 1) != 1:
        return False
    scale, shift, mean, variance = (np.asarray(part, dtype=np.float64) for part in parts)
    epsilon = float(attribute(norm, "epsilon", 1e-5))  # type: ignore[arg-type]
    factor = scale / np.sqrt(variance + epsilon)
    bias = graph.constant(conv, 2)
    old = np.zeros_like(mean) if bias is None else bias.astype(np.float64)
    axis = 0 if conv.op_type == "Conv" else 1
    shape = [1] * weight.ndim
    shape[axis] = -1
    names = (f"{conv.name}.folded_weight", f"{conv.name}.folded_bias")
    values = (weight * factor.reshape(shape), (old - mean) * factor + shift)
    for name, value in zip(names, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    inputs = [conv.input[0], *names]
    del conv.input[:]
    conv.input.extend(inputs)
    conv.output[0] = norm.output[0]
    return True
