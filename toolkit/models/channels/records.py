"""What a trace records."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toolkit.models.channels.labels import Indices, Labels, some


@dataclass
class Known:
    """What is known of a tensor.

    Attributes:
        tensor: kept alive, so that its identity stays its own.
        labels: one tensor of the same shape per labelled dimension of a parameter; exactly one for an activation.
        const: level of every element, uint8: VARYING, RAGGED or EVEN.
        origin: name of the parameter or buffer that this is, or a view of; empty for an activation.
    """

    tensor: Tensor
    labels: tuple[Tensor, ...]
    const: Tensor
    origin: str = ""
    _labelled: bool | None = None

    @property
    def labelled(self) -> bool:
        """Whether any element belongs to a channel."""
        if self._labelled is None:
            self._labelled = any(some(plane) for plane in self.labels)
        return self._labelled


@dataclass(frozen=True, eq=False)
class Consumption:
    """Input channels of one convolution or linear layer, as they arrive.

    Attributes:
        parameter: name of its weight; dimension ``dim`` of it is indexed by the channels.
        labels: ``(I,)``.
        const: ``(I,)``, True where a channel is the same for every input.
        uniform: ``(I,)``, True where it is also the same at every position.
        value: ``(I,)``, its value where const and uniform.
        bordered: padding (or a stride of a transposed convolution) makes a constant's effect depend on position.
        grouped: the inputs of a group feed this group's outputs only.
    """

    module: str
    parameter: str
    dim: int
    labels: Indices
    const: NDArray[np.bool_]
    uniform: NDArray[np.bool_]
    value: NDArray[np.float64]
    bordered: bool
    grouped: bool


@dataclass(frozen=True, eq=False)
class Production:
    """One convolution or linear layer, or one normalization.

    Attributes:
        labels: along its output's channels.
        positions: output elements per channel and picture.
        repeats: how often each element of the weight is multiplied, per picture.
        out_dim: dimension of the weight that the output channels index.
    """

    module: str
    parameter: str
    tensor: int
    labels: Indices
    in_edge: bool
    positions: int = 0
    repeats: int = 0
    out_dim: int | None = None


@dataclass(frozen=True)
class Use:
    """One operator that read a tensor: how, where, and what it wrote."""

    kind: str
    module: str
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Binding:
    """An integer attribute of a module that counts these channels (the bound of a split)."""

    module: str
    attribute: str
    labels: Indices


@dataclass(frozen=True)
class Addition:
    """A sum of two activations of one shape: candidate for the end of a residual block."""

    module: str
    operands: tuple[int, int]
    in_edge: bool


@dataclass(eq=False)
class Trace:
    """All that one run showed."""

    labels: Labels = field(default_factory=Labels)
    known: dict[int, Known] = field(default_factory=dict)
    parameters: dict[str, Known] = field(default_factory=dict)
    edge_parameters: set[str] = field(default_factory=set)
    consumptions: list[Consumption] = field(default_factory=list)
    productions: list[Production] = field(default_factory=list)
    norms: list[Production] = field(default_factory=list)
    sigmoids: set[int] = field(default_factory=set)
    unhandled: dict[str, str] = field(default_factory=dict)
    gates: set[int] = field(default_factory=set)
    uses: dict[int, list[Use]] = field(default_factory=dict)
    parents: dict[int, set[int]] = field(default_factory=dict)
    equal_counts: list[tuple[Indices, ...]] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    additions: list[Addition] = field(default_factory=list)
    module_inputs: dict[str, int] = field(default_factory=dict)
    module_outputs: dict[str, Known] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    cut: Indices | None = None
    outputs: list[Tensor] = field(default_factory=list)
