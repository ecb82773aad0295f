"""Intervals for means over pictures that come in groups: identities are resampled, not pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.errors import AttackError

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and standard error over identities."""

    value: float
    low: float
    high: float
    error: float


def estimate(
    columns: Sequence[Values],
    identities: Sequence[str],
    combine: Callable[..., Values],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Bootstrap over identities of a function of means.

    Args:
        columns: one value a picture each.
        identities: of the pictures.
        combine: takes the columns' means and gives the statistic; must work on arrays of means.
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        AttackError: no pictures, or lengths that differ.
    """
    names, group = np.unique(np.asarray(identities), return_inverse=True)
    if not len(names) or any(len(column) != len(group) for column in columns):
        raise AttackError(f"{[len(c) for c in columns]} values do not belong to {len(group)} pictures")
    sums = np.stack([np.bincount(group, column, len(names)) for column in columns])
    counts = np.bincount(group, minlength=len(names)).astype(np.float64)
    value = float(combine(*(sums.sum(1) / counts.sum())))
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(np.float64)
    drawn = combine(*(sums @ weights.T / (weights @ counts)))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, float(low), float(high), float(np.std(drawn)))


def mean(column: Values) -> Values:
    """The statistic of a plain mean."""
    return column
