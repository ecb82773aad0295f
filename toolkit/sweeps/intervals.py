"""A number with its 95 % interval: identities are resampled, with all of their queries, pictures or regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ArtifactError

Floats = NDArray[np.float64]
RESAMPLES = 1000
BOUNDS = (0.025, 0.05, 0.95, 0.975)


@dataclass(frozen=True)
class Value:
    """A number and where it would lie with other identities.

    Attributes:
        value: the number.
        low, high: its two-sided 95 % interval.
        at_least, at_most: its one-sided bounds, each held with 95 % alone.
    """

    value: float
    low: float
    high: float
    at_least: float
    at_most: float


@dataclass(frozen=True)
class Column:
    """One number for each query, picture or region, and the identity that it belongs to."""

    values: Floats
    identities: tuple[str, ...]


def plain(mean: Any) -> Any:
    """The statistic of a mean."""
    return mean


def resampled(columns: Sequence[Column], combine: Callable[..., Any] = plain, seed: int = 0) -> Value:
    """Cluster bootstrap of a function of means (Davison and Hinkley 1997, section 3.8).

    Args:
        columns: of the same queries, pictures or regions.
        combine: takes the columns' means and gives the statistic; must work on arrays of means.
        seed: of the resampling; the same seed draws the same identities for every row of a table.

    Raises:
        ArtifactError: the columns do not belong to the same identities.
    """
    identities = columns[0].identities
    if any(c.identities != identities or len(c.values) != len(identities) for c in columns) or not identities:
        raise ArtifactError("jobs were measured on other queries or pictures; run the sweep again")
    names, group = np.unique(np.asarray(identities), return_inverse=True)
    sums = np.stack([np.bincount(group, column.values, len(names)) for column in columns])
    counts = np.bincount(group, minlength=len(names)).astype(np.float64)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    weights = draws.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(combine(*(sums.sum(1) / counts.sum())))
        drawn = combine(*(sums @ weights.T / (weights @ counts)))
    low, at_least, at_most, high = (float(bound) for bound in np.nanquantile(drawn, BOUNDS))
    return Value(found, low, high, at_least, at_most)


def average(columns: Sequence[Column]) -> Column:
    """Mean of the same queries, pictures or regions over seeds.

    Raises:
        ArtifactError: the columns do not belong to the same identities.
    """
    if any(column.identities != columns[0].identities for column in columns):
        raise ArtifactError("jobs were measured on other queries or pictures; run the sweep again")
    return Column(np.asarray(np.mean(np.stack([column.values for column in columns]), 0)), columns[0].identities)


def difference(first: Column, second: Column) -> Column:
    """``second - first``, query by query.

    Raises:
        ArtifactError: the columns do not belong to the same identities.
    """
    if first.identities != second.identities:
        raise ArtifactError("jobs were measured on other queries or pictures; run the sweep again")
    return Column(second.values - first.values, first.identities)
