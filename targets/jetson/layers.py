"""``layers.json`` version 1: a network as TensorRT will run it, one entry per fused layer.

The host writes it from ONNX (``toolkit.planning.layers``); the predictor reads it and needs no onnx. Numbers are
counts, not bytes, because the engine's precision is chosen later. Shapes are NCHW with the batch size included.

A file holds ``{"version": 1, "name", "batch", "layers": [...]}``; a layer has the fields of :class:`Layer`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from targets.errors import PredictionError

VERSION = 1
KINDS = (
    "conv",
    "depthwise",
    "deconv",
    "gemm",
    "elementwise",
    "pool",
    "reduce",
    "softmax",
    "resize",
    "copy",
    "other",
)
MATRIX_KINDS = ("conv", "depthwise", "deconv", "gemm")
NETWORK_INPUT = -1


@dataclass(frozen=True)
class Tensor:
    """An activation that a layer reads or writes.

    Attributes:
        elements: numbers in it.
        codes: whether it is stored as 8-bit codes, whatever the engine's float precision is.
        producer: index of the layer that wrote it; -1 for an input of the network.
    """

    elements: int
    codes: bool = False
    producer: int = NETWORK_INPUT


@dataclass(frozen=True)
class Layer:
    """One fused layer.

    Attributes:
        name: of the first node in it.
        kind: one of :data:`KINDS`.
        operators: the ONNX operators that are fused into it, in order.
        quantized: whether its arithmetic is INT8 (Q/DQ on its input and weights).
        macs: multiply-accumulates; 0 for layers without weights.
        weights: numbers in weights and bias.
        in_channels, out_channels, groups, kernel: of the convolution; a matrix product has kernel (1, 1).
        positions: output positions (batch x height x width), or rows of a matrix product.
        activation: ``none``, ``relu`` (also clip, leaky) or ``smooth`` (sigmoid, SiLU, hard-swish ...).
        residual: whether an addition is fused.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    quantized: bool = False
    macs: int = 0
    weights: int = 0
    in_channels: int = 0
    out_channels: int = 0
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    positions: int = 0
    activation: str = "none"
    residual: bool = False


@dataclass(frozen=True)
class LayerGraph:
    """A fused network, in the order it runs in."""

    name: str
    batch: int
    layers: tuple[Layer, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Numbers in all weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def quantized(self) -> bool:
        """Whether any layer computes in INT8."""
        return any(layer.quantized for layer in self.layers)

    def to_json(self) -> str:
        """The content of ``layers.json``."""
        head = {"version": VERSION, "name": self.name, "batch": self.batch}
        rows = ",\n".join("  " + json.dumps(asdict(layer)) for layer in self.layers)
        return json.dumps(head, indent=1)[:-2] + ',\n "layers": [\n' + rows + "\n ]\n}\n"

    @classmethod
    def from_json(cls, text: str) -> LayerGraph:
        """Read ``layers.json``.

        Raises:
            PredictionError: it is not one, or of another version.
        """
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                raise PredictionError(
                    f"layers.json has version {content['version']}; this program reads {VERSION}"
                )
            layers = tuple(_layer(row) for row in content["layers"])
            return cls(str(content["name"]), int(content["batch"]), layers)
        except (ValueError, KeyError, TypeError) as error:
            raise PredictionError(
                f"this is not a layers.json: {error}; write it from the ONNX file again"
            ) from error


def read_layers(path: Path) -> LayerGraph:
    """Read a ``layers.json`` file."""
    return LayerGraph.from_json(path.read_text(encoding="utf-8"))


def _layer(row: dict[str, Any]) -> Layer:
    known = {field.name for field in fields(Layer)}
    unknown = set(row) - known
    if unknown or row["kind"] not in KINDS:
        raise ValueError(f"layer {row.get('name')} has {', '.join(sorted(unknown)) or 'kind ' + str(row['kind'])}")
    lists = {
        "operators": tuple(row["operators"]),
        "kernel": tuple(row["kernel"]),
        "inputs": tuple(Tensor(**item) for item in row["inputs"]),
        "outputs": tuple(Tensor(**item) for item in row["outputs"]),
    }
    return Layer(**{**row, **lists})
