"""How bright a surface is: sky, sun and what the paint mirrors."""

from __future__ import annotations

import numpy as np

from toolkit.datasets.fleet.scene import Light

_SKY = np.array([0.93, 0.97, 1.0])
_GROUND = np.array([0.34, 0.33, 0.31])


class Lighting:
    """Colours of lit surfaces. Albedo and results are RGB in [0, 1]; results may exceed 1 before clipping."""

    def __init__(self, light: Light) -> None:
        azimuth, elevation = np.radians([light.sun_azimuth, light.sun_elevation])
        self.to_sun = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        warm = np.array([1 + light.warmth, 1.0, 1 - light.warmth])
        self.sun = 1.15 * light.sun * warm * np.array([1.0, 0.97, 0.91])
        self.sky = 1.3 * light.ambient * warm * _SKY
        self.light = light

    def diffuse(self, normals: np.ndarray) -> np.ndarray:
        """Light (n, 3) that falls on surfaces with these unit normals (n, 3)."""
        up = (0.62 + 0.38 * normals[:, 2])[:, None]
        direct = np.maximum(normals @ self.to_sun, 0.0)[:, None]
        return self.sky * up + self.sun * direct

    def shade(self, albedo: np.ndarray, normals: np.ndarray, to_eye: np.ndarray, gloss: float) -> np.ndarray:
        """Colours (n, 3) of painted surfaces.

        The clear coat mirrors a bright sky above a dark ground, more at grazing angles (Schlick 1994).

        Args:
            albedo: (3,) or (n, 3).
            normals: unit normals (n, 3).
            to_eye: unit vectors (n, 3) from the surface to the camera.
            gloss: 0 is matt, 1 is fresh paint.
        """
        facing = np.clip((normals * to_eye).sum(axis=1), 0.0, 1.0)
        mirrored = 2 * facing[:, None] * normals - to_eye
        fresnel = gloss * (0.06 + 0.94 * np.power(1 - facing, 5.0))[:, None]
        horizon = np.clip(0.5 + 2.5 * mirrored[:, 2:], 0.0, 1.0)
        around = self.sky * 1.1 * horizon + self.sky * _GROUND * (1 - horizon)
        glint = gloss * np.power(np.maximum(mirrored @ self.to_sun, 0.0), 24.0)[:, None] * self.sun * 0.8
        return albedo * self.diffuse(normals) * (1 - fresnel) + around * fresnel + glint

    def flat(self, albedo: tuple[float, float, float] | np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Colour (3,) of a matt mark on a surface with this normal."""
        return np.asarray(albedo) * self.diffuse(normal[None])[0]

    def expose(self) -> np.ndarray:
        """Look-up table uint8 (256,) of exposure and gamma, applied to the finished picture."""
        levels = np.clip(np.arange(256) / 255.0 * self.light.exposure, 0.0, 1.0)
        return np.rint(np.power(levels, self.light.gamma) * 255).astype(np.uint8)
