"""A histogram of absolute values that is filled batch by batch and grows its range.

The range is always a power of two and grows by merging pairs of bins, so the result depends neither on the
batch size nor on the order of the pictures.
"""

from __future__ import annotations

import math

import numpy as np

CHUNK = 1 << 16


class StreamingHistogram:
    """Counts of |x| in equal bins over [0, limit), plus the smallest and largest x.

    Attributes:
        counts: int64 (bins,).
        limit: upper end of the range, a power of two; 0 while only zeros were seen.
        minimum, maximum: of the values themselves (inf, -inf before the first).
    """

    def __init__(self, bins: int) -> None:
        self.counts = np.zeros(bins, dtype=np.int64)
        self.limit = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf

    @property
    def bins(self) -> int:
        """Number of bins."""
        return self.counts.size

    @property
    def width(self) -> float:
        """Width of one bin."""
        return self.limit / self.bins

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def absolute_maximum(self) -> float:
        """The largest absolute value."""
        return max(abs(self.minimum), abs(self.maximum)) if self.total else 0.0

    def update(self, values: np.ndarray, extremes: tuple[float, float] | None = None) -> None:
        """Count an array of any shape; it must be finite.

        Args:
            values: what is counted.
            extremes: smallest and largest of what ``values`` was drawn from; None where it is everything.
        """
        flat = values.reshape(-1)
        if not flat.size:
            return
        low, high = extremes or (float(flat.min()), float(flat.max()))
        self.minimum = min(self.minimum, low)
        self.maximum = max(self.maximum, high)
        self._grow(max(abs(self.minimum), abs(self.maximum)))
        if not self.limit:
            self.counts[0] += flat.size
            return
        factor = np.float32(self.bins / self.limit)
        for start in range(0, flat.size, CHUNK):
            scaled = np.abs(flat[start : start + CHUNK])
            scaled *= factor
            self.counts += np.bincount(scaled.astype(np.intp), minlength=self.bins)

    def _grow(self, largest: float) -> None:
        if largest < self.limit or not largest:
            return
        limit = 2.0 ** math.frexp(largest)[1]  # frexp: largest = m * 2**e with 0.5 <= m < 1, so largest < 2**e
        limit = max(limit, 2.0**-100)
        if self.limit:
            for _ in range(round(math.log2(limit / self.limit))):
                merged = self.counts.reshape(-1, 2).sum(axis=1)
                self.counts[:] = 0
                self.counts[: merged.size] = merged
        self.limit = limit

    def merged(self, other: StreamingHistogram) -> StreamingHistogram:
        """The histogram of both sets of values."""
        result = StreamingHistogram(self.bins)
        for part in (self, other):
            piece = StreamingHistogram(self.bins)
            piece.counts[:], piece.limit = part.counts, part.limit
            result.limit = max(result.limit, 0.0)
            largest = max(self.absolute_maximum, other.absolute_maximum)
            piece._grow(largest)
            result.counts += piece.counts
            result.limit = piece.limit
            result.minimum = min(result.minimum, part.minimum)
            result.maximum = max(result.maximum, part.maximum)
        return result
