"""Several transmissions of one scene: noise and dropout that differ from frame to frame average out.

Both functions turn grouped codes into one observation a scene, which any attack can then be fitted on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from toolkit.errors import AttackError
from toolkit.privacy.codes import Array, Pictures, WireCodes
from toolkit.wire import WireFormat


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


def averaging(send: Callable[[Pictures], Array], frames: int, step: float) -> Callable[[Pictures], Array]:
    """An encoder to the mean of ``frames`` transmissions ``(N, C, h, w)``, float32; each is drawn anew."""
    return lambda pictures: average_frames(_sent(send, frames, pictures), step).values


def stacking(send: Callable[[Pictures], Array], frames: int) -> Callable[[Pictures], Array]:
    """An encoder to ``frames`` transmissions side by side ``(N, frames * C, h, w)``."""
    return lambda pictures: stack_frames(_sent(send, frames, pictures), 1.0).values


def ways_to_join(
    send: Callable[[Pictures], Array], frames: int, fmt: WireFormat
) -> dict[str, tuple[Callable[[Pictures], Array], WireFormat | None]]:
    """``averaged`` and ``stacked``: an encoder to joined frames, and the format of them (None: floats)."""
    return {
        "averaged": (averaging(send, frames, fmt.step), None),
        "stacked": (stacking(send, frames), replace(fmt, channels=fmt.channels * frames)),
    }


def always_alike(send: Callable[[Pictures], Array], pictures: Pictures) -> bool:
    """Whether a picture has the same codes every time, so that more frames change nothing."""
    return bool(np.array_equal(np.asarray(send(pictures)), np.asarray(send(pictures))))


def _sent(send: Callable[[Pictures], Array], frames: int, pictures: Pictures) -> Array:
    if frames < 1:
        raise AttackError(f"an adversary sees at least one frame, not {frames}")
    return np.stack([np.asarray(send(pictures)) for _ in range(frames)], 1)


def _check(codes: Array) -> None:
    if codes.ndim != 5 or not codes.shape[1]:
        raise AttackError(f"frames of scenes are (N, F, C, h, w), not {codes.shape}")
