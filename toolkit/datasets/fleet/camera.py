"""The camera: projection of vehicle coordinates to the picture, and the fixed cameras of the fleet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from toolkit.datasets.fleet.scene import Light, View

NEAR = 0.4  # m; what is nearer than this is clipped


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. ``scale`` and ``offset`` frame the picture: u = scale * x / z + offset, in pixels.

    Pixel coordinates are continuous: the picture spans [0, size] in both directions.
    """

    position: np.ndarray
    rotation: np.ndarray
    scale: float
    offset: np.ndarray
    size: int

    def transform(self, points: np.ndarray) -> np.ndarray:
        """Camera coordinates (n, 3): right, down, depth; metres."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) of points (n, 3) in front of the camera."""
        local = self.transform(points)
        return local[:, :2] * (self.scale / np.maximum(local[:, 2:], NEAR)) + self.offset

    def project_clipped(self, points: np.ndarray) -> np.ndarray:
        """Pixels (m, 2) of a polygon of which parts may be behind the camera or far beside the picture.

        What lies more than a picture's side outside is cut off; empty when nothing remains.
        """
        local = self.transform(points)
        local = _cut(local, local[:, 2] - NEAR)
        if not len(local):
            return np.empty((0, 2))
        pixels = local[:, :2] * (self.scale / local[:, 2:]) + self.offset
        for axis in (0, 1):
            for sign, bound in ((1.0, self.size), (-1.0, 2.0 * self.size)):
                if len(pixels):
                    pixels = _cut(pixels, sign * pixels[:, axis] + bound)
        return pixels

    def ground_homography(self) -> np.ndarray:
        """3x3 matrix from the ground's (x, y, 1), metres, to pixels."""
        r, p = self.rotation, self.position
        m = np.stack([r[:, 0], r[:, 1], -r @ p], axis=1)
        k = np.array([[self.scale, 0, self.offset[0]], [0, self.scale, self.offset[1]], [0, 0, 1.0]])
        return k @ m


