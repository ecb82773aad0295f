"""Ranking against known answers.

Matrices A, B, C and their CMC are those of Cysu/open-reid's test_cmc.py (MIT); mAP and mINP were worked out
from the definitions. Ids and cameras as there: query cameras 0, gallery cameras 1 where nothing else is said.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import DataError
from toolkit.reid.protocols import check_index_files, pair_labels
from toolkit.reid.ranking import Ranking, evaluate, pool, rank_distances, score_ranks

A = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4, 0]], float)
B = np.tile(np.arange(4.0), (4, 1))
C = np.tile(np.arange(5.0), (5, 1))


def _matrix(name: str) -> Ranking:
    if name == "A":
        ids = np.arange(5)
        return rank_distances(A, ids, ids, [0] * 5, [1] * 5, "veri")
    if name == "B":
        return rank_distances(B, [0, 0, 1, 1], [0, 0, 1, 1], [0] * 4, [1] * 4, "veri")
    return rank_distances(C, [0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0] * 5, [0, 1, 1, 1, 1], "veri")


@pytest.mark.parametrize(
    ("name", "cmc", "rectangular", "trapezoidal", "minp"),
    [
        ("A", [0.6, 0.6, 0.8, 1.0, 1.0], 0.716667, 0.658333, 0.716667),
        ("B", [0.5, 0.5, 1.0, 1.0], 0.708333, 0.645833, 0.750000),
        ("C", [0.6, 0.6, 0.6, 1.0, 1.0], 0.730000, 0.690000, 0.760000),
    ],
)
def test_known_matrices(name: str, cmc: list[float], rectangular: float, trapezoidal: float, minp: float) -> None:
    result = _matrix(name)
    np.testing.assert_allclose(result.cmc, cmc)
    assert result.map == pytest.approx(rectangular, abs=1e-6)
    assert result.map_trapezoidal == pytest.approx(trapezoidal, abs=1e-6)
    assert result.minp == pytest.approx(minp, abs=1e-6)
    assert (result.valid, result.skipped) == (len(cmc), 0)
    assert [result.rank(k) for k in range(1, len(cmc) + 1)] == pytest.approx(cmc)


def test_removing_the_whole_camera_is_another_protocol() -> None:
    """The mistake that matrix C catches: its curve is what two_camera's rule gives."""
    result = rank_distances(C, [0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0] * 5, [0, 1, 1, 1, 1], "two_camera")
    np.testing.assert_allclose(result.cmc, [0.6, 0.6, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("ranks", "rectangular", "trapezoidal", "inp"),
    [
        ([1, 3], 0.833333, 0.791667, 0.666667),
        ([2, 3], 0.583333, 0.416667, 0.666667),
        ([3], 0.333333, 0.166667, 0.333333),
        ([1, 2, 5], 0.866667, 0.850000, 0.600000),
        ([1], 1.0, 1.0, 1.0),
        ([7], 1 / 7, 1 / 14, 1 / 7),
    ],
)
def test_worked_average_precisions(ranks: list[int], rectangular: float, trapezoidal: float, inp: float) -> None:
    assert score_ranks(np.array(ranks))[:3] == pytest.approx((rectangular, trapezoidal, inp), abs=1e-6)


def _trapezoidal_as_in_the_script(good: list[bool]) -> float:
    """The official script's loop, place by place."""
    area, old_recall, old_precision, hits = 0.0, 0.0, 1.0, 0
    for place, is_good in enumerate(good, start=1):
        hits += is_good
        recall, precision = hits / sum(good), hits / place
        area += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return area


@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any))
@settings(max_examples=60, deadline=None)
def test_average_precision_equals_the_place_by_place_loop(good: list[bool]) -> None:
    ranks = np.flatnonzero(good) + 1
    rectangular, trapezoidal, inp, first, count = score_ranks(ranks)
    precisions = [sum(good[:place]) / place for place in ranks]
    assert rectangular == pytest.approx(np.mean(precisions))
    assert trapezoidal == pytest.approx(_trapezoidal_as_in_the_script(good))
    assert inp == pytest.approx(sum(good) / max(ranks))
    assert (first, count) == (min(ranks), sum(good))


