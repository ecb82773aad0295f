"""The streaming histogram equals one made at once, whatever the batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.histogram import StreamingHistogram


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
