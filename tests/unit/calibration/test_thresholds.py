"""Each threshold method against an optimum known in closed form or found by brute force."""

import math

import numpy as np
import pytest

from calibration.histogram import StreamingHistogram
from calibration.thresholds import (
    divergence,
    entropy_threshold,
    expected_squared_error,
    minmax_threshold,
    mse_threshold,
    percentile_threshold,
    thresholds,
    weight_thresholds,
)


def histogram_of(values, bins=8192) -> StreamingHistogram:
    histogram = StreamingHistogram(bins)
    histogram.update(np.asarray(values, dtype=np.float32))
    return histogram


def quantiles(inverse, count=400_001) -> np.ndarray:
    """Values at evenly spaced probabilities: a sample without chance."""
    return inverse((np.arange(count) + 0.5) / count)


def laplace(p: np.ndarray) -> np.ndarray:
    return -np.sign(p - 0.5) * np.log(1 - 2 * np.abs(p - 0.5))


def test_minmax_is_the_largest_absolute_value():
    assert minmax_threshold(histogram_of([-3.5, 2.0])) == 3.5


@pytest.mark.parametrize("percent", [60.0, 99.0, 99.9])
def test_percentile_matches_numpy(percent):
    values = np.random.default_rng(0).exponential(1.0, 100_000)
    expected = np.percentile(values, percent)
    histogram = histogram_of(values)
    assert percentile_threshold(histogram, percent) == pytest.approx(expected, abs=histogram.width)


def test_percentile_100_is_minmax():
    histogram = histogram_of([1.0, 7.25])
    assert percentile_threshold(histogram, 100.0) == 7.25


def test_percentile_of_an_exponential_in_closed_form():
    values = quantiles(lambda p: -np.log1p(-p))
    assert percentile_threshold(histogram_of(values), 99.0) == pytest.approx(math.log(100), rel=2e-3)


def test_mse_of_a_laplace_is_the_published_clipping_value():
    """R. Banner et al. (NeurIPS 2019): 2 b^2 exp(-a/b) + a^2 / (3 * 4^8) is least at a = 9.89 b."""
    values = quantiles(laplace)
    assert np.abs(values).max() > 12
    assert mse_threshold(histogram_of(values)) == pytest.approx(9.89, rel=0.04)


def test_mse_of_a_gaussian_is_the_published_clipping_value():
    """The same source: 3.92 standard deviations at 8 bits."""
    values = np.random.default_rng(0).normal(size=2_000_000)
    assert mse_threshold(histogram_of(values)) == pytest.approx(3.92, rel=0.04)


def test_mse_of_a_uniform_distribution_keeps_everything():
    values = quantiles(lambda p: 10 * p)
    assert mse_threshold(histogram_of(values)) == pytest.approx(10.0, rel=0.01)


def test_expected_error_equals_the_error_on_the_values():
    values = np.random.default_rng(3).laplace(size=50_000)
    histogram = histogram_of(values)
    candidates = np.asarray([2.0, 4.0, 8.0, histogram.absolute_maximum])
    steps = candidates[:, None] / 127
    direct = np.mean((values - np.clip(np.rint(values / steps), -127, 127) * steps) ** 2, axis=1)
    np.testing.assert_allclose(expected_squared_error(histogram, candidates), direct, rtol=0.02)


def slow_divergence(counts, size) -> float:
    """The definition, written out bin by bin."""
    reference = [float(c) for c in counts[:size]]
    reference[-1] += float(sum(counts[size:]))
    candidate = [0.0] * size
    for level in range(128):
        start, stop = level * size // 128, (level + 1) * size // 128
        filled = [i for i in range(start, stop) if counts[i] > 0]
        for i in filled:
            candidate[i] = sum(counts[start:stop]) / len(filled)
    total, spread = sum(reference), sum(candidate)
    value = 0.0
    for p, q in zip(reference, candidate, strict=True):
        if p > 0:
            value += p / total * math.log(p / total / max(q / spread, 1e-12))
    return value


@pytest.mark.parametrize("size", [128, 200, 301, 512])
def test_divergence_equals_its_definition(size):
    counts = np.random.default_rng(size).poisson(3.0, 512).astype(np.float64)
    assert divergence(counts, size) == pytest.approx(slow_divergence(counts, size), rel=1e-9)


def test_entropy_finds_the_least_divergence_of_all_prefixes():
    values = np.abs(np.random.default_rng(0).laplace(size=200_000))
    histogram = histogram_of(values, 2048)
    counts = histogram.counts.astype(np.float64)
    counts[0] = min(counts[0], counts[1])
    used = math.ceil(histogram.absolute_maximum / histogram.width)
    least = min(divergence(counts, size) for size in range(128, used + 1))
    found = divergence(counts, round(entropy_threshold(histogram) / histogram.width))
    assert found <= least * 1.05
    assert 4.0 < entropy_threshold(histogram) < histogram.absolute_maximum


def test_entropy_of_a_uniform_distribution_keeps_everything():
    histogram = histogram_of(quantiles(lambda p: 7.9 * p))
    assert entropy_threshold(histogram) == pytest.approx(7.9, rel=0.01)


def test_entropy_cuts_a_single_outlier():
    values = np.concatenate([quantiles(lambda p: p), [60.0]])
    assert entropy_threshold(histogram_of(values)) < 10.0


def test_a_tensor_of_zeros_has_threshold_zero():
    assert set(
        thresholds(histogram_of(np.zeros(5)), 99.9, ("minmax", "percentile", "entropy", "mse")).values()
    ) == {0.0}


def test_weight_mse_is_the_best_of_its_grid_per_channel():
    weight = np.random.default_rng(0).standard_t(3, (4, 8, 3, 3)).astype(np.float32)
    found = weight_thresholds(weight, 0, "mse", 99.9)
    for channel, value in zip(weight, found, strict=True):
        largest = np.abs(channel).max()
        grid = largest * np.arange(33, 65) / 64

        def error(limit, channel=channel):
            step = limit / 127
            return float(np.sum((channel - np.clip(np.rint(channel / step), -127, 127) * step) ** 2))

        assert error(value) == pytest.approx(min(error(limit) for limit in grid), rel=1e-5)


def test_weights_along_another_axis():
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(weight_thresholds(weight, 1, "minmax", 99.9), np.abs(weight).max(axis=(0, 2, 3)))
    assert weight_thresholds(weight, 1, "percentile", 50.0).shape == (3,)


def test_a_dead_channel_has_threshold_zero():
    weight = np.ones((3, 2, 1, 1), np.float32)
    weight[1] = 0
    np.testing.assert_array_equal(weight_thresholds(weight, 0, "mse", 99.9) == 0, [False, True, False])