def test_without_the_junk_rule_rank_one_would_be_perfect() -> None:
    """Random features, queries in the gallery: with the rule chance level, without it (other cameras) 1.0."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 16))
    identities, cameras = np.arange(60) // 3, np.arange(60) % 3
    right = evaluate(features, features, identities, identities, cameras, cameras, "veri")
    wrong = evaluate(features, features, identities, identities, cameras, cameras + 10, "veri")
    assert wrong.rank(1) == 1.0
    assert right.rank(1) < 0.3


def test_a_query_in_the_gallery_beside_a_wrong_identity_does_not_score() -> None:
    distances = np.array([[0.0, 1.0, 2.0]])  # itself, a wrong identity, the right one in another camera
    result = rank_distances(distances, [7], [7, 8, 7], ["c1"], ["c1", "c2", "c2"], "veri")
    assert result.rank(1) == 0.0
    assert result.map == 0.5


def test_other_identities_of_the_querys_camera_stay() -> None:
    result = rank_distances(np.array([[0.0, 1.0]]), [1], [2, 1], [0], [0, 1], "veri")
    assert result.rank(1) == 0.0


def test_queries_without_a_positive_are_skipped_and_counted() -> None:
    distances = np.array([[0.0, 1.0], [0.0, 1.0]])
    result = rank_distances(distances, [1, 9], [1, 2], [0, 0], [1, 1], "veri")
    assert (result.valid, result.skipped, result.map) == (1, 1, 1.0)
    assert result.per_query.query.tolist() == [0]
    with pytest.raises(DataError, match="no query has a positive"):
        rank_distances(distances, [8, 9], [1, 2], [0, 0], [1, 1], "veri")


@pytest.mark.parametrize("protocol", ["veri", "two_camera"])
def test_order_of_pictures_does_not_matter_even_with_ties(protocol: str) -> None:
    generator = np.random.default_rng(3)
    features = generator.integers(0, 2, size=(40, 3)).astype(float) + 1.0  # few values: many ties
    identities, cameras = generator.integers(0, 8, 40), generator.integers(0, 3, 40)
    base = evaluate(features, features, identities, identities, cameras, cameras, protocol)
    for seed in range(3):
        q, g = (np.random.default_rng((seed, side)).permutation(40) for side in (0, 1))
        other = evaluate(features[q], features[g], identities[q], identities[g], cameras[q], cameras[g], protocol)
        assert other.map == pytest.approx(base.map, abs=1e-12)
        assert other.minp == pytest.approx(base.minp, abs=1e-12)
        np.testing.assert_allclose(other.cmc, base.cmc)
        order = np.argsort(q[other.per_query.query])
        np.testing.assert_allclose(other.per_query.ap[order], base.per_query.ap)


def test_ties_put_negatives_first() -> None:
    result = rank_distances(np.zeros((1, 4)), [0], [0, 1, 2, 0], [0], [1] * 4, "veri")
    assert result.per_query.first_rank.tolist() == [3]
    assert result.map == pytest.approx((1 / 3 + 2 / 4) / 2)


@pytest.mark.parametrize("protocol", ["veri", "veriwild", "two_camera"])
def test_one_positive_makes_map_mrr_and_minp_one_number(protocol: str) -> None:
    generator = np.random.default_rng(5)
    features = generator.normal(size=(30, 4))
    identities, cameras = np.repeat(np.arange(15), 2), np.tile(["cam1", "cam2"], 15)
    result = evaluate(features, features, identities, identities, cameras, cameras, protocol)
    assert result.one_positive
    assert result.map == pytest.approx(np.mean(1 / result.per_query.first_rank))
    assert result.map == pytest.approx(result.minp)
    assert result.map_trapezoidal < result.map


def test_two_camera_searches_both_directions_over_equal_galleries() -> None:
    """Three vehicles, two cameras, positions on a line: worked by hand."""
    cam1, cam2 = [0.0, 1.0, 2.0], [0.4, 0.6, 2.1]
    points = np.array(cam1 + cam2)
    distances = np.abs(points[:, None] - points[None])
    identities, cameras = [0, 1, 2] * 2, [0] * 3 + [1] * 3
    result = rank_distances(
        distances, identities, identities, cameras, cameras, "two_camera", np.arange(6), np.arange(6)
    )
    assert result.per_query.first_rank.tolist() == [1, 1, 1, 1, 1, 1]
    points[4] = 0.3  # vehicle 1 in camera 2 moves to vehicle 0
    distances = np.abs(points[:, None] - points[None])
    result = rank_distances(distances, identities, identities, cameras, cameras, "two_camera")
    assert result.per_query.first_rank.tolist() == [2, 2, 1, 1, 2, 1]
    assert result.rank(1) == 0.5


def test_groups_confine_the_search() -> None:
    features = np.eye(4)[[0, 1, 0, 0]]
    labels = ([0, 1], [0, 1], [0, 0], [1, 1])
    apart = evaluate(
        features[:2], features[2:], *labels, "veri", query_groups=["car", "bus"], gallery_groups=["car", "bus"]
    )
    assert apart.map == 1.0
    assert evaluate(features[:2], features[2:], *labels, "veri").map < 1.0


def test_vehicleid_takes_one_random_picture_per_identity() -> None:
    features = np.repeat(np.eye(4), [2, 3, 4, 1], axis=0)
    identities = np.repeat([5, 6, 7, 8], [2, 3, 4, 1])
    numbers = np.arange(10)
    arguments = (features, features, identities, identities, numbers, numbers, "vehicleid", numbers, numbers)
    result = evaluate(*arguments, repeats=7, seed=1)
    assert result.rank(1) == 1.0
    assert (result.gallery, result.repeats, result.skipped) == (4, 7, 0)
    assert result.valid == 7 * (10 - 4)
    assert result.one_positive
    assert 9 not in result.per_query.query  # an identity's only picture is always the gallery's


def test_vehicleid_depends_on_its_seed_alone() -> None:
    generator = np.random.default_rng(0)
    features, identities = generator.normal(size=(40, 5)), np.arange(40) // 4
    cameras = np.zeros(40, int)
    arguments = (features, features, identities, identities, cameras, cameras, "vehicleid")
    numbers = {"query_index": np.arange(40), "gallery_index": np.arange(40)}
    first, again, other = (evaluate(*arguments, **numbers, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.per_query.first_rank, again.per_query.first_rank)
    assert first.per_query.query.tolist() != other.per_query.query.tolist()


def test_euclidean_and_cosine_order_agree_through_normalization() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(30, 6))
    identities, cameras = np.arange(30) // 3, np.arange(30) % 3
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    euclidean = np.linalg.norm(units[:, None] - units[None], axis=2)
    by_features = evaluate(features, features * 3.0, identities, identities, cameras, cameras, "veri")
    by_matrix = rank_distances(euclidean, identities, identities, cameras, cameras, "veri")
    np.testing.assert_array_equal(by_features.per_query.first_rank, by_matrix.per_query.first_rank)
    assert by_features.map == pytest.approx(by_matrix.map)


def test_many_queries_equal_a_naive_evaluation() -> None:
    generator = np.random.default_rng(8)
    distances = generator.random((300, 50))
    qi, gi = generator.integers(0, 9, 300), generator.integers(0, 9, 50)
    qc, gc = generator.integers(0, 4, 300), generator.integers(0, 4, 50)
    result = rank_distances(distances, qi, gi, qc, gc, "veri")
    aps = []
    for row in range(300):
        keep = [g for g in np.argsort(distances[row]) if not (gi[g] == qi[row] and gc[g] == qc[row])]
        good = [bool(gi[g] == qi[row]) for g in keep]
        if any(good):
            hits = list(itertools.accumulate(good))
            aps.append(np.mean([hits[i] / (i + 1) for i in range(len(good)) if good[i]]))
    assert result.map == pytest.approx(np.mean(aps))
    assert result.skipped == 300 - len(aps)


def test_pooled_folds_count_every_query_once() -> None:
    first, second = _matrix("A"), _matrix("C")
    both = pool([first, second])
    assert both.valid == 10
    assert both.map == pytest.approx((first.map + second.map) / 2)
    assert len(np.unique(both.per_query.identity)) == 5 + 2
    assert len(np.unique(both.per_query.query)) == 10
    with pytest.raises(DataError):
        pool([])
    with pytest.raises(DataError, match="one protocol"):
        pool([first, rank_distances(A, range(5), range(5), [0] * 5, [1] * 5, "two_camera")])


F = np.eye(3)
GOOD = {
    "query_features": F,
    "gallery_features": F,
    "query_ids": [0, 1, 2],
    "gallery_ids": [0, 1, 2],
    "query_cameras": [0, 0, 0],
    "gallery_cameras": [1, 1, 1],
    "protocol": "veri",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_features": np.full((3, 3), np.nan)}, "NaN"),
        ({"gallery_features": np.full((3, 3), np.inf)}, "infinity"),
        ({"query_features": np.zeros((0, 3))}, "at least one row"),
        ({"query_features": np.zeros(3)}, "table"),
        ({"query_features": np.ones((3, 2))}, "dimensions"),
        ({"query_ids": [0, 1]}, "identities"),
        ({"gallery_cameras": [1, 1, 1, 1]}, "cameras"),
        ({"query_ids": [0, 1, -1]}, "negative"),
        ({"query_ids": [0.0, 1.0, np.nan]}, "integers or strings"),
        ({"query_ids": ["0", "1", "2"]}, "differ in kind"),
        ({"query_index": [0, 1, 2]}, "one side"),
        ({"protocol": "market"}, "veri, vehicleid"),
        ({"protocol": "vehicleid", "repeats": 0}, "at least one"),
    ],
)
def test_unusable_input_is_refused(change: dict[str, object], message: str) -> None:
    assert evaluate(**GOOD).map == 1.0
    with pytest.raises(DataError, match=message):
        evaluate(**{**GOOD, **change})


def test_index_files_must_agree_with_the_rule() -> None:
    query, gallery = pair_labels((2, 4), identities=([0, 1], [0, 0, 1, 1]), cameras=([0, 0], [0, 1, 0, 1]))
    check_index_files(query, gallery, good=[[1], [3]], junk=[[0], [2]])
    with pytest.raises(DataError, match=r"query 1.*junk"):
        check_index_files(query, gallery, good=[[1], [3]], junk=[[0], []])
    with pytest.raises(DataError, match=r"query 0.*positives"):
        check_index_files(query, gallery, good=[[0, 1], [3]], junk=[[0], [2]])
    with pytest.raises(DataError, match="lines"):
        check_index_files(query, gallery, good=[[1]], junk=[[0]])
