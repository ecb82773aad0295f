"""A read-only index over an ONNX graph: who makes and who reads each tensor, constants, shapes, MACs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

Use = tuple[str, int]
"""A node's name and the position of one of its inputs."""


@dataclass(frozen=True)
class Graph:
    """Index of ``model``; the model must not be changed while the index is used.

    Attributes:
        model: the indexed model.
        nodes: node name -> node, in topological order.
        producer: tensor -> name of the node that makes it (absent for inputs and constants).
        consumers: tensor -> the uses of it, in topological order.
        constants: initializer name -> its value.
        shapes: tensor -> dimensions; ``None`` where one is not a number.
    """

    model: onnx.ModelProto
    nodes: dict[str, onnx.NodeProto]
    producer: dict[str, str]
    consumers: dict[str, tuple[Use, ...]]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int | None, ...]]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Graph:
        """Index a model whose nodes have unique names (see :func:`calibration.prepare.prepare`)."""
        nodes = {node.name: node for node in model.graph.node}
        producer = {out: node.name for node in model.graph.node for out in node.output if out}
        uses: dict[str, list[Use]] = {}
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                if name:
                    uses.setdefault(name, []).append((node.name, position))
        constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        infos = [*model.graph.input, *model.graph.value_info, *model.graph.output]
        shapes = {info.name: dimensions(info) for info in infos}
        shapes.update({name: value.shape for name, value in constants.items()})
        return cls(model, nodes, producer, {k: tuple(v) for k, v in uses.items()}, constants, shapes)

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(info.name for info in self.model.graph.output)

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes ``tensor``, or None for inputs and constants."""
        name = self.producer.get(tensor)
        return None if name is None else self.nodes[name]

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The node that alone reads ``tensor``, or None when several do, none does, or it is an output."""
        uses = self.consumers.get(tensor, ())
        if len(uses) != 1 or tensor in self.outputs:
            return None
        return self.nodes[uses[0][0]]

    def constant(self, node: onnx.NodeProto, position: int) -> np.ndarray | None:
        """Value of a node's constant input, or None when it is absent or not constant."""
        if position >= len(node.input):
            return None
        return self.constants.get(node.input[position])

    def descendants(self, nodes: Iterable[str]) -> set[str]:
        """``nodes`` and the names of every node behind them."""
        found, todo = set(), list(nodes)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found.add(name)
            for out in self.nodes[name].output:
                todo.extend(reader for reader, _ in self.consumers.get(out, ()))
        return found

    def ancestors(self, tensor: str) -> set[str]:
        """Names of every node that ``tensor`` depends on."""
        found: set[str] = set()
        todo = [tensor]
        while todo:
            node = self.maker(todo.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                todo.extend(name for name in node.input if name)
        return found


def dimensions(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Dimensions of a tensor; ``None`` where one is symbolic or unknown."""
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim)


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Value of a node's attribute, or ``default``."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def integer(node: onnx.NodeProto, name: str, default: int) -> int:
    """Value of a node's integer attribute, or ``default``."""
    value = attribute(node, name, default)
    return int(value)  # type: ignore[call-overload]


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operator set; 0 when the model imports none."""
    return max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)


def multiply_accumulates(graph: Graph, node: onnx.NodeProto) -> int:
    """MACs of one picture in a weighted node; 0 when a shape is unknown."""
    position = 1
    weight = graph.shapes.get(node.input[position]) if len(node.input) > position else None
    out = graph.shapes.get(node.output[0])
    if not weight or not out or any(d is None for d in weight) or any(d is None for d in out[1:]):
        return 0
    sizes = [int(d) for d in weight if d is not None]
    spatial_out = int(np.prod([d for d in out[2:] if d is not None], dtype=np.int64))
    if node.op_type == "Conv":
        return spatial_out * int(np.prod(sizes, dtype=np.int64))
    if node.op_type == "ConvTranspose":
        source = graph.shapes.get(node.input[0], ())
        if any(d is None for d in source[2:]):
            return 0
        return int(np.prod([d for d in source[2:] if d is not None], dtype=np.int64)) * int(np.prod(sizes))
    rows = int(np.prod([d for d in out[1:-1] if d is not None], dtype=np.int64))
    return rows * int(np.prod(sizes, dtype=np.int64))
