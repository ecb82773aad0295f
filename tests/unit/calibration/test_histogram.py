"""The streaming histogram equals one made at once, whatever the batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.histogram import StreamingHistogram
from calibration.observers import MOST, thinned
from calibration.thresholds import thresholds


def filled(parts, bins=256) -> StreamingHistogram:
    histogram = StreamingHistogram(bins)
    for part in parts:
        histogram.update(np.asarray(part, dtype=np.float32))
    return histogram


def test_equals_numpy_on_the_final_range():
    values = np.random.default_rng(0).normal(0, 3, 20_000).astype(np.float32)
    histogram = filled([values])
    expected, _ = np.histogram(np.abs(values), 256, (0, histogram.limit))
    assert histogram.limit in (16.0, 8.0)
    np.testing.assert_array_equal(histogram.counts, expected)
    assert histogram.minimum == values.min()
    assert histogram.maximum == values.max()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20), min_size=1, max_size=6))
def test_neither_order_nor_batches_matter(parts):
    together = filled([np.concatenate([np.asarray(part, np.float32) for part in parts])])
    apart, backwards = filled(parts), filled(parts[::-1])
    for other in (apart, backwards):
        np.testing.assert_array_equal(other.counts, together.counts)
        assert other.limit == together.limit
        assert (other.minimum, other.maximum) == (together.minimum, together.maximum)


def test_growing_keeps_every_value():
    histogram = filled([[0.1, 0.2], [1000.0], [-5.0]])
    assert histogram.total == 4
    assert histogram.limit == 1024.0
    assert histogram.absolute_maximum == 1000.0


def test_a_power_of_two_lies_inside():
    histogram = filled([[4.0]])
    assert histogram.limit == 8.0
    assert histogram.counts[128] == 1


def test_only_zeros():
    histogram = filled([np.zeros(10)])
    assert histogram.total == 10
    assert histogram.limit == 0.0
    assert histogram.absolute_maximum == 0.0
    histogram.update(np.asarray([1.5], np.float32))
    assert histogram.counts[0] == 10


def test_merged_is_the_histogram_of_both():
    a, b = np.random.default_rng(1).normal(0, 1, 500), np.random.default_rng(2).normal(0, 20, 500)
    merged, together = filled([a]).merged(filled([b])), filled([a, b])
    np.testing.assert_array_equal(merged.counts, together.counts)
    assert merged.limit == together.limit


@pytest.mark.parametrize("bins", [256, 4096])
def test_memory_does_not_grow(bins):
    histogram = filled([np.random.default_rng(i).normal(size=1000) for i in range(5)], bins)
    assert histogram.counts.size == bins


def test_thinning_takes_the_same_values_however_the_pictures_come():
    values = np.random.default_rng(0).normal(size=(4, 8, 128, 128)).astype(np.float32)
    together = thinned(values)
    assert together.shape[0] == 4 and MOST // 2 <= together.shape[1] <= 2 * MOST
    np.testing.assert_array_equal(together[2:3], thinned(values[2:3]))
    small = values[:, :, :16, :16]
    assert thinned(small) is small


def test_thinning_meets_every_column_and_channel():
    places = np.broadcast_to(np.arange(128, dtype=np.float32), (1, 8, 128, 128))
    channels = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (1, 8, 128, 128))
    assert len(np.unique(thinned(places))) == 128
    assert len(np.unique(thinned(channels))) == 8


def test_thinned_histogram_has_the_thresholds_of_all_values():
    random = np.random.default_rng(1)
    values = np.maximum(random.laplace(size=(32, 16, 64, 64)), 0).astype(np.float32)
    whole, part = StreamingHistogram(8192), StreamingHistogram(8192)
    whole.update(values)
    part.update(thinned(values), (float(values.min()), float(values.max())))
    assert part.absolute_maximum == whole.absolute_maximum and part.limit == whole.limit
    methods = ("mse", "minmax", "percentile", "entropy")
    expected, found = (thresholds(item, 99.99, methods) for item in (whole, part))
    for method in methods:
        assert found[method] == pytest.approx(expected[method], rel=0.08), method
    assert found["minmax"] == expected["minmax"]
