"""How far one form of a half is from another, on real pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from toolkit.errors import ModelError
from toolkit.export.settings import ExportSettings
from toolkit.export.tidy import to_bytes

Array = NDArray[Any]


@dataclass(frozen=True)
class ParityStep:
    """One comparison.

    Attributes:
        name: what was compared with what, e.g. ``edge: torch -> onnx``.
        max_absolute: largest absolute difference.
        max_relative: the same, divided by the reference's largest absolute value.
        code_agreement: share of equal codes, where codes were compared (then the differences are in codes).
        max_code_difference: in codes.
        pictures: how many were compared.
    """

    name: str
    max_absolute: float
    max_relative: float
    pictures: int
    code_agreement: float | None = None
    max_code_difference: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For the manifest; what was not measured is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def compare(name: str, reference: Array, other: Array) -> ParityStep:
    """Compare two outputs of the same pictures, floats or int8 codes.

    Raises:
        ModelError: shapes differ, or one holds NaN.
    """
    if reference.shape != other.shape:
        raise ModelError(f"{name}: shapes {reference.shape} and {other.shape} differ")
    if reference.dtype == np.int8:
        steps = np.abs(reference.astype(np.int16) - other.astype(np.int16))
        largest = max(int(np.abs(reference.astype(np.int16)).max()), 1)
        worst = int(steps.max())
        agreement = float((steps == 0).mean())
        return ParityStep(name, float(worst), worst / largest, len(reference), agreement, worst)
    difference = np.abs(reference.astype(np.float64) - other.astype(np.float64))
    if np.isnan(difference).any():
        raise ModelError(f"{name}: the output holds NaN or infinity")
    largest_value = float(np.abs(reference).max())
    absolute = float(difference.max())
    return ParityStep(name, absolute, absolute / largest_value if largest_value else absolute, len(reference))


def check(steps: Iterable[ParityStep], settings: ExportSettings) -> None:
    """Refuse halves that do not compute what the network does.

    Raises:
        ModelError: names the first comparison beyond the settings' bounds, with its numbers.
    """
    for step in steps:
        if not within(step, settings):
            detail = (
                f"{step.code_agreement:.4%} of the codes agree (at least {settings.min_code_agreement:.4%})"
                if step.code_agreement is not None
                else f"relative difference {step.max_relative:.2e} (bound {settings.max_relative_difference:.0e})"
            )
            raise ModelError(f"parity failed, {step.name}: {detail}; raise the bound only when you know why")


def within(step: ParityStep, settings: ExportSettings) -> bool:
    """Whether one comparison is inside the bounds."""
    if step.code_agreement is not None:
        return step.code_agreement >= settings.min_code_agreement
    return step.max_relative <= settings.max_relative_difference


def runner(model: onnx.ModelProto) -> Callable[[Array], Array]:
    """A function that runs a model of one input and one output on the CPU, one thread, no fusions changed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(batch: Array) -> Array:
        result: Array = session.run(None, {name: batch})[0]
        return result

    return run


def in_batches(function: Callable[[Array], Array], inputs: Array, batch: int) -> Array:
    """Apply ``function`` to slices of ``inputs`` and put the results together."""
    return np.concatenate([function(inputs[start : start + batch]) for start in range(0, len(inputs), batch)])
