"""Layers as columns of numbers, for one precision of the engine: what the cost model computes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from targets.errors import PredictionError
from targets.jetson.layers import MATRIX_KINDS, NETWORK_INPUT, Layer, LayerGraph

Array = NDArray[np.float64]
PRECISIONS = ("fp32", "fp16", "int8")
BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
MATRIX, DEPTHWISE, COPY, OTHER = 0, 1, 2, 3


@dataclass(frozen=True)
class Table:
    """One column per quantity, one row per layer.

    Attributes:
        kind: matrix product, depthwise convolution, copy, or other.
        arithmetic: 0 for FP32, 1 for FP16, 2 for INT8.
        rows, columns, depth: of the matrix product that the layer is, per group (M, N and the channels of K).
        taps: positions of the kernel; K is ``depth * taps``.
        groups: how many such products.
        winograd: 1 for 3x3 convolutions of stride 1 without groups.
        product: 1 for matrix products that are no convolutions.
        weight_bytes, activation_bytes: read and written.
        largest: bytes of the largest tensor, for caches.
        smooth: 1 where a smooth activation follows a matrix product.
        written: bytes of the output.
        reformat: bytes of inputs that arrive in another precision.
        window: 1 for pooling and resizing.
        repeats: how often a row counts.
    """

    kind: Array
    arithmetic: Array
    rows: Array
    columns: Array
    depth: Array
    taps: Array
    groups: Array
    winograd: Array
    product: Array
    weight_bytes: Array
    activation_bytes: Array
    largest: Array
    smooth: Array
    written: Array
    reformat: Array
    window: Array
    repeats: Array

    def __len__(self) -> int:
        return int(self.kind.size)

    def unique(self) -> Table:
        """The same network with equal layers counted in ``repeats``."""
        names = [field.name for field in fields(self) if field.name != "repeats"]
        stacked = np.stack([getattr(self, name) for name in names], axis=1)
        rows, inverse = np.unique(stacked, axis=0, return_inverse=True)
        repeats = np.bincount(inverse.ravel(), self.repeats, len(rows)).astype(np.float64)
        return Table(**{name: rows[:, i] for i, name in enumerate(names)}, repeats=repeats)


def layer_precisions(graph: LayerGraph, precision: str) -> list[str]:
    """What each layer computes in, when the engine is built with ``precision``.

    A graph with Q/DQ says itself which layers are INT8; in one without, every layer is taken to be.

    Raises:
        PredictionError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise PredictionError(f"precision {precision} is none of {', '.join(PRECISIONS)}")
    if precision != "int8":
        return [precision] * len(graph.layers)
    if not graph.quantized:
        return ["int8"] * len(graph.layers)
    return ["int8" if layer.quantized else "fp16" for layer in graph.layers]


def tabulate(graph: LayerGraph, precision: str) -> Table:
    """Columns of a graph for one precision of the engine.

    Raises:
        PredictionError: the precision is unknown, or the graph is empty.
    """
    if not graph.layers:
        raise PredictionError(f"{graph.name} has no layers")
    chosen = layer_precisions(graph, precision)
    rows = [_row(layer, own, chosen) for layer, own in zip(graph.layers, chosen, strict=True)]
    columns = np.asarray(rows, dtype=np.float64).T
    return Table(*columns)


def concatenate(tables: Sequence[Table]) -> Table:
    """Tables behind each other."""
    names = [field.name for field in fields(Table)]
    return Table(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def _row(layer: Layer, own: str, chosen: list[str]) -> tuple[float, ...]:
    size = BYTES[own]
    reads = [tensor.elements * (1 if tensor.codes else size) for tensor in layer.inputs]
    written = sum(tensor.elements * (1 if tensor.codes else size) for tensor in layer.outputs)
    reformat = sum(
        tensor.elements * (size + BYTES[_made_in(tensor.producer, chosen)])
        for tensor in layer.inputs
        if not tensor.codes and _made_in(tensor.producer, chosen) != own
    )
    matrix = layer.kind in MATRIX_KINDS
    kernel = layer.kernel[0] * layer.kernel[1]
    plain = layer.kind == "conv" and layer.kernel == (3, 3) and layer.groups == 1
    strided = sum(tensor.elements for tensor in layer.inputs[:1]) > 2 * layer.positions * max(layer.in_channels, 1)
    return (
        _code(layer.kind),
        PRECISIONS.index(own),
        layer.positions,
        layer.out_channels / layer.groups,
        layer.in_channels / layer.groups,
        kernel,
        layer.groups if matrix else 0,
        float(plain and not strided),
        float(layer.kind == "gemm"),
        layer.weights * size,
        sum(reads) + written,
        max([*reads, written, 1]),
        float(matrix and layer.activation == "smooth"),
        written,
        reformat,
        float(layer.kind in ("pool", "resize")),
        1.0,
    )


def _made_in(producer: int, chosen: list[str]) -> str:
    """Precision of a tensor as it arrives; the network's input is FP32."""
    return "fp32" if producer == NETWORK_INPUT else chosen[producer]


def _code(kind: str) -> int:
    if kind == "depthwise":
        return DEPTHWISE
    if kind in MATRIX_KINDS:
        return MATRIX
    return COPY if kind == "copy" else OTHER
