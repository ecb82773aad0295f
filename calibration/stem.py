"""The first layer of the cpu form on 2x2 blocks of pixels: the same sums, far fewer copies.

A 7x7 convolution of stride 2 on three channels spends two thirds of its time in ONNX Runtime on gathering its
input, one short copy per output pixel and kernel row. On the picture rearranged by SpaceToDepth (four times the
channels, half the sides) it is a 4x4 convolution of stride 1 whose weights are the same codes, with zeros where
the blocks are wider than the kernel: every code that leaves is unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from calibration.graph import Graph, attribute, integer
from calibration.placement import Plan
from calibration.prepare import Prepared

BLOCK = 2
LEAST_KERNEL = 5  # with 3 rows the rearrangement costs what it saves
MOST_CHANNELS = 4


@dataclass(frozen=True)
class BlockedStem:
    """One convolution that is run on blocks.

    Attributes:
        node: its name; tensor: what it reads, and nobody else does.
        shift: rows and columns of zeros in front of the kernel.
        kernel: its sides in blocks; pads: in blocks, as the operator's attribute.
    """

    node: str
    tensor: str
    shift: tuple[int, int]
    kernel: tuple[int, int]
    pads: tuple[int, int, int, int]

    def weight(self, codes: np.ndarray) -> np.ndarray:
        """Codes (O, C, k, k) as (O, 4 C, blocks, blocks), channels in SpaceToDepth's order."""
        out, into, height, width = codes.shape
        rows, columns = self.kernel
        wide = np.zeros((out, into, BLOCK * rows, BLOCK * columns), dtype=codes.dtype)
        wide[:, :, self.shift[0] : self.shift[0] + height, self.shift[1] : self.shift[1] + width] = codes
        blocks = wide.reshape(out, into, rows, BLOCK, columns, BLOCK).transpose(0, 3, 5, 1, 2, 4)
        return np.ascontiguousarray(blocks.reshape(out, BLOCK * BLOCK * into, rows, columns))

    def attributes(self) -> dict[str, list[int]]:
        """The convolution's attributes."""
        return {"kernel_shape": [*self.kernel], "strides": [1, 1], "pads": [*self.pads]}


def blocked_stem(prepared: Prepared, plan: Plan) -> BlockedStem | None:
    """The convolution of the plan that gains from it, if there is one."""
    graph = prepared.graph
    points = {point.tensor: point for point in plan.points}
    for layer in plan.int8_layers:
        point = points.get(layer.input)
        alone = point is not None and point.uses == ((layer.node, 0),) and point.group == layer.input
        if layer.operator == "Conv" and alone and len(graph.consumers[layer.input]) == 1:
            found = _blocked(graph, graph.nodes[layer.node], layer.input)
            if found is not None:
                return found
    return None


def _blocked(graph: Graph, node: onnx.NodeProto, tensor: str) -> BlockedStem | None:
    weight, shape = graph.constant(node, 1), graph.shapes.get(tensor, ())
    if weight is None or weight.ndim != 4 or len(shape) != 4 or integer(node, "group", 1) != 1:
        return None
    plain = attribute(node, "auto_pad", b"NOTSET") == b"NOTSET" and attribute(node, "dilations", [1, 1]) == [1, 1]
    pads, strides = attribute(node, "pads", [0] * 4), attribute(node, "strides", [1, 1])
    if not plain or strides != [BLOCK, BLOCK] or not isinstance(pads, list) or weight.shape[1] > MOST_CHANNELS:
        return None
    sides = [
        _side(size, weight.shape[2 + axis], pads[axis], pads[2 + axis]) for axis, size in enumerate(shape[2:])
    ]
    if sides[0] is None or sides[1] is None:
        return None
    (top, rows, before, after), (left, columns, first, last) = sides[0], sides[1]
    return BlockedStem(node.name, tensor, (top, left), (rows, columns), (before, first, after, last))


def _side(size: int | None, kernel: int, before: int, after: int) -> tuple[int, int, int, int] | None:
    """Shift, kernel in blocks, and blocks of padding on both ends of one side; None where blocks do not fit."""
    if size is None or size % BLOCK or kernel < LEAST_KERNEL:
        return None
    out = (size + before + after - kernel) // BLOCK + 1
    begin = -(-before // BLOCK)
    shift = BLOCK * begin - before
    blocks = -(-(kernel + shift) // BLOCK)
    end = out - size // BLOCK - begin + blocks - 1
    return (shift, blocks, begin, end) if end >= 0 else None
