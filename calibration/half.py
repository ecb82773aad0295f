"""FP16 networks for strongly typed TensorRT, with a check that everything fits into FP16."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import HalfRangeError, UnsupportedOperatorError
from calibration.graph import Graph, opset_of
from calibration.writer import ir_version_of

OPSET = 19
LARGEST = float(np.finfo(np.float16).max)
SAME_MEANING = frozenset(
    ("AveragePool", "Cast", "DequantizeLinear", "Equal", "Identity", "Pad", "QuantizeLinear", "Reshape", "Shape")
)
"""Operators whose newer version only takes more types or optional attributes."""
NORMALIZING = frozenset({"Add", "Cast", "Div", "Mul", "Sub", "Transpose"})


def check_half_range(ranges: Mapping[str, tuple[float, float]]) -> tuple[str, float]:
    """The tensor of largest absolute value, and that value.

    Raises:
        HalfRangeError: it is above 65504.
    """
    if not ranges:
        return "", 0.0
    name = max(ranges, key=lambda item: max(abs(ranges[item][0]), abs(ranges[item][1])))
    largest = max(abs(ranges[name][0]), abs(ranges[name][1]))
    if largest > LARGEST:
        raise HalfRangeError(
            f"tensor {name} reaches {largest:g}, FP16 ends at {LARGEST:g}; leave out the forms b and fp16, or "
            "train with weight decay on the layers before it"
        )
    return name, largest


def to_half(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """A strongly typed FP16 version at opset 19; input float32, wire INT8 with its step unchanged.

    Two ends stay FP32, because rounding there would change codes for nothing: the normalization of the picture up
    to the first QuantizeLinear, and, where the wire's step is no FP16 number, the last Clip and QuantizeLinear.

    Args:
        model: FP32 model (with or without Q/DQ) that ends in the wire's QuantizeLinear; not changed.
        ranges: tensor -> (smallest, largest) seen on the calibration pictures.

    Raises:
        HalfRangeError: a constant or an activation does not fit into FP16.
        UnsupportedOperatorError: an operator means something else at opset 19.
    """
    check_half_range(ranges)
    _check_opset(model)
    graph = Graph.of(model)
    full = _normalization(graph) | _wire_end(graph)
    writer = _HalfWriter(graph, full)
    for node in model.graph.node:
        writer.add(node)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in writer.constants.items()]
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    return helper.make_model(
        helper.make_graph(writer.nodes, model.graph.name, inputs, outputs, initializers),
        producer_name=model.producer_name,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=ir_version_of(OPSET),
    )


class _HalfWriter:
    """Copies nodes in FP16, those of ``full`` in FP32, with a Cast wherever a tensor crosses between the two."""

    def __init__(self, graph: Graph, full: frozenset[str]) -> None:
        self._graph, self._full = graph, full
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._casts: set[str] = set()

    def add(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        full = node.name in self._full
        if not full and copy.op_type == "Cast" and helper.get_node_attr_value(copy, "to") == TensorProto.FLOAT:
            copy.attribute[0].i = TensorProto.FLOAT16
        for position, name in enumerate(copy.input):
            if name in self._graph.constants:
                copy.input[position] = self._constant(name, full)
            elif name and node.op_type != "DequantizeLinear":
                copy.input[position] = self._tensor(name, full)
        self.nodes.append(copy)

    def _constant(self, name: str, full: bool) -> str:
        value = self._graph.constants[name]
        if value.dtype != np.float32 or not full:
            self.constants[name] = _half(name, value)
            return name
        self.constants[f"{name}.full"] = value
        return f"{name}.full"

    def _tensor(self, name: str, full: bool) -> str:
        made_full = self._graph.producer.get(name, "") in self._full or name not in self._graph.producer
        if made_full == full:
            return name
        suffix, kind = ("full", TensorProto.FLOAT) if full else ("half", TensorProto.FLOAT16)
        if f"{name}.{suffix}" not in self._casts:
            self._casts.add(f"{name}.{suffix}")
            self.nodes.append(
                helper.make_node("Cast", [name], [f"{name}.{suffix}"], f"{name}.to_{suffix}", to=kind)
            )
        return f"{name}.{suffix}"


def _half(name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype != np.float32:
        return value
    finite = value[np.isfinite(value)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if largest > LARGEST:
        raise HalfRangeError(
            f"constant {name} holds {largest:g}, FP16 ends at {LARGEST:g}; leave out the forms b and fp16"
        )
    return value.astype(np.float16)


def _normalization(graph: Graph) -> frozenset[str]:
    """Names of the elementwise nodes between the picture and the first layer, and of a QuantizeLinear there."""
    known = {info.name for info in graph.model.graph.input}
    names = set()
    for node in graph.nodes.values():
        inside = all(name in known for name in node.input if name and name not in graph.constants)
        if inside and node.op_type in NORMALIZING:
            names.add(node.name)
            known.update(node.output)
        elif inside and node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants:
            names.add(node.name)
    return frozenset(names)


def _wire_end(graph: Graph) -> frozenset[str]:
    """Names of the wire's nodes, when its step is no FP16 number."""
    [wire] = graph.outputs
    last = graph.maker(wire)
    if last is None or last.op_type != "QuantizeLinear":
        return frozenset()
    step = graph.constants[last.input[1]]
    if float(np.float16(step.reshape(()))) == float(step.reshape(())):
        return frozenset()
    clip = graph.maker(last.input[0])
    return frozenset({clip.name, last.name} if clip is not None and clip.op_type == "Clip" else {last.name})


def _check_opset(model: onnx.ModelProto) -> None:
    version = opset_of(model)
    for node in model.graph.node:
        old = onnx.defs.get_schema(node.op_type, version).since_version
        new = onnx.defs.get_schema(node.op_type, OPSET).since_version
        sized = node.op_type == "Split" and len(node.input) > 1  # only the default sizes changed
        if old != new and node.op_type not in SAME_MEANING and not sized:
            raise UnsupportedOperatorError(
                f"{node.op_type} ({node.name}) changed between opset {version} and {OPSET}; leave out b and fp16"
            )
