"""What every engine offers, and the checks of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.engines.errors import EngineInputError

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: in the graph.
        dtype: numpy's name of the type.
        shape: -1 where any size goes (the batch).
        largest: largest shape, when the engine has a limit.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    largest: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


class Binding(Protocol):
    """Inputs and outputs bound once: the path for profiling and serving, without checks and copies."""

    def run(self) -> None:
        """Run once and wait for the end; inputs and outputs stay where the engine computes."""

    def outputs(self) -> Arrays:
        """The last run's outputs, copied to the host."""


class Engine(Protocol):
    """A half that runs."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Check the inputs, run, and return all outputs on the host.

        Raises:
            EngineInputError: an input is not what the engine takes.
        """

    def bind(self, inputs: Mapping[str, NDArray[Any]]) -> Binding:
        """Check and place the inputs once, to run them often."""

    def describe(self) -> dict[str, Any]:
        """Engine, version, precision, device, inputs and outputs, as plain values."""

    def close(self) -> None:
        """Free what it holds; a closed engine does not run again."""


def check_inputs(inputs: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec]) -> None:
    """Refuse what an engine would misread, crash on or turn into nonsense.

    Raises:
        EngineInputError: names the input and says what was expected.
    """
    expected = {spec.name for spec in specs}
    if set(inputs) != expected:
        raise EngineInputError(f"the engine takes {sorted(expected)}, got {sorted(inputs)}")
    for spec in specs:
        array = inputs[spec.name]
        if not isinstance(array, np.ndarray):
            raise EngineInputError(f"{spec.name} must be a numpy array, not {type(array).__name__}")
        if array.dtype != np.dtype(spec.dtype):
            raise EngineInputError(f"{spec.name} must be {spec.dtype}, not {array.dtype}")
        if not _fits(array.shape, spec):
            limit = f", at most {spec.largest}" if spec.largest else ""
            raise EngineInputError(f"{spec.name} must have shape {spec.shape}{limit}, not {array.shape}")
        if not array.flags.c_contiguous:
            raise EngineInputError(f"{spec.name} is not contiguous; pass numpy.ascontiguousarray of it")
        if array.dtype.kind == "f" and _has_nan(array):
            raise EngineInputError(f"{spec.name} holds NaN; look at what prepared it")


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    if len(shape) != len(spec.shape) or 0 in shape:
        return False
    if any(wanted not in (-1, side) for side, wanted in zip(shape, spec.shape, strict=True)):
        return False
    return spec.largest is None or all(side <= most for side, most in zip(shape, spec.largest, strict=True))


def _has_nan(array: NDArray[Any]) -> bool:
    # A sum is an order of magnitude cheaper than isnan().any(), and NaN survives it; infinities of both
    # signs make one too, so only then every element is looked at.
    with np.errstate(all="ignore"):
        return bool(np.isnan(array.sum())) and bool(np.isnan(array).any())
