"""Layers of a built engine, the same for every library and version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from toolkit.errors import EngineError

Source = Literal["tensorrt10", "tensorrt11", "onnxruntime"]
_HEAVY = ("conv", "correlation", "gemm", "matrixmultiply", "matmul", "fullyconnected")
_QUANTIZE = re.compile(r"(de)?quantize(linear)?(_\d+)?$", re.IGNORECASE)
# Myelin names a generated kernel after the operators in it, four letters each: __myl_CastMulTran_myl0_4.
_FRAGMENT = re.compile(r"[A-Z][a-z]*")
_MOVES = {"Move", "Tran", "Repl", "Conc", "Slic", "Resh", "Copy"}


class LayerInfoError(EngineError):
    """The layer information of an engine is missing or cannot be read."""

    code = "PE606"


@dataclass(frozen=True)
class EngineTensor:
    """A tensor between layers.

    Attributes:
        shape: -1 where it is dynamic.
        dtype: numpy's name, ``float8``, ``bfloat16``, or "" when the library does not say.
        layout: ``linear``, ``nhwc``, ``chw4``, ``chw32``..., or "" when unknown.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    layout: str = ""

    @property
    def channels(self) -> int | None:
        """Second side of a picture-like tensor."""
        return self.shape[1] if len(self.shape) == 4 else None


@dataclass(frozen=True)
class EngineLayer:
    """One layer: what a kernel or a group of kernels computes.

    Attributes:
        kind: the library's word: ``CaskConvolution``, ``Reformat``, ``kgen``, ``QLinearConv``...
        nodes: the ONNX nodes it computes, as far as the library says.
        tactic: the kernel's name, or its number.
        weights: type of the weights, "" without weights.
        groups: of a convolution.
        origin: why the library added it (``REFORMAT``, ``QDQ``), "" for layers of the network.
    """

    name: str
    kind: str
    inputs: tuple[EngineTensor, ...] = ()
    outputs: tuple[EngineTensor, ...] = ()
    nodes: tuple[str, ...] = ()
    tactic: str = ""
    weights: str = ""
    groups: int = 1
    origin: str = ""

    @property
    def heavy(self) -> bool:
        """Whether it multiplies matrices: what tensor cores are for."""
        kind = self.kind.lower()
        return kind != "reformat" and any(word in kind for word in _HEAVY)

    @property
    def computed(self) -> tuple[str, ...]:
        """Its nodes without QuantizeLinear and DequantizeLinear."""
        return tuple(node for node in self.nodes if not is_quantizer(node))

    @property
    def modules(self) -> tuple[str, ...]:
        """PyTorch modules behind its nodes (``backbone.layer1.0.conv1`` of ``backbone.layer1.0.conv1/Conv``)."""
        found = (module_of(node) for node in self.computed)
        return tuple(dict.fromkeys(module for module in found if module))

    @property
    def title(self) -> str:
        """For people: the modules, else the nodes, else the library's name."""
        return " + ".join(self.modules or self.computed or self.nodes) or self.name

    @property
    def precision(self) -> str:
        """What it computes in: of the weights where there are some, else of the first input; "" if unknown."""
        first = self.inputs[0].dtype if self.inputs else ""
        if self.weights and first and "int8" in (self.weights, first) and self.weights != first:
            return first if first != "int8" else self.weights  # weights only: the arithmetic is the activations'
        return self.weights or first

    @property
    def is_reformat(self) -> bool:
        """Whether it only moves data: other layout or type, no arithmetic."""
        if self.kind == "Reformat":
            return self.origin != "QDQ"
        if self.kind == "kgen":
            parts = _FRAGMENT.findall(self.name.removeprefix("__myl_").partition("_myl")[0])
            return bool(parts) and set(parts) <= _MOVES
        return self.kind in ("ReorderInput", "ReorderOutput", "Transpose", "Cast", "NoOp", "copy")

    @property
    def is_quantizer(self) -> bool:
        """Whether it only quantizes or dequantizes, so that the pair was not fused into a layer."""
        if self.kind in ("QuantizeLinear", "DequantizeLinear") or self.origin == "QDQ":
            return True
        return bool(self.nodes) and all(is_quantizer(node) for node in self.nodes) and not self.heavy


@dataclass(frozen=True)
class EngineGraph:
    """All layers in the order they run.

    Attributes:
        inputs, outputs: names of the engine's tensors; empty when the source does not say which they are.
        source: which schema it was read from.
        detailed: False when the engine was built with names only; then there is little to inspect.
        raw: the information as the library gave it.
    """

    layers: tuple[EngineLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: Source
    detailed: bool = True
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def producers(self) -> dict[str, int]:
        """Index of the layer that last writes each tensor."""
        return {tensor.name: index for index, layer in enumerate(self.layers) for tensor in layer.outputs}

    @cached_property
    def edges(self) -> tuple[tuple[int, int, EngineTensor], ...]:
        """(writer, reader, tensor) for every tensor between two layers, the latest writer before each reader."""
        writers: dict[str, int] = {}
        found = []
        for index, layer in enumerate(self.layers):
            found += [(writers[one.name], index, one) for one in layer.inputs if one.name in writers]
            writers.update({one.name: index for one in layer.outputs})
        return tuple(found)

    def at_boundary(self, index: int) -> bool:
        """Whether a layer prepares the input or the output: no matrix is multiplied before, or none after it."""
        ends = {*self.inputs, *self.outputs}
        layer = self.layers[index]
        if any(tensor.name in ends for tensor in (*layer.inputs, *layer.outputs)):
            return True
        heavy = [number for number, one in enumerate(self.layers) if one.heavy]
        return not heavy or index < heavy[0] or index > heavy[-1]


def is_quantizer(node: str) -> bool:
    """Whether a node's name is that of a QuantizeLinear or DequantizeLinear."""
    return _QUANTIZE.search(node) is not None


def module_of(node: str) -> str:
    """The module that an exported node's name begins with; "" when it has none."""
    return node.rpartition("/")[0].strip("/").replace("/", ".")
