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
MANY = 1 << 16  # pairs, beyond which repetitions are dropped at once
VARYING, RAGGED, EVEN = 0, 1, 2  # varies with the input; constant, but padding shows; the same constant everywhere


@dataclass
class Labels:
    """Numbers channels, remembers which are coupled and which must stay.

    Label 0 stands for "no channel": an element that no removal ever touches.

    Attributes:
        count: labels so far.
        frozen: labels that must stay, with the reason.
        stirred: outputs of operators that make something else out of zero, with their labels.
    """

    count: int = 1
    frozen: dict[int, str] = field(default_factory=dict)
    stirred: list[tuple[int, Indices]] = field(default_factory=list)
    _pairs: list[Indices] = field(default_factory=list)

    def new(self, number: int) -> Tensor:
        """``number`` fresh labels, int64."""
        self.count += number
        return torch.arange(self.count - number, self.count)

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Couple two broadcastable tensors of labels element by element; zeros are skipped."""
        if first is second:
            return
        if first.dim() != 1 or first.shape != second.shape:
            first, second = torch.broadcast_tensors(first, second)
            steps = zip(first.stride(), second.stride(), strict=True)
            index = tuple(0 if step == (0, 0) else slice(None) for step in steps)
            first, second = first[index].reshape(-1), second[index].reshape(-1)
        pairs = np.stack((first.numpy(), second.numpy()), axis=1)
        if len(pairs) > MANY:
            keys = np.unique(pairs[:, 0] * self.count + pairs[:, 1])
            pairs = np.stack((keys // self.count, keys % self.count), axis=1)
        self._pairs.append(pairs)

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Forbid the removal of these channels and of all that is coupled to them."""
        for label in np.unique(collapse(labels).numpy()).tolist():
            if label:
                self.frozen.setdefault(label, reason)

    def stir(self, labels: Tensor, output: Tensor) -> None:
        """Note that a channel of zeros need not be one in this operator's output."""
        self.stirred.append((id(output), np.unique(collapse(labels).numpy())))

    def solve(self) -> Indices:
        """Root of every label: the smallest label of its set. Shape ``(count,)``."""
        pairs = np.concatenate(self._pairs) if self._pairs else np.zeros((0, 2), dtype=np.int64)
        pairs = pairs[(pairs > 0).all(axis=1)]
        graph = coo_matrix(
            (np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(self.count, self.count)
        )
        number, component = connected_components(graph, directed=False)
        roots = np.full(number, self.count, dtype=np.int64)
        np.minimum.at(roots, component, np.arange(self.count))
        return roots[component]


@dataclass
class Numbers(Labels):
    """Labels of a network whose coupling is known: they are counted and nothing else."""

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Nothing: it is known."""

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Nothing: it is known."""


def collapse(labels: Tensor) -> Tensor:
    """The same labels without the repetitions of expanded dimensions."""
    if 0 not in labels.stride():
        return labels
    return labels[tuple(slice(0, 1) if step == 0 else slice(None) for step in labels.stride())]


def varying_dims(labels: Tensor) -> list[int]:
    """Dimensions along which the labels are not all equal."""
    small = collapse(labels).numpy()
    wide = [dim for dim, size in enumerate(small.shape) if size > 1]
    return [dim for dim in wide if (small != small.take([0], axis=dim)).any()]


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