def _cut(points: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The part of a polygon (n, d) where ``inside`` (n,), linear between corners, is positive.

    One step of Sutherland and Hodgman, "Reentrant polygon clipping", CACM 1974.
    """
    if (inside > 0).all():
        return points
    result = []
    for i in range(len(points)):
        a, b = inside[i - 1], inside[i]
        if (a > 0) != (b > 0):
            result.append(points[i - 1] + (points[i] - points[i - 1]) * (a / (a - b)))
        if b > 0:
            result.append(points[i])
    return np.array(result).reshape(-1, points.shape[1])


def place_camera(view: View, hull: np.ndarray, framed: np.ndarray, size: int) -> Camera:
    """Put a camera where ``view`` says.

    Args:
        view: angles, distance, framing.
        hull: points (n, 3) of the whole vehicle; the distance is counted from them.
        framed: points (n, 3) that are to fill the picture.
        size: side of the picture, pixels.
    """
    azimuth, elevation, roll = np.radians([view.azimuth, view.elevation, view.roll])
    outward = np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    target = framed.mean(axis=0)
    position = target + outward * (view.distance + ((hull - target) @ outward).max())
    position[2] = max(position[2], 0.35)
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    rotation = np.stack([right, down, forward])
    local = (framed - position) @ rotation.T
    flat = local[:, :2] / local[:, 2:]
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = size * view.fill / (high - low).max()
    shift = np.array([view.shift_x, view.shift_y]) * size
    return Camera(position, rotation, scale, size / 2 - scale * (low + high) / 2 + shift, size)


@dataclass(frozen=True)
class CameraSpec:
    """A fixed camera of the fleet: where it stands to the traffic, its light and its sensor."""

    azimuth: float
    elevation: float
    distance: float
    frame: Literal["vehicle", "rear", "front"]
    sun: float
    ambient: float
    warmth: float
    exposure: float
    noise: float
    resolution: float
    defocus: float


REAR_CAMERAS = (
    CameraSpec(150, 16, 9.0, "vehicle", 0.60, 0.55, 0.02, 1.00, 2.0, 1.0, 0.0),
    CameraSpec(180, 9, 5.0, "rear", 0.30, 0.68, -0.03, 1.00, 2.0, 1.0, 0.0),
    CameraSpec(166, 26, 11.0, "vehicle", 0.70, 0.48, 0.05, 1.00, 3.0, 0.9, 0.002),
    CameraSpec(142, 22, 13.0, "vehicle", 0.15, 0.62, -0.06, 0.90, 5.0, 0.8, 0.003),
    CameraSpec(200, 14, 8.0, "vehicle", 0.55, 0.55, 0.00, 1.00, 2.0, 1.0, 0.0),
    CameraSpec(178, 34, 12.0, "vehicle", 0.75, 0.42, 0.06, 1.05, 4.0, 0.8, 0.003),
)
OTHER_CAMERAS = (
    CameraSpec(32, 20, 11.0, "vehicle", 0.70, 0.48, 0.05, 1.00, 3.0, 0.85, 0.002),
    CameraSpec(96, 12, 8.0, "vehicle", 0.55, 0.55, 0.00, 1.00, 2.0, 1.0, 0.0),
    CameraSpec(4, 14, 10.0, "vehicle", 0.40, 0.60, 0.03, 0.95, 3.0, 0.9, 0.002),
    CameraSpec(-42, 18, 9.0, "vehicle", 0.08, 0.50, -0.08, 0.75, 8.0, 0.8, 0.004),
)
CATALOGUES: dict[str, tuple[CameraSpec, ...]] = {
    "rear": REAR_CAMERAS,
    "mixed": tuple(spec for pair in zip(REAR_CAMERAS, OTHER_CAMERAS, strict=False) for spec in pair),
}


def spec_of(camera: int, views: Literal["rear", "mixed"]) -> CameraSpec:
    """The fixed camera with this number; beyond the catalogue the cameras repeat, from a little higher."""
    catalogue = CATALOGUES[views]
    spec, turn = catalogue[camera % len(catalogue)], camera // len(catalogue)
    return replace(spec, azimuth=spec.azimuth + 7 * turn, elevation=spec.elevation + 5 * turn)


def draw_view(spec: CameraSpec, rng: np.random.Generator) -> View:
    """A picture's view: the camera's own, with the vehicle somewhere on its lane."""
    fast = rng.random() < 0.3
    return View(
        azimuth=spec.azimuth + rng.normal(0, 7 if spec.frame == "vehicle" else 5),
        elevation=float(np.clip(spec.elevation + rng.normal(0, 2), 3, 55)),
        distance=spec.distance * rng.uniform(0.75, 1.35),
        roll=rng.normal(0, 1.2),
        frame=spec.frame,
        fill=rng.uniform(0.84, 1.0),
        shift_x=rng.normal(0, 0.02),
        shift_y=rng.normal(0, 0.02),
        motion=rng.uniform(0.008, 0.022) if fast and spec.frame == "vehicle" else 0.0,
        defocus=spec.defocus * rng.uniform(0.3, 1.5),
        resolution=float(np.clip(spec.resolution * rng.uniform(0.85, 1.15), 0.4, 1.0)),
    )


def draw_light(spec: CameraSpec, rng: np.random.Generator) -> Light:
    """A picture's light: the camera's own, with the weather and the hour of the day."""
    shaded = rng.random() < 0.25
    return Light(
        sun_azimuth=rng.uniform(0, 360),
        sun_elevation=rng.uniform(25, 65),
        sun=spec.sun * rng.uniform(0.6, 1.2),
        ambient=spec.ambient * rng.uniform(0.9, 1.1),
        warmth=spec.warmth + rng.normal(0, 0.02),
        exposure=spec.exposure * rng.uniform(0.9, 1.1),
        gamma=rng.uniform(0.92, 1.08),
        noise=spec.noise * rng.uniform(0.7, 1.3),
        noise_seed=int(rng.integers(2**31)),
        shade=rng.uniform(0.25, 0.5) if shaded else 0.0,
        shade_angle=rng.uniform(0, 360),
        shade_offset=rng.uniform(-0.3, 0.3),
        lamps_on=bool(spec.ambient * spec.exposure + spec.sun < 0.75),
    )
