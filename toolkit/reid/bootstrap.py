"""How sure a re-ID number or a difference is: bootstrap over identities.

Queries of one vehicle are not independent, so identities are resampled, with all of their queries (cluster
bootstrap; Davison and Hinkley 1997, section 3.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.errors import DataError

RESAMPLES = 10_000
CONFIDENCE = 0.95
RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True)
class Interval:
    """A mean over queries and where it would lie with other identities.

    Attributes:
        value: the mean (of ``b - a`` for a paired comparison).
        low, high: two-sided percentile interval.
        at_least, at_most: one-sided bounds, each held with ``confidence`` alone.
        confidence: e.g. 0.95.
        identities, queries: how many were resampled.
        changed: identities with a value (a difference) other than 0. With none the interval has no width,
            which is not certainty: n identities without a slip still allow a rate of about 3 / n.
    """

    value: float
    low: float
    high: float
    at_least: float
    at_most: float
    confidence: float
    identities: int
    queries: int
    changed: int


def bootstrap_mean(
    per_query: np.ndarray,
    identities: np.ndarray,
    seed: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of the mean of one value per query.

    Args:
        per_query: float ``(Q,)``, e.g. ``Ranking.per_query.ap``.
        identities: ``(Q,)``, e.g. ``Ranking.per_query.identity``.
        seed: of the resampling.
        resamples: how often.
        confidence: in (0.5, 1).

    Raises:
        DataError: shapes that do not fit, NaN, fewer than two identities, or confidence out of range.
    """
    values, identities = np.asarray(per_query, dtype=np.float64), np.asarray(identities)
    if values.ndim != 1 or values.shape != identities.shape:
        raise DataError(f"one value and one identity per query, not {values.shape} and {identities.shape}")
    if not np.isfinite(values).all():
        raise DataError("a value per query is NaN or infinite")
    if not 0.5 < confidence < 1 or resamples < 1:
        raise DataError(f"confidence lies in (0.5, 1), resamples from 1; got {confidence}, {resamples}")
    names, cluster = np.unique(identities, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"a bootstrap over identities needs at least two, not {len(names)}")
    sums = np.bincount(cluster, weights=values)
    sizes = np.bincount(cluster)
    means = _resampled(sums, sizes, seed, resamples)
    tail = 1 - confidence
    low, at_least, at_most, high = np.quantile(means, [tail / 2, tail, confidence, 1 - tail / 2])
    changed = np.unique(cluster[values != 0]).size
    return Interval(
        value=float(values.mean()),
        low=float(low),
        high=float(high),
        at_least=float(at_least),
        at_most=float(at_most),
        confidence=confidence,
        identities=len(names),
        queries=len(values),
        changed=changed,
    )


def paired_bootstrap(
    per_query_a: np.ndarray,
    per_query_b: np.ndarray,
    identities: np.ndarray,
    seed: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Interval of the mean difference ``b - a`` of two systems on the same queries.

    A gate "b loses at most x against a" holds when ``at_least >= -x``.

    Args:
        per_query_a, per_query_b: float ``(Q,)``, the same queries in the same order.
        identities: ``(Q,)``.
        seed: of the resampling.
        resamples: how often.
        confidence: in (0.5, 1).

    Raises:
        DataError: see :func:`bootstrap_mean`.
    """
    a, b = np.asarray(per_query_a, dtype=np.float64), np.asarray(per_query_b, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(f"a paired comparison needs the same queries, not {a.shape} and {b.shape}")
    return bootstrap_mean(b - a, identities, seed, resamples=resamples, confidence=confidence)


def _resampled(sums: np.ndarray, sizes: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    count = len(sums)
    means = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        rows = min(RESAMPLES_AT_ONCE, resamples - start)
        draws = generator.multinomial(count, np.full(count, 1 / count), size=rows)
        means.append((draws @ sums) / (draws @ sizes))
    return np.concatenate(means)
