"""How far two networks are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.run import outputs_of


@dataclass(frozen=True)
class Deviation:
    """Largest difference of two networks' outputs.

    Attributes:
        absolute: in the outputs' own unit.
        relative: divided by the largest value of the same output; the worst output counts.
    """

    absolute: float
    relative: float

    def __str__(self) -> str:
        return f"{self.relative:.1e} of the largest value ({self.absolute:.1e})"


def compare(first: Sequence[Tensor], second: Sequence[Tensor]) -> Deviation:
    """Deviation of two lists of outputs.

    Raises:
        SurgeryError: their number or shapes differ.
    """
    if [t.shape for t in first] != [t.shape for t in second]:
        raise SurgeryError("the two networks give outputs of different shapes")
    absolute = relative = 0.0
    for a, b in zip(first, second, strict=True):
        worst = float((a.double() - b.double()).abs().max())
        largest = float(a.double().abs().max())
        absolute = max(absolute, worst)
        ratio = worst / largest if largest else (0.0 if worst == 0 else math.inf)
        relative = max(relative, math.inf if math.isnan(ratio) else ratio)
    return Deviation(absolute, relative)


def deviation(masked: nn.Module, slim: nn.Module, inputs: Tensor) -> Deviation:
    """Largest difference between two networks on the same inputs, in the modes they are in.

    Args:
        masked: for instance a dense network with masks attached.
        inputs: ``(N, 3, H, W)``.
    """
    with torch.no_grad():
        return compare(outputs_of(masked, inputs), outputs_of(slim, inputs))
