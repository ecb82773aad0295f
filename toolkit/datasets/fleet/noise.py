"""Noise made once and cut from for every picture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

SIDE = 512
TILE = 256
TILE_BLURS = 5


@lru_cache(maxsize=1)
def grain() -> np.ndarray:
    """Standard normal noise, float32 (SIDE, SIDE, 3)."""
    return np.random.default_rng(20240101).standard_normal((SIDE, SIDE, 3), np.float32)


@lru_cache(maxsize=TILE_BLURS)
def ground_tile(blur: int = 0) -> np.ndarray:
    """A tile of asphalt-like texture without seams, float32 (TILE, TILE) around 1.

    Args:
        blur: 0 as it is; each step more takes away the finer half of what is left.
    """
    if blur > 0:
        wrapped = np.pad(ground_tile(0), TILE // 4, mode="wrap")
        return cv2.GaussianBlur(wrapped, (0, 0), 0.5 * 2.0**blur)[
            TILE // 4 : -TILE // 4, TILE // 4 : -TILE // 4
        ].copy()
    rng = np.random.default_rng(20240102)
    total = np.zeros((TILE, TILE), np.float32)
    for octave, weight in ((4, 0.5), (16, 0.35), (64, 0.3), (256, 0.35)):
        values = rng.standard_normal((octave, octave)).astype(np.float32)
        wrapped = np.pad(values, 2, mode="wrap")
        scale = TILE // octave
        large = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        total += weight * large[2 * scale : 2 * scale + TILE, 2 * scale : 2 * scale + TILE]
    return 1.0 + 0.11 * total


def sensor_noise(size: int, seed: int) -> np.ndarray:
    """Standard normal noise, float32 (size, size, 3), that depends on the seed alone."""
    x, y, flip = np.random.default_rng(seed).integers(0, (SIDE - size + 1, SIDE - size + 1, 2))
    cut = grain()[y : y + size, x : x + size]
    return cut[:, ::-1] if flip else cut
