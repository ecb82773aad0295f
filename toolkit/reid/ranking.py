"""Ranking and its metrics: mAP (rectangular and trapezoidal), CMC, mINP.

Definitions: h(r) is the number of positives among the first r places of the valid gallery, P all of them.
Rectangular AP = (1/P) sum h(r)/r over the positives' ranks (Market-1501, Zheng et al. 2015); trapezoidal AP
adds (recall - old recall) (old precision + precision) / 2 at every place, starting from precision 1 (VeRi's
script, Liu et al. 2016); INP = P / rank of the last positive (Ye et al. 2021, arXiv:2001.04193).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from toolkit.datasets.records import Protocol
from toolkit.errors import DataError
from toolkit.reid.features import normalize
from toolkit.reid.protocols import LabelList, Labels, left_out, one_per_identity, pair_labels

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]
ROWS_AT_ONCE = 256
CMC_LENGTH = 50
DECIMALS = 10


@dataclass(frozen=True)
class PerQuery:
    """One entry per valid query (with repeats: per query and repeat), all of the same length.

    Attributes:
        query: position in the query arrays.
        identity: the query's identity, numbered.
        ap, ap_trapezoidal, inp: in [0, 1].
        first_rank: place of the first positive, from 1.
        positives: number of positives.
    """

    query: np.ndarray
    identity: np.ndarray
    ap: np.ndarray
    ap_trapezoidal: np.ndarray
    inp: np.ndarray
    first_rank: np.ndarray
    positives: np.ndarray

    def hits(self, k: int) -> np.ndarray:
        """1.0 where a positive is among the first ``k`` places."""
        return (self.first_rank <= k).astype(np.float64)


@dataclass(frozen=True)
class Ranking:
    """Metrics of one evaluation; comparable only where ``protocol`` and gallery are the same.

    Attributes:
        protocol: the rules that were applied.
        map: mean rectangular AP.
        map_trapezoidal: mean trapezoidal AP.
        cmc: share of queries with a positive among the first k places, k = 1 .. len(cmc).
        minp: mean INP.
        per_query: the values behind the means.
        valid: queries counted (over all repeats).
        skipped: queries without a positive in the valid gallery; not in any mean.
        gallery: pictures in the gallery, before the query's own are left out.
        repeats: random galleries (``vehicleid``), else 1.
    """

    protocol: Protocol
    map: float
    map_trapezoidal: float
    cmc: np.ndarray
    minp: float
    per_query: PerQuery
    valid: int
    skipped: int
    gallery: int
    repeats: int = 1

    def rank(self, k: int) -> float:
        """CMC at ``k``, for any k from 1."""
        return float(self.per_query.hits(k).mean())

    @property
    def one_positive(self) -> bool:
        """Each query has exactly one positive: mAP, mean reciprocal rank and mINP are one number."""
        return bool((self.per_query.positives == 1).all())


def evaluate(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: LabelList,
    gallery_ids: LabelList,
    query_cameras: LabelList,
    gallery_cameras: LabelList,
    protocol: Protocol,
    query_index: LabelList | None = None,
    gallery_index: LabelList | None = None,
    *,
    query_groups: LabelList | None = None,
    gallery_groups: LabelList | None = None,
    repeats: int = 10,
    seed: int = 0,
) -> Ranking:
    """Rank the gallery by cosine distance (of L2-normalized rows the same order as Euclidean) and score it.

    Distances are compared at 10 decimals; at equal distance negatives rank before positives, so that the
    result depends on no order of the pictures and a network that maps all to one point scores worst.

    Args:
        query_features, gallery_features: float ``(Q, D)``, ``(G, D)``.
        query_ids, gallery_ids, query_cameras, gallery_cameras: integers or strings, one per picture.
        protocol: ``veri``, ``veriwild``, ``two_camera`` or ``vehicleid`` (``protocols.left_out``).
        query_index, gallery_index: numbers of the pictures; a query never finds the picture of its own number.
        query_groups, gallery_groups: a query searches its own group only, e.g. vehicles of its type.
        repeats: random galleries of ``vehicleid``; others take one.
        seed: of those galleries.

    Raises:
        DataError: shapes that do not fit, NaN, negative labels, unknown protocol, or no query with a positive.
    """
    query_features, gallery_features = _checked(query_features, "query"), _checked(gallery_features, "gallery")
    if query_features.shape[1] != gallery_features.shape[1]:
        raise DataError(f"queries have {query_features.shape[1]} dimensions, gallery {gallery_features.shape[1]}")
    query, gallery = pair_labels(
        (len(query_features), len(gallery_features)),
        identities=(query_ids, gallery_ids),
        cameras=(query_cameras, gallery_cameras),
        pictures=(query_index, gallery_index),
        groups=(query_groups, gallery_groups),
    )
    rows = normalize(query_features).astype(np.float64)
    columns = normalize(gallery_features).astype(np.float64)
    return _score(lambda q, g: 1.0 - rows[q] @ columns[g].T, query, gallery, protocol, repeats, seed)


def rank_distances(
    distances: np.ndarray,
    query_ids: LabelList,
    gallery_ids: LabelList,
    query_cameras: LabelList,
    gallery_cameras: LabelList,
    protocol: Protocol,
    query_index: LabelList | None = None,
    gallery_index: LabelList | None = None,
    *,
    repeats: int = 10,
    seed: int = 0,
) -> Ranking:
    """As :func:`evaluate`, from a matrix of distances ``(Q, G)``.

    Raises:
        DataError: see :func:`evaluate`.
    """
    distances = _checked(distances, "distance")
    query, gallery = pair_labels(
        distances.shape,
        identities=(query_ids, gallery_ids),
        cameras=(query_cameras, gallery_cameras),
        pictures=(query_index, gallery_index),
    )
    return _score(lambda q, g: distances[np.ix_(q, g)], query, gallery, protocol, repeats, seed)


def pool(rankings: Sequence[Ranking]) -> Ranking:
    """Several rankings as one (folds of a cross-validation): every query counts once, queries are renumbered.

    Identities of different rankings stay different, as folds are identity-disjoint.

    Raises:
        DataError: nothing to pool, or different protocols.
    """
    if not rankings or len({ranking.protocol for ranking in rankings}) > 1:
        raise DataError("pooling needs rankings of one protocol")
    columns: dict[str, np.ndarray] = {}
    for name in ("ap", "ap_trapezoidal", "inp", "first_rank", "positives"):
        columns[name] = np.concatenate([getattr(ranking.per_query, name) for ranking in rankings])
    for name in ("query", "identity"):
        parts, offset = [], 0
        for ranking in rankings:
            values = getattr(ranking.per_query, name)
            parts.append(values + offset)
            offset += int(values.max()) + 1
        columns[name] = np.concatenate(parts)
    sizes = {"gallery": max(r.gallery for r in rankings), "repeats": max(r.repeats for r in rankings)}
    return _summary(PerQuery(**columns), rankings[0].protocol, sum(r.skipped for r in rankings), **sizes)


def _score(
    distances: Distances, query: Labels, gallery: Labels, protocol: Protocol, repeats: int, seed: int
) -> Ranking:
    if protocol not in get_args(Protocol):
        raise DataError(f"no protocol {protocol!r}; one of {', '.join(get_args(Protocol))}")
    if protocol != "vehicleid":
        rows, skipped = _rows(distances, query, gallery, protocol, np.arange(len(query)), np.arange(len(gallery)))
        return _summary(_per_query(rows, query), protocol, skipped, len(gallery), 1)
    if repeats < 1:
        raise DataError(f"vehicleid needs at least one random gallery, not {repeats}")
    collected: list[tuple[float, ...]] = []
    skipped = 0
    for repeat in range(repeats):
        chosen = one_per_identity(gallery.identities, np.random.default_rng((seed, repeat)))
        in_gallery = (query.pictures >= 0) & np.isin(query.pictures, gallery.pictures[chosen])
        rows, missed = _rows(distances, query, gallery, protocol, np.flatnonzero(~in_gallery), chosen)
        collected += rows
        skipped += missed
    return _summary(_per_query(collected, query), protocol, skipped, len(chosen), repeats)


def _rows(
    distances: Distances, query: Labels, gallery: Labels, protocol: Protocol, asked: np.ndarray, chosen: np.ndarray
) -> tuple[list[tuple[float, ...]], int]:
    """Score the queries ``asked`` against the gallery positions ``chosen``; count those without a positive."""
    part = gallery.take(chosen)
    rows: list[tuple[float, ...]] = []
    for start in range(0, len(asked), ROWS_AT_ONCE):
        indices = asked[start : start + ROWS_AT_ONCE]
        block = query.take(indices)
        nearness = np.round(distances(indices, chosen), DECIMALS)
        valid = ~left_out(protocol, block, part)
        same = block.identities[:, None] == part.identities[None]
        for row, index in enumerate(indices.tolist()):
            positives = nearness[row, valid[row] & same[row]]
            if len(positives):
                rows.append((index, *score_ranks(_ranks(positives, nearness[row, valid[row] & ~same[row]]))))
    return rows, len(asked) - len(rows)


def _ranks(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Places of the positives, from 1; at equal distance negatives come first."""
    before = np.searchsorted(np.sort(negatives), np.sort(positives), side="right")
    return before + np.arange(1, len(positives) + 1)


