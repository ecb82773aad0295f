"""The ONNX graph that fusion works on: Q/DQ pairs and reshapes are seen through, weights told from activations.

So are the shuffles of attention: transposing, splitting and gathering heads for a product of two activations, and
back, is a stride in the batched matrix product, not a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

from toolkit.errors import ModelError
from toolkit.optional import require

FREE = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout"}
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}
SHUFFLES = {"Transpose", "Split", "Slice", "Gather"}


@dataclass
class FusionGraph:
    """Index of a model; tensors are called by the name of what first held their values.

    Attributes:
        shapes: dimensions by name; 0 where one is not a number.
        root: name of what first held a tensor's values.
        coded: roots that are also stored as 8-bit codes; ``decoded`` names read those codes.
        written: names that a node writes; ``coded_weights`` those that a DequantizeLinear does.
        readers: nodes that read a root, by index.
        free: indices of the nodes that cost nothing.
    """

    nodes: list[Any]
    shapes: dict[str, tuple[int, ...]]
    constants: set[str]
    outputs: set[str]
    root: dict[str, str] = field(default_factory=dict)
    coded: set[str] = field(default_factory=set)
    decoded: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    coded_weights: set[str] = field(default_factory=set)
    readers: dict[str, list[int]] = field(default_factory=dict)
    free: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, model: Any, batch: int) -> FusionGraph:
        """Index a model with every open dimension of its inputs set to ``batch``."""
        onnx = require("onnx", "host")
        fixed = onnx.ModelProto()
        fixed.CopyFrom(model)
        for item in fixed.graph.input:
            for dim in item.type.tensor_type.shape.dim:
                if not dim.HasField("dim_value"):
                    dim.dim_value = batch
        del fixed.graph.value_info[:]
        for item in fixed.graph.output:
            item.type.tensor_type.ClearField("shape")
        fixed = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
        infos = [*fixed.graph.input, *fixed.graph.value_info, *fixed.graph.output]
        shapes = {info.name: _dims(info) for info in infos if info.type.tensor_type.HasField("shape")}
        constants = {item.name for item in fixed.graph.initializer}
        shapes.update({item.name: tuple(item.dims) for item in fixed.graph.initializer})
        graph = cls(list(fixed.graph.node), shapes, constants, {item.name for item in fixed.graph.output})
        graph._index()
        return graph

    def _index(self) -> None:
        self.written = {name for node in self.nodes for name in node.output}
        self.coded_weights = {node.output[0] for node in self.nodes if node.op_type == "DequantizeLinear"}
        for node in self.nodes:
            if node.op_type == "Constant" or (node.input and all(self.is_constant(i) for i in node.input if i)):
                self.constants.update(node.output)
        shuffles = self._shuffles()
        for index, node in enumerate(self.nodes):
            if (node.op_type in FREE | QUANTIZERS or index in shuffles) and node.input[0] not in self.constants:
                source = self.of_root(node.input[0])
                self.free.add(index)
                self.root.update(dict.fromkeys(node.output, source))
                if node.op_type == "QuantizeLinear":
                    self.coded.add(source)
                if node.op_type == "DequantizeLinear" or node.input[0] in self.decoded:
                    self.decoded.add(node.output[0])
                continue
            for name in node.input:
                if name and name not in self.constants:
                    self.readers.setdefault(self.of_root(name), []).append(index)
        self.outputs = {self.of_root(name) for name in self.outputs}

    def _shuffles(self) -> set[int]:
        """Nodes that arrange the heads of attention."""
        direct: dict[str, list[int]] = {}
        writer: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            writer.update(dict.fromkeys(node.output, index))
            for name in node.input:
                direct.setdefault(name, []).append(index)
        into: set[int] = set()
        found: set[int] = set()
        for index in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[index]
            if self.multiplies_activations(node):
                into.add(index)
            elif node.op_type in SHUFFLES | FREE | QUANTIZERS and node.input[0] not in self.constants:
                readers = [reader for name in node.output for reader in direct.get(name, [])]
                if readers and all(reader in into for reader in readers):
                    into.add(index)
                    found |= {index} if node.op_type in SHUFFLES else set()
        for index, node in enumerate(self.nodes):
            if node.op_type == "Transpose" and self.multiplies_activations(self._behind_free(node, writer)):
                found.add(index)
        return found

    def _behind_free(self, node: Any, writer: dict[str, int]) -> Any:
        """The node whose values this one reads."""
        source = writer.get(node.input[0])
        while source is not None and self.nodes[source].op_type in FREE | QUANTIZERS:
            source = writer.get(self.nodes[source].input[0])
        return None if source is None else self.nodes[source]

    def multiplies_activations(self, node: Any) -> bool:
        """Whether a node is a matrix product of two tensors that the network computes."""
        if node is None or node.op_type != "MatMul":
            return False
        return all(name in self.written and name not in self.constants for name in node.input)

    def of_root(self, name: str) -> str:
        """Name of what first held a tensor's values."""
        return self.root.get(name, name)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known before anything runs."""
        return name in self.constants

    def elements(self, name: str) -> int:
        """Numbers in a tensor.

        Raises:
            ModelError: its shape is not fixed.
        """
        shape = self.shapes.get(name)
        if shape is None or any(dim <= 0 for dim in shape):
            raise ModelError(
                f"the shape of tensor {name} is not fixed by the batch size; export the model with fixed height "
                "and width, or simplify it first"
            )
        return prod(shape)


def _dims(info: Any) -> tuple[int, ...]:
    shape = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in shape)
