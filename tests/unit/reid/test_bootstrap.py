"""Bootstrap intervals: against theory, and at their edges."""

import math

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.reid.bootstrap import bootstrap_mean, paired_bootstrap


def test_interval_of_a_mean_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    interval = bootstrap_mean(values, np.arange(400), seed=1)
    error = values.std() / math.sqrt(400)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert interval.at_least == pytest.approx(values.mean() - 1.645 * error, abs=0.15 * error)
    assert interval.at_most == pytest.approx(values.mean() + 1.645 * error, abs=0.15 * error)
    assert (interval.identities, interval.queries) == (400, 400)


def test_queries_of_one_identity_are_no_independent_evidence() -> None:
    values = np.random.default_rng(0).normal(size=50)
    alone = bootstrap_mean(values, np.arange(50), seed=0)
    copied = bootstrap_mean(np.repeat(values, 10), np.repeat(np.arange(50), 10), seed=0)
    assert copied.low == pytest.approx(alone.low)
    assert copied.high == pytest.approx(alone.high)


def test_pairing_removes_what_both_share() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(200)
    a, b = hard, np.clip(hard + 0.02 + generator.normal(0, 0.01, 200), 0, 2)
    paired = paired_bootstrap(a, b, np.arange(200), seed=0)
    assert paired.value == pytest.approx(0.02, abs=0.003)
    assert paired.low > 0
    unpaired_width = bootstrap_mean(b, np.arange(200), 0).high - bootstrap_mean(b, np.arange(200), 0).low
    assert paired.high - paired.low < unpaired_width / 10


def test_one_slip_among_two_hundred() -> None:
    a, b = np.ones(204), np.ones(204)
    b[17] = 0.0
    interval = paired_bootstrap(a, b, np.repeat(np.arange(102), 2), seed=0)
    assert interval.value == pytest.approx(-1 / 204)
    assert interval.at_least <= -2 / 204
    assert interval.at_most == 0.0
    assert interval.changed == 1


def test_no_difference_has_no_width_and_says_how_many_changed() -> None:
    interval = paired_bootstrap(np.ones(10), np.ones(10), np.arange(10), seed=0)
    assert (interval.value, interval.low, interval.high, interval.changed) == (0.0, 0.0, 0.0, 0)


def test_unequal_identities_are_weighted_by_their_queries() -> None:
    interval = bootstrap_mean(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0, 1, 1, 1]), seed=0)
    assert interval.value == 0.25
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_seed_alone_decides() -> None:
    values, identities = np.random.default_rng(0).random(30), np.arange(30)
    assert bootstrap_mean(values, identities, 4) == bootstrap_mean(values, identities, 4)
    assert bootstrap_mean(values, identities, 4) != bootstrap_mean(values, identities, 5)
    assert bootstrap_mean(values, identities.astype(str), 4).identities == 30


@pytest.mark.parametrize(
    ("values", "identities", "options", "message"),
    [
        (np.ones(3), np.arange(2), {}, "per query"),
        (np.ones((2, 2)), np.ones((2, 2)), {}, "per query"),
        (np.array([1.0, np.nan]), np.arange(2), {}, "NaN"),
        (np.ones(3), np.zeros(3), {}, "at least two"),
        (np.ones(3), np.arange(3), {"confidence": 1.0}, "confidence"),
        (np.ones(3), np.arange(3), {"resamples": 0}, "resamples"),
    ],
)
def test_unusable_input_is_refused(
    values: np.ndarray, identities: np.ndarray, options: dict[str, float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        bootstrap_mean(values, identities, 0, **options)


def test_paired_needs_the_same_queries() -> None:
    with pytest.raises(DataError, match="same queries"):
        paired_bootstrap(np.ones(3), np.ones(4), np.arange(3), 0)
