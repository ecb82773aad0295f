"""Several transmissions of one scene: noise and dropout that differ from frame to frame average out.

Both functions turn grouped codes into one observation a scene, which any attack can then be fitted on.
"""

from __future__ import annotations

import numpy as np

from toolkit.errors import AttackError
from toolkit.privacy.codes import Array, WireCodes


def average_frames(codes: Array, step: float) -> WireCodes:
    """Mean of the dequantized frames.

    Args:
        codes: ``(N, F, C, h, w)``, F frames of each of N scenes.
        step: what one code stands for.
    """
    _check(codes)
    out = np.empty((codes.shape[0], *codes.shape[2:]), np.float32)
    for scene, frames in enumerate(codes):
        out[scene] = np.asarray(frames, np.float32).mean(0) * np.float32(step)
    return WireCodes(out)


def stack_frames(codes: Array, step: float) -> WireCodes:
    """All frames side by side as channels ``(N, F * C, h, w)``: a decoder learns how to join them."""
    _check(codes)
    scenes, frames, channels, height, width = codes.shape
    return WireCodes(np.asarray(codes).reshape(scenes, frames * channels, height, width), step)


def _check(codes: Array) -> None:
    if codes.ndim != 5 or not codes.shape[1]:
        raise AttackError(f"frames of scenes are (N, F, C, h, w), not {codes.shape}")