def score_ranks(ranks: np.ndarray) -> tuple[float, float, float, float, float]:
    """Rectangular AP, trapezoidal AP, INP, first rank and number of positives of one query.

    Args:
        ranks: ascending places of all positives, from 1, int64 ``(P,)``, P >= 1.
    """
    count = len(ranks)
    found = np.arange(1, count + 1)
    precision = found / ranks
    old = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
    trapezoidal = float(((old + precision) / 2).mean())
    return float(precision.mean()), trapezoidal, count / float(ranks[-1]), float(ranks[0]), float(count)


def _per_query(rows: list[tuple[float, ...]], query: Labels) -> PerQuery:
    if not rows:
        raise DataError("no query has a positive in its gallery; check identities, cameras and the protocol")
    table = np.array(rows, dtype=np.float64)
    position = table[:, 0].astype(np.int64)
    return PerQuery(
        query=position,
        identity=query.identities[position],
        ap=table[:, 1],
        ap_trapezoidal=table[:, 2],
        inp=table[:, 3],
        first_rank=table[:, 4].astype(np.int64),
        positives=table[:, 5].astype(np.int64),
    )


def _summary(per_query: PerQuery, protocol: Protocol, skipped: int, gallery: int, repeats: int) -> Ranking:
    return Ranking(
        protocol=protocol,
        map=float(per_query.ap.mean()),
        map_trapezoidal=float(per_query.ap_trapezoidal.mean()),
        cmc=np.array([per_query.hits(k).mean() for k in range(1, min(CMC_LENGTH, gallery) + 1)]),
        minp=float(per_query.inp.mean()),
        per_query=per_query,
        valid=len(per_query.ap),
        skipped=skipped,
        gallery=gallery,
        repeats=repeats,
    )


def _checked(array: np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] == 0:
        raise DataError(f"{what} values are a table with at least one row and column, not {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{what} values hold NaN or infinity; the network or engine that made them is broken")
    return array
