"""What lens and sensor do to the two layers, the vehicle (with coverage) and the background.

Each blur is linear and is applied to both layers alike before they are put together. So a pixel that only the
vehicle covers does not depend on the background at all.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from toolkit.datasets.fleet.scene import Light, View


def reach_of(view: View, size: int) -> int:
    """How far, in pixels, a change can spread: antialiasing, defocus, motion and lost resolution."""
    pixels = 1.0 + view.motion * size / 2 + _radius(view, size)
    if view.resolution < 1.0:
        pixels += 2.0 / view.resolution + 1.0
    return math.ceil(pixels) + 1


def _radius(view: View, size: int) -> int:
    return math.ceil(3 * view.defocus * size) if view.defocus * size >= 0.2 else 0


def blur_layer(layer: np.ndarray, view: View) -> np.ndarray:
    """Lost resolution and defocus; layer uint8 or float32 (S, S, C)."""
    size = layer.shape[0]
    small = round(size * view.resolution)
    if small < size:
        layer = cv2.resize(layer, (small, small), interpolation=cv2.INTER_AREA)
        layer = cv2.resize(layer, (size, size), interpolation=cv2.INTER_LINEAR)
    radius = _radius(view, size)
    if radius:
        layer = cv2.GaussianBlur(layer, (2 * radius + 1, 2 * radius + 1), view.defocus * size)
    return layer


def smear(layer: np.ndarray, length: float, direction: np.ndarray) -> np.ndarray:
    """Motion blur of ``length`` pixels along ``direction`` (2,)."""
    if length < 1.0:
        return layer
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side), np.float32)
    middle, half = side // 2, direction / max(np.linalg.norm(direction), 1e-9) * (length / 2)
    start, end = np.rint((middle + np.array([-half, half])) * 16).astype(int).tolist()
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_8, 4)
    return cv2.filter2D(layer, -1, kernel / kernel.sum())


def shade_field(light: Light, size: int) -> np.ndarray | None:
    """A shadow's soft edge across the picture as factors, float32 (S, S, 1); None without one."""
    if light.shade <= 0.0:
        return None
    angle = math.radians(light.shade_angle)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    distance = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle) - light.shade_offset
    return (1.0 - light.shade * np.clip(0.5 + distance * 14.0, 0.0, 1.0))[..., None].astype(np.float32)
