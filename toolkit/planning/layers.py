"""``layers.json`` from ONNX: the network after TensorRT's fusions, for the latency predictor.

Rules (TensorRT documentation, "Types of fusions"; DESIGN truth 2 for Q/DQ): a convolution takes the BatchNorm,
addition and activation behind it; pointwise operators behind each other are one kernel; Q/DQ pairs vanish into
the precision of their readers; reshapes cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from targets.jetson.layers import NETWORK_INPUT, Layer, LayerGraph, Tensor
from toolkit.errors import ModelError
from toolkit.optional import require
from toolkit.planning.onnx_graph import FREE, QUANTIZERS, FusionGraph

SIMPLE = {"Relu", "Clip", "LeakyRelu", "PRelu"}
SMOOTH = {"Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Elu", "Softplus", "Erf", "Silu"}
BINARY = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"}
UNARY = {"Sqrt", "Neg", "Abs", "Exp", "Log", "Reciprocal", "Floor", "Round", "BatchNormalization"}
POINTWISE = SIMPLE | SMOOTH | BINARY | UNARY
MATRIX = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
NORMALIZING = {"Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "LRN"}
REDUCING = {"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ArgMax", "TopK"}
COPYING = {
    "Concat",
    "Slice",
    "Split",
    "Transpose",
    "Pad",
    "Gather",
    "Expand",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
}
KIND_OF = (
    [(name, "pool") for name in ("MaxPool", "AveragePool", "LpPool")]
    + [(name, "reduce") for name in REDUCING]
    + [(name, "softmax") for name in NORMALIZING]
    + [(name, "resize") for name in ("Resize", "Upsample")]
    + [(name, "copy") for name in COPYING]
)
KINDS = dict(KIND_OF)


def layers_from_onnx(path: Path, *, batch: int = 1) -> LayerGraph:
    """Read a model and fuse it.

    Raises:
        ModelError: the file is no ONNX model, or a shape in it is not fixed by the batch size.
    """
    onnx = require("onnx", "host")
    try:
        model = onnx.load(str(path))
    except Exception as error:
        raise ModelError(f"{path.name} cannot be read as ONNX: {error}; export it again") from error
    return fuse(model, path.stem, batch=batch)


def fuse(model: Any, name: str, *, batch: int = 1) -> LayerGraph:
    """The fused layers of an ONNX model, with or without Q/DQ.

    Args:
        model: weights may be initializers or inputs that only weights positions read.
        batch: replaces every dimension of an input that is not a number.

    Raises:
        ModelError: a shape cannot be inferred.
    """
    graph = FusionGraph.of(model, batch)
    builder = _Fusion(graph)
    return LayerGraph(name, batch, tuple(builder.run()))


class _Fusion:
    """Walks the graph once and emits layers."""

    def __init__(self, graph: FusionGraph) -> None:
        self.graph = graph
        self.taken: set[int] = set()
        self.made: dict[str, int] = {}
        self.layers: list[Layer] = []

    def run(self) -> list[Layer]:
        for index, node in enumerate(self.graph.nodes):
            if index in self.taken or node.op_type in FREE | QUANTIZERS or self._is_constant(node):
                continue
            chain, activation, residual = self._grow(index)
            self._emit(chain, activation, residual)
        return self.layers

    def _is_constant(self, node: Any) -> bool:
        return all(name in self.graph.constants for name in node.output)

    def _grow(self, index: int) -> tuple[list[int], str, bool]:
        """The nodes fused behind ``index``, its activation, and whether an addition is among them."""
        chain, activation, residual = [index], "none", False
        first = self.graph.nodes[index].op_type
        if first not in MATRIX | POINTWISE:
            return chain, activation, residual
        while True:
            behind = self._behind(chain)
            if not behind:
                return chain, activation, residual
            operators = [self.graph.nodes[i].op_type for i in behind]
            if first in MATRIX and activation != "none" and operators != ["Add"]:
                return chain, activation, residual
            if operators == ["Add"] and first in MATRIX:
                if residual or activation != "none":
                    return chain, activation, residual
                residual = self._adds_activation(behind[0])
            elif operators[0] in SIMPLE:
                activation = "relu"
            elif any(name in SMOOTH for name in operators):
                activation = "smooth"
            chain += behind

    def _behind(self, chain: list[int]) -> list[int]:
        """What can join a chain: its only reader if that is pointwise, or a gate (x and f(x) multiplied)."""
        last = self.graph.nodes[chain[-1]]
        tensor = self.graph.of_root(last.output[0])
        if tensor in self.graph.outputs and tensor == last.output[0]:
            return []
        readers = self.graph.readers.get(tensor, [])
        found: list[int] = []
        if len(readers) == 1:
            found = readers
        elif len(readers) == 2:
            found = self._gate(readers)
        if not found or any(self.graph.nodes[i].op_type not in POINTWISE or i in self.taken for i in found):
            return []
        return found if all(self._ready(i, {*chain, *found}) for i in found) else []

    def _gate(self, readers: list[int]) -> list[int]:
        first, second = (self.graph.nodes[i] for i in readers)
        gated = self.graph.of_root(first.output[0])
        is_gate = first.op_type in SMOOTH and second.op_type == "Mul"
        return readers if is_gate and gated in {self.graph.of_root(name) for name in second.input} else []

    def _ready(self, index: int, own: set[int]) -> bool:
        """Whether everything else that a node reads exists already and no shape is blown up by it."""
        node = self.graph.nodes[index]
        inside = {self.graph.of_root(name) for i in own for name in self.graph.nodes[i].output}
        others = [self.graph.of_root(name) for name in node.input if name and name not in self.graph.constants]
        return all(name in inside or name in self.made or self._is_input(name) for name in others)

    def _is_input(self, name: str) -> bool:
        return name not in self.graph.written

    def _adds_activation(self, index: int) -> bool:
        names = [name for name in self.graph.nodes[index].input if name not in self.graph.constants]
        return len(names) == 2

    def _emit(self, chain: list[int], activation: str, residual: bool) -> None:
        self.taken.update(chain)
        nodes = [self.graph.nodes[i] for i in chain]
        head, last = nodes[0], nodes[-1]
        inside = {self.graph.of_root(name) for node in nodes for name in node.output}
        weights = self._weights(head)
        reads = self._reads(nodes, inside | set(weights))
        outputs = [self.graph.of_root(name) for name in last.output if name]
        written = tuple(
            Tensor(self.graph.elements(name), name in self.graph.coded, len(self.layers))
            for name in outputs
            if name in self.graph.readers or name in self.graph.outputs
        )
        layer = Layer(
            name=head.name or outputs[0],
            kind=self._kind(head),
            operators=tuple(node.op_type for node in nodes),
            inputs=reads,
            outputs=written,
            quantized=self._quantized(head, reads),
            activation=activation,
            residual=residual,
            **self._matrix(head, weights),
        )
        for name in inside:
            self.made[name] = len(self.layers)
        self.layers.append(layer)

    def _reads(self, nodes: Sequence[Any], own: set[str]) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        for name in (name for node in nodes for name in node.input):
            source = self.graph.of_root(name)
            if not name or name in self.graph.constants or source in own:
                continue
            producer = self.made.get(source, NETWORK_INPUT)
            found[source] = Tensor(self.graph.elements(source), name in self.graph.decoded, producer)
        return tuple(found.values())

    def _weights(self, node: Any) -> tuple[str, ...]:
        if node.op_type in ("Conv", "ConvTranspose"):
            return tuple(name for name in node.input[1:] if name)
        if node.op_type in ("Gemm", "MatMul"):
            return tuple(name for name in node.input[1:] if name and self._weight_like(name))
        return ()

    def _weight_like(self, name: str) -> bool:
        return name in self.graph.constants or (self._is_input(name) and name.endswith((".weight", ".bias")))

    def _quantized(self, node: Any, reads: Iterable[Tensor]) -> bool:
        if node.op_type in MATRIX:
            return node.input[0] in self.graph.decoded and node.input[1] in self.graph.coded_weights
        codes = [tensor.codes for tensor in reads]
        return bool(codes) and all(codes)

    def _kind(self, node: Any) -> str:
        if node.op_type in ("Conv", "ConvTranspose"):
            if node.op_type == "ConvTranspose":
                return "deconv"
            shape = self.graph.shapes[node.input[1]]
            return "depthwise" if shape[1] == 1 and _attribute(node, "group", 1) > 1 else "conv"
        if node.op_type in MATRIX:
            return "gemm"
        return "elementwise" if node.op_type in POINTWISE else KINDS.get(node.op_type, "other")

    def _matrix(self, node: Any, weights: tuple[str, ...]) -> dict[str, Any]:
        if node.op_type not in MATRIX:
            return {}
        sizes = [prod(self.graph.shapes[name]) for name in weights]
        output = self.graph.shapes[node.output[0]]
        if node.op_type in ("Conv", "ConvTranspose"):
            return self._convolution(node, sum(sizes), output)
        source = self.graph.shapes[node.input[0]]
        inner = source[0] if node.op_type == "Gemm" and _attribute(node, "transA", 0) else source[-1]
        rows = prod(output) // output[-1]
        return {
            "macs": prod(output) * inner,
            "weights": sum(sizes),
            "in_channels": inner,
            "out_channels": output[-1],
            "positions": rows,
        }

    def _convolution(self, node: Any, weights: int, output: tuple[int, ...]) -> dict[str, Any]:
        groups = _attribute(node, "group", 1)
        shape = self.graph.shapes[node.input[1]]
        transposed = node.op_type == "ConvTranspose"
        source = self.graph.shapes[node.input[0]]
        positions = prod(source if transposed else output) // (source[1] if transposed else output[1])
        kernel = shape[2:4] if len(shape) > 3 else (shape[2], 1)
        return {
            "macs": positions * prod(shape),
            "weights": weights,
            "in_channels": source[1],
            "out_channels": output[1],
            "groups": groups,
            "kernel": tuple(kernel),
            "positions": prod(output) // output[1],
        }


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)
