"""How far the calibration set lies from another set, by the network's own features."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from calibration.errors import PictureError
from calibration.prepare import Prepared
from calibration.suffix import activations_of

logger = logging.getLogger(__name__)
FAR = 0.1
LEVEL = 0.01
PERMUTATIONS = 200
MOST = 256


@dataclass(frozen=True)
class Drift:
    """Distance of two sets of feature vectors.

    Attributes:
        distance: energy coefficient in [0, 1], 0 for equal distributions (G. Szekely, M. Rizzo, 2013).
        p_value: share of random relabellings that are at least as far apart.
        far: distance above 0.1 and p-value at most 0.01.
    """

    distance: float
    p_value: float
    far: bool


def pooled_features(prepared: Prepared, pictures: np.ndarray, batch: int, threads: int) -> np.ndarray:
    """Mean of the wire's feature over places.

    Args:
        pictures: float32 (N, C, H, W).

    Returns:
        float64 (N, channels).
    """
    feature = prepared.wire.feature
    parts = []
    for start in range(0, len(pictures), batch):
        values = activations_of(prepared, [feature], pictures[start : start + batch], threads)[feature]
        parts.append(values.reshape(*values.shape[:2], -1).mean(axis=2, dtype=np.float64))
    return np.concatenate(parts)


def feature_drift(calibration: np.ndarray, validation: np.ndarray, seed: int) -> Drift:
    """Compare two sets of feature vectors and log a warning when they are far apart.

    Each feature is divided by its pooled standard deviation. Sets larger than 256 are sampled.

    Args:
        calibration, validation: float (N, D) and (M, D); seed: of the sampling and the relabellings.

    Raises:
        PictureError: fewer than two vectors on a side, or different widths.
    """
    if min(len(calibration), len(validation)) < 2 or calibration.shape[1:] != validation.shape[1:]:
        raise PictureError(f"cannot compare features of shape {calibration.shape} and {validation.shape}")
    generator = np.random.default_rng(seed)
    first, second = (_sample(values, generator) for values in (calibration, validation))
    both = np.concatenate([first, second]).astype(np.float64)
    spread = both.std(axis=0)
    both /= np.where(spread > 0, spread, 1.0)
    square = np.square(both).sum(axis=1)
    distances = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * both @ both.T, 0.0))
    labels = np.arange(len(both)) < len(first)
    distance = _energy(distances, labels)
    chance = [_energy(distances, generator.permutation(labels)) for _ in range(PERMUTATIONS)]
    p_value = (1 + sum(value >= distance for value in chance)) / (1 + PERMUTATIONS)
    far = distance > FAR and p_value <= LEVEL
    if far:
        logger.warning(
            "the calibration set is far from the validation set (%.2f of 1); choose other pictures",
            distance,
        )
    return Drift(distance, p_value, far)


def _sample(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if len(values) <= MOST:
        return values
    return values[np.sort(generator.choice(len(values), MOST, replace=False))]


def _energy(distances: np.ndarray, labels: np.ndarray) -> float:
    between = distances[np.ix_(labels, ~labels)].mean()
    within = distances[np.ix_(labels, labels)].mean() + distances[np.ix_(~labels, ~labels)].mean()
    return float((2 * between - within) / (2 * between)) if between else 0.0
