"""``layers.json`` from ONNX: the network after TensorRT's fusions, for the latency predictor.

Rules (TensorRT documentation, "Types of fusions"; for Q/DQ, its chapter on explicit quantization): a convolution
or matrix product takes the BatchNorm, addition and activation behind it; pointwise operators behind each other are
one kernel, and so is what they spread out to and gather again (SiLU, GELU), and with the means that they divide by
a normalization (LayerNorm, RMSNorm, written out or not); Q/DQ pairs vanish into the precision of their readers;
reshapes, and in attention the shuffles of the heads, cost nothing. The two products and the softmax of attention
are three layers: whether one kernel does all three depends on the release and the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from targets.jetson.layers import NETWORK_INPUT, Layer, LayerGraph, Tensor
from toolkit.errors import ModelError
from toolkit.optional import require
from toolkit.planning.onnx_graph import FusionGraph

SIMPLE = {"Relu", "Clip", "LeakyRelu", "PRelu"}
SMOOTH = {"Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Elu", "Softplus", "Erf", "Silu"}
BINARY = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"}
UNARY = {"Sqrt", "Neg", "Abs", "Exp", "Log", "Reciprocal", "Floor", "Round", "BatchNormalization"}
POINTWISE = SIMPLE | SMOOTH | BINARY | UNARY
MATRIX = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
NORMALIZING = {"Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "LRN"}
AVERAGING = {"ReduceMean", "ReduceSum"}
LONGEST = 12
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
            if index in self.taken or index in self.graph.free or self._is_constant(node):
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
        if first not in MATRIX | POINTWISE and not self._averages(index):
            return chain, activation, residual
        while behind := self._behind(chain):
            operators = [self.graph.nodes[i].op_type for i in behind]
            if first in MATRIX and activation != "none" and not self._scales(behind, activation):
                break
            if operators == ["Add"] and first in MATRIX and activation == "none":
                if residual:
                    break
                residual = self._adds_activation(behind[0])
            elif operators[0] in SIMPLE:
                activation = "relu"
            elif len(operators) > 1 or operators[0] in SMOOTH:
                activation = "smooth"
            chain += behind
        return chain, activation, residual

    def _scales(self, behind: list[int], activation: str) -> bool:
        """Whether it is the factor that ends a smooth activation written out, such as the half of GELU."""
        node = self.graph.nodes[behind[0]]
        constant = any(name in self.graph.constants for name in node.input)
        return activation == "smooth" and len(behind) == 1 and node.op_type in ("Mul", "Div") and constant

    def _behind(self, chain: list[int]) -> list[int]:
        """What joins a chain: the fewest pointwise nodes that take all readers of its end and end in one."""
        last = self.graph.nodes[chain[-1]]
        tensor = self.graph.of_root(last.output[0])
        if tensor in self.graph.outputs and tensor == last.output[0]:
            return []
        wanted = set(self.graph.readers.get(tensor, []))
        means = self.graph.nodes[chain[0]].op_type not in MATRIX
        found: list[int] = []
        candidates = set(wanted)
        while wanted and len(found) < LONGEST:
            joins = (
                i for i in sorted(candidates) if self._joins(i, means) and self._ready(i, {*chain, *found, i})
            )
            index = next(joins, None)
            if index is None:
                return []
            found.append(index)
            candidates = (candidates | self._read_by(index)) - set(found)
            if wanted <= set(found) and self._ends_in_one(found):
                return found
        return []

    def _joins(self, index: int, means: bool) -> bool:
        pointwise = self.graph.nodes[index].op_type in POINTWISE
        return index not in self.taken and (pointwise or (means and self._averages(index)))

    def _read_by(self, index: int) -> set[int]:
        names = self.graph.nodes[index].output
        return {reader for name in names for reader in self.graph.readers.get(self.graph.of_root(name), [])}

    def _ends_in_one(self, found: list[int]) -> bool:
        """Whether nothing but the last node's tensor is read from outside."""
        inside = set(found)
        return not any(
            self._read_by(i) - inside or self.graph.of_root(self.graph.nodes[i].output[0]) in self.graph.outputs
            for i in found[:-1]
        )

    def _averages(self, index: int) -> bool:
        """Whether a node replaces the last axis by one number that can be spread over it again."""
        node = self.graph.nodes[index]
        if node.op_type not in AVERAGING or not _attribute(node, "keepdims", 1):
            return False
        before, after = self.graph.shapes.get(node.input[0], ()), self.graph.shapes.get(node.output[0], ())
        return bool(before) and before[-1] > 1 and (*before[:-1], 1) == after

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
            kind=self._kind(nodes),
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
            whole, part = self.graph.elements(source), self.graph.elements(name)
            known = found[source].elements if source in found and part < whole else 0
            producer = self.made.get(source, NETWORK_INPUT)
            found[source] = Tensor(min(whole, known + part), name in self.graph.decoded, producer)
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

    def _kind(self, nodes: Sequence[Any]) -> str:
        node = nodes[0]
        if node.op_type in ("Conv", "ConvTranspose"):
            if node.op_type == "ConvTranspose":
                return "deconv"
            shape = self.graph.shapes[node.input[1]]
            return "depthwise" if shape[1] == 1 and _attribute(node, "group", 1) > 1 else "conv"
        if node.op_type in MATRIX:
            return "gemm"
        if len(nodes) > 1 and any(other.op_type in AVERAGING for other in nodes):
            return "softmax"
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
        heads = prod(output[:-2]) if self.graph.multiplies_activations(node) else 1
        return {
            "macs": prod(output) * inner,
            "weights": sum(sizes),
            "in_channels": inner * heads,
            "out_channels": output[-1] * heads,
            "groups": heads,
            "positions": prod(output) // output[-1] // heads,
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
