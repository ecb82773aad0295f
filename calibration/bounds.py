"""What is known about a tensor's bounds from the operators that made it."""

from __future__ import annotations

import math

import onnx

from calibration.graph import Graph
from calibration.prepare import Prepared
from calibration.table import TABLE


def saturation(graph: Graph, node: onnx.NodeProto) -> tuple[float, float] | None:
    """Bounds that a Relu or a Clip with constant limits puts on its input; None for other operators."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = [-math.inf, math.inf]
    for position in (1, 2):
        if position < len(node.input) and node.input[position]:
            value = graph.constant(node, position)
            if value is None:
                return None
            bounds[position - 1] = float(value.reshape(()))
    return bounds[0], bounds[1]


def nonnegative(graph: Graph, tensor: str) -> bool:
    """Whether a tensor cannot be negative, whatever the picture."""
    node = graph.maker(tensor)
    if node is None:
        return False
    if node.op_type in ("Sigmoid", "Abs", "Softmax"):
        return True
    limits = saturation(graph, node)
    if limits is not None:
        return limits[0] >= 0 or (limits[1] >= 0 and nonnegative(graph, node.input[0]))
    if node.op_type in TABLE.share_scale:
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        return all(nonnegative(graph, name) for name in inputs)
    return False


def clip_is_redundant(prepared: Prepared) -> bool:
    """Whether the wire's Clip does nothing that QuantizeLinear's saturation does not do."""
    wire = prepared.wire
    if len(wire.nodes) == 1:
        return False
    low_is_free = wire.low == -128 or (wire.low == 0 and nonnegative(prepared.graph, wire.feature))
    return wire.high == 127 and low_is_free


def relu_in_clip(prepared: Prepared) -> str | None:
    """Name of a Relu that the wire's Clip repeats (lower bound 0), so that one of the two can go."""
    wire, graph = prepared.wire, prepared.graph
    maker = graph.maker(wire.feature)
    if len(wire.nodes) == 1 or wire.low != 0 or maker is None or maker.op_type != "Relu":
        return None
    return maker.name if graph.only_reader(wire.feature) is not None else None
