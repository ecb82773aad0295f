"""Labels of channels, and the sets they are coupled into."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

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
LINE, FACTS, LEVEL = "_channel_line", "_channel_facts", "_channel_level"
_LEVELS = tuple(torch.tensor(value, dtype=torch.uint8) for value in (VARYING, RAGGED, EVEN))
_NO_LABEL = torch.zeros((), dtype=torch.int64)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is asked of labels along one dimension again and again.

    Attributes:
        varies: whether they are not all equal.
        every, some: whether all, or any, stand for a channel.
    """

    varies: bool
    every: bool
    some: bool


@dataclass(frozen=True, eq=False, slots=True)
class Line:
    """What :func:`spread` remembers of the tensor it makes: it repeats ``vector`` along all but ``dim``."""

    dim: int
    vector: Tensor
    facts: Facts


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
    _pairs: list[tuple[Indices, Indices]] = field(default_factory=list)

    def new(self, number: int) -> Tensor:
        """``number`` fresh labels, int64."""
        self.count += number
        labels = torch.arange(self.count - number, self.count)
        setattr(labels, FACTS, Facts(number > 1, True, number > 0))
        return labels

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Couple two broadcastable tensors of labels element by element; zeros are skipped."""
        if first is second:
            return
        one, two = line_of(first), line_of(second)
        if one is not None and two is not None and one.dim == two.dim and first.shape == second.shape:
            first, second = one.vector, two.vector
            if first is second:
                return
        if first.dim() != 1 or first.shape != second.shape:
            first, second = torch.broadcast_tensors(first, second)
            steps = zip(first.stride(), second.stride(), strict=True)
            index = tuple(0 if step == (0, 0) else slice(None) for step in steps)
            first, second = first[index].reshape(-1), second[index].reshape(-1)
        pairs = first.numpy(), second.numpy()
        if len(first) > MANY:
            keys = np.unique(pairs[0] * self.count + pairs[1])
            pairs = keys // self.count, keys % self.count
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
        none = np.zeros(0, dtype=np.int64)
        first, second = (np.concatenate([none, *(pair[side] for pair in self._pairs)]) for side in (0, 1))
        real = (first > 0) & (second > 0)
        first, second = first[real], second[real]
        graph = coo_matrix((np.ones(len(first), dtype=np.int8), (first, second)), shape=(self.count, self.count))
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


def line_of(labels: Tensor) -> Line | None:
    """What is remembered of a tensor that :func:`spread` made; None for any other."""
    found: Line | None = getattr(labels, LINE, None)
    return found


def facts_of(vector: Tensor) -> Facts:
    """Facts about labels along one dimension, found once."""
    found: Facts | None = getattr(vector, FACTS, None)
    if found is None:
        array = vector.numpy()
        present = array != 0
        varies = len(array) > 1 and bool((array != array[0]).any())
        found = Facts(varies, bool(present.all()), bool(present.any()))
        setattr(vector, FACTS, found)
    return found


def every(labels: Tensor) -> bool:
    """Whether every element belongs to a channel."""
    line = line_of(labels)
    return line.facts.every if line is not None else bool(collapse(labels).numpy().all())


def some(labels: Tensor) -> bool:
    """Whether any element belongs to a channel."""
    line = line_of(labels)
    return line.facts.some if line is not None else bool(collapse(labels).numpy().any())


def collapse(labels: Tensor) -> Tensor:
    """The same labels without the repetitions of expanded dimensions."""
    steps = labels.stride()
    if 0 not in steps:
        return labels
    return labels[tuple(slice(0, 1) if step == 0 else slice(None) for step in steps)]


def varying_dims(labels: Tensor) -> list[int]:
    """Dimensions along which the labels are not all equal."""
    line = line_of(labels)
    if line is not None:
        return [line.dim] if line.facts.varies else []
    small = collapse(labels).numpy()
    wide = [dim for dim, size in enumerate(small.shape) if size > 1]
    return [dim for dim in wide if (small != small.take([0], axis=dim)).any()]


def along(labels: Tensor, dim: int) -> Tensor:
    """Labels along one dimension, taken at index 0 of the others. Shape ``(labels.shape[dim],)``."""
    line = line_of(labels)
    if line is not None and line.dim == dim:
        return line.vector
    index: list[int | slice] = [0] * labels.dim()
    index[dim] = slice(None)
    return labels[tuple(index)]


@lru_cache(512)
def level(value: int, shape: torch.Size) -> Tensor:
    """One level for a whole tensor, without memory."""
    levels = _LEVELS[value].expand(shape)
    setattr(levels, LEVEL, value)
    return levels


def single_level(levels: Tensor) -> int | None:
    """The level of a tensor that :func:`level` made; None for any other, which may have one level too."""
    found: int | None = getattr(levels, LEVEL, None)
    return found


def lowest(levels: Tensor, dim: int) -> Tensor:
    """The lowest level at each index of one dimension. Shape ``(levels.shape[dim],)``."""
    known = single_level(levels)
    if known is not None:
        return level(known, levels.shape[dim : dim + 1])
    small = collapse(levels)
    others = [d for d in range(small.dim()) if d != dim]
    return (small.amin(dim=others) if others else small).expand(levels.shape[dim])


def spread(vector: Tensor, shape: torch.Size, dim: int) -> Tensor:
    """A vector along one dimension, expanded to ``shape`` without a copy."""
    view = [1] * len(shape)
    view[dim] = len(vector)
    result = vector.view(view).expand(shape)
    if vector.dtype == torch.int64 and len(vector) == shape[dim]:
        setattr(result, LINE, Line(dim, vector, facts_of(vector)))
    return result


def nothing(shape: torch.Size) -> Tensor:
    """Labels of a tensor without channels."""
    return _NO_LABEL.expand(shape)


def expanded(labels: Tensor, shape: torch.Size) -> Tensor:
    """``labels.expand(shape)``, with what is remembered of them."""
    if labels.shape == shape:
        return labels
    line = line_of(labels)
    dim = -1 if line is None else line.dim + len(shape) - labels.dim()
    if line is None or shape[dim] != len(line.vector):
        return labels.expand(shape)
    return spread(line.vector, shape, dim)
