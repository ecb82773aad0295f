"""The device's noise: normal, independent, never the same twice."""

import math

import numpy as np
import pytest

from toolkit.wire import standard_normal


def test_the_devices_noise_is_standard_normal():
    values = standard_normal((25, 4, 50, 40))  # 200,000 numbers: the bounds are at least five standard errors
    assert values.dtype == np.float32 and values.shape == (25, 4, 50, 40)
    assert np.isfinite(values).all()
    assert abs(values.mean()) < 0.012
    assert values.std() == pytest.approx(1, abs=0.009)
    flat = np.sort(values.ravel().astype(np.float64))
    normal = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in flat[::100]])
    assert np.abs(normal - np.arange(len(flat))[::100] / len(flat)).max() < 0.006  # Kolmogorov and Smirnov


def test_both_numbers_of_a_pair_are_independent():
    first, second = np.split(standard_normal((100_000,)), 2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.025
    assert abs(np.corrcoef(np.abs(first), np.abs(second))[0, 1]) < 0.025


def test_the_device_draws_anew_and_a_seed_repeats():
    assert not np.array_equal(standard_normal((1, 3)), standard_normal((1, 3)))
    once, again = (standard_normal((1, 2, 3, 4), np.random.default_rng(7)) for _ in range(2))
    assert once.dtype == np.float32
    assert np.array_equal(once, again)


def test_odd_counts():
    assert standard_normal((1, 1, 1, 1)).shape == (1, 1, 1, 1)
    assert standard_normal((3,)).shape == (3,)
