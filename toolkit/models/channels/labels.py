"""Labels of channels, and the sets they are coupled into."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Indices = NDArray[np.int64]


# How an element depends on the input and on its position. The least of what goes in comes out.
VARYING, RAGGED, EVEN = 0, 1, 2  # varies with the input; constant, but padding shows; the same constant everywhere


@dataclass
class Labels:
    """Numbers channels, remembers which are coupled and which must stay.

    Label 0 stands for "no channel": an element that no removal ever touches.
    """

    count: int = 1
    frozen: dict[int, str] = field(default_factory=dict)
    _pairs: list[Indices] = field(default_factory=list)

    def new(self, number: int) -> Tensor:
        """``number`` fresh labels, int64."""
        self.count += number
        return torch.arange(self.count - number, self.count)

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Couple two broadcastable tensors of labels element by element; zeros are skipped."""
        first, second = torch.broadcast_tensors(first, second)
        for dim in range(first.dim()):
            if first.stride(dim) == 0 and second.stride(dim) == 0 and first.shape[dim] > 1:
                first, second = first.narrow(dim, 0, 1), second.narrow(dim, 0, 1)
        pairs = torch.stack((first.reshape(-1), second.reshape(-1)), dim=1).numpy()
        pairs = pairs[(pairs > 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])]
        if len(pairs):
            keys = np.unique(pairs[:, 0] * self.count + pairs[:, 1])
            self._pairs.append(np.stack((keys // self.count, keys % self.count), axis=1))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Forbid the removal of these channels and of all that is coupled to them."""
        for label in torch.unique(collapse(labels)).tolist():
            if label:
                self.frozen.setdefault(label, reason)

    def solve(self) -> Indices:
        """Root of every label: the smallest label of its set. Shape ``(count,)``."""
        pairs = np.concatenate(self._pairs) if self._pairs else np.zeros((0, 2), dtype=np.int64)
        graph = coo_matrix(
            (np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(self.count, self.count)
        )
        number, component = connected_components(graph, directed=False)
        roots = np.full(number, self.count, dtype=np.int64)
        np.minimum.at(roots, component, np.arange(self.count))
        return roots[component]


def collapse(labels: Tensor) -> Tensor:
    """The same labels without the repetitions of expanded dimensions."""
    for dim in range(labels.dim()):
        if labels.stride(dim) == 0 and labels.shape[dim] > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def varying_dims(labels: Tensor) -> list[int]:
    """Dimensions along which the labels are not all equal."""
    small = collapse(labels)
    return [d for d in range(small.dim()) if small.shape[d] > 1 and bool((small != small.narrow(d, 0, 1)).any())]


def along(labels: Tensor, dim: int) -> Tensor:
    """Labels along one dimension, taken at index 0 of the others. Shape ``(labels.shape[dim],)``."""
    index: list[int | slice] = [0] * labels.dim()
    index[dim] = slice(None)
    return labels[tuple(index)]


def level(value: int, shape: torch.Size) -> Tensor:
    """One level for a whole tensor, without memory."""
    return torch.tensor(value, dtype=torch.uint8).expand(shape)


def lowest(levels: Tensor, dim: int) -> Tensor:
    """The lowest level at each index of one dimension. Shape ``(levels.shape[dim],)``."""
    small = collapse(levels)
    others = [d for d in range(small.dim()) if d != dim]
    return (small.amin(dim=others) if others else small).expand(levels.shape[dim])


def spread(vector: Tensor, shape: torch.Size, dim: int) -> Tensor:
    """A vector along one dimension, expanded to ``shape`` without a copy."""
    view = [1] * len(shape)
    view[dim] = len(vector)
    return vector.view(view).expand(shape)
