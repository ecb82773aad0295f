"""Thresholds from histograms: the largest absolute value that INT8 shall represent.

``scale = threshold / 127``. All methods see the histogram of absolute values, because codes are symmetric.
"""

from __future__ import annotations

import numpy as np

from calibration.histogram import StreamingHistogram
from calibration.settings import Method, WeightMethod
from calibration.table import TABLE

CODES = TABLE.activation_codes[1]
LEVELS = CODES + 1
ENTROPY_BINS = 2048
MSE_STEPS = 128
WEIGHT_STEPS = 64


def minmax_threshold(histogram: StreamingHistogram) -> float:
    """The largest absolute value seen."""
    return histogram.absolute_maximum


def percentile_threshold(histogram: StreamingHistogram, percent: float) -> float:
    """The value that ``percent`` of the absolute values do not exceed, linear inside its bin."""
    counts = histogram.counts
    target = counts.sum() * percent / 100.0
    cumulative = np.cumsum(counts)
    index = int(np.searchsorted(cumulative, target))
    if index >= counts.size or not counts[index]:
        return histogram.absolute_maximum
    inside = (target - (cumulative[index] - counts[index])) / counts[index]
    return float(min((index + inside) * histogram.width, histogram.absolute_maximum))


def entropy_threshold(histogram: StreamingHistogram) -> float:
    """The threshold whose INT8 distribution loses least information (Kullback-Leibler).

    Method of S. Migacz, "8-bit Inference with TensorRT" (GTC 2017): for every prefix of bins the clipped
    distribution (outliers added to the last bin) is compared with the same bins quantized to 128 levels. As in
    NVIDIA's pytorch-quantization the first bin is levelled to the second, because zeros cost nothing.
    """
    counts = _coarse(histogram.counts)
    width = histogram.limit / counts.size
    used = int(np.ceil(histogram.absolute_maximum / width)) if width else 0
    if used <= LEVELS:
        return histogram.absolute_maximum
    counts[0] = min(counts[0], counts[1])
    coarse = range(LEVELS, used + 1, 16)
    best = min(coarse, key=lambda size: divergence(counts, size))
    near = range(max(LEVELS, best - 16), min(used, best + 16) + 1)
    best = min(near, key=lambda size: (divergence(counts, size), size))
    return float(min(best * width, histogram.absolute_maximum))


def _coarse(counts: np.ndarray) -> np.ndarray:
    factor = max(1, counts.size // ENTROPY_BINS)
    return counts.reshape(-1, factor).sum(axis=1).astype(np.float64)


def divergence(counts: np.ndarray, size: int) -> float:
    """KL divergence in nats between the first ``size`` bins with their outliers and their 128-level version."""
    kept = counts[:size]
    reference = kept.copy()
    reference[-1] += counts[size:].sum()
    edges = (np.arange(LEVELS) * size) // LEVELS
    filled = kept > 0
    sums = np.add.reduceat(kept, edges)
    numbers = np.add.reduceat(filled.astype(np.float64), edges)
    means = np.divide(sums, numbers, out=np.zeros(LEVELS), where=numbers > 0)
    quantized = np.repeat(means, np.diff(np.append(edges, size))) * filled
    total, spread = reference.sum(), quantized.sum()
    if not total or not spread:
        return float("inf")
    present = reference > 0
    p = reference[present] / total
    q = np.maximum(quantized[present] / spread, 1e-12)
    return float(np.sum(p * np.log(p / q)))


def mse_threshold(histogram: StreamingHistogram) -> float:
    """The threshold of least expected squared error between values and their codes times the scale."""
    largest = histogram.absolute_maximum
    if not largest:
        return 0.0
    candidates = largest * np.arange(MSE_STEPS // 16, MSE_STEPS + 1) / MSE_STEPS
    errors = expected_squared_error(histogram, candidates)
    return float(candidates[int(np.argmin(errors))])


def expected_squared_error(histogram: StreamingHistogram, thresholds: np.ndarray) -> np.ndarray:
    """Mean squared quantization error for each threshold, from bin centres.

    Where a bin is wider than half a step its values are taken as evenly spread over steps (step^2 / 12).

    Returns:
        float64 of the shape of ``thresholds``.
    """
    filled = np.flatnonzero(histogram.counts)
    weights = histogram.counts[filled] / histogram.total
    centres = np.minimum((filled + 0.5) * histogram.width, histogram.absolute_maximum)
    centres[filled == 0] = 0.0 if histogram.counts[0] and filled[0] == 0 else centres[filled == 0]
    errors = []
    for threshold in np.asarray(thresholds, dtype=np.float64):
        step = threshold / CODES
        clipped = np.maximum(centres - threshold, 0.0) ** 2
        if step > 2 * histogram.width:
            rounded = (centres - np.rint(centres / step) * step) ** 2
        else:
            rounded = np.where(centres > 0, step * step / 12, 0.0)
        errors.append(float(np.dot(weights, np.where(centres > threshold, clipped, rounded))))
    return np.asarray(errors)


def thresholds(histogram: StreamingHistogram, percent: float, methods: tuple[Method, ...]) -> dict[Method, float]:
    """The threshold of each method asked for."""
    found: dict[Method, float] = {}
    for method in methods:
        if method == "minmax":
            found[method] = minmax_threshold(histogram)
        elif method == "percentile":
            found[method] = percentile_threshold(histogram, percent)
        elif method == "entropy":
            found[method] = entropy_threshold(histogram)
        else:
            found[method] = mse_threshold(histogram)
    return found


def weight_thresholds(weight: np.ndarray, axis: int, method: WeightMethod, percent: float) -> np.ndarray:
    """Thresholds of a weight, one per channel.

    Args:
        weight: float array; axis: its channel axis.
        method: ``minmax``, ``percentile`` or ``mse`` (the best of 64 shares of the maximum, by brute force).
        percent: for ``percentile``.

    Returns:
        float64 (channels,); 0 for a channel that is all zero.
    """
    rows = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).astype(np.float32)
    largest = rows.max(axis=1).astype(np.float64)
    if method == "percentile":
        return np.percentile(rows, percent, axis=1).astype(np.float64)
    if method != "mse":
        return largest
    codes = TABLE.weight_codes[1]
    best, least = largest.copy(), np.full(largest.shape, np.inf)
    safe, error = np.where(largest > 0, largest, 1.0), np.empty_like(rows)
    for share in np.arange(WEIGHT_STEPS, WEIGHT_STEPS // 2, -1) / WEIGHT_STEPS:
        step = (safe * share / codes).astype(np.float32)[:, None]
        np.rint(np.divide(rows, step, out=error), out=error)
        np.minimum(error, codes, out=error)
        error *= step
        error -= rows
        squared = np.einsum("ij,ij->i", error, error)
        better = squared < least
        least[better], best[better] = squared[better], (largest * share)[better]
    return best
