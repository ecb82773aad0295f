"""What stands behind the vehicle: buildings, trees, poles and parked cars."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toolkit.datasets.fleet.camera import NEAR, Camera
from toolkit.datasets.fleet.lighting import Lighting
from toolkit.datasets.fleet.sketch import fill_polygon

Polygons = list[tuple[np.ndarray, np.ndarray]]
_NEAREST = {"street": 7.5, "highway": 11.0, "parking": 8.0, "yard": 5.0}
_UNIT = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
_CROWN = np.stack([f(np.linspace(0, 2 * np.pi, 10, endpoint=False)) for f in (np.cos, np.sin)], axis=1)


def draw_items(
    picture: np.ndarray, kind: str, camera: Camera, lighting: Lighting, rng: np.random.Generator
) -> None:
    """Draw everything that stands around onto ``picture``, uint8 (S, S, 3), far to near."""
    items = _items(kind, camera, rng)
    feet = camera.transform(np.array([foot for foot, _ in items]))[:, 2]
    polygons = [polygon for i in np.argsort(-feet, kind="stable") for polygon in items[i][1]]
    local = camera.transform(np.concatenate([points for points, _ in polygons]))
    starts = np.cumsum([0, *(len(points) for points, _ in polygons[:-1])])
    pixels = local[:, :2] * (camera.scale / np.maximum(local[:, 2:], NEAR)) + camera.offset
    low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    nearest = np.minimum.reduceat(local[:, 2], starts)
    inside = ((high > 0) & (low < camera.size)).all(axis=1) | (nearest < NEAR)
    light = lighting.sky * 0.85 + lighting.sun * 0.45
    levels = np.clip(np.array([colour for _, colour in polygons]) * light * 255, 0, 255).tolist()
    far_out = ((high > 2 * camera.size) | (low < -camera.size)).any(axis=1) | (nearest < NEAR)
    for number in np.flatnonzero(inside):
        points = polygons[number][0]
        if far_out[number]:
            fill_polygon(picture, camera.project_clipped(points), levels[number])
        else:
            fill_polygon(picture, pixels[starts[number] : starts[number] + len(points)], levels[number])


def _items(kind: str, camera: Camera, rng: np.random.Generator) -> list[tuple[np.ndarray, Polygons]]:
    """Things as (where they stand (3,), their polygons), all on the far side of the vehicle."""
    away = -1.0 if camera.position[1] > 0 else 1.0
    beyond = -1.0 if camera.position[0] > 0 else 1.0
    near = _NEAREST[kind]
    items = []

    def add(make: Callable[[np.random.Generator, np.ndarray, Camera], Polygons], x: float, y: float) -> None:
        foot = np.array([x, y, 0.0])
        items.append((foot, make(rng, foot, camera)))

    for _ in range(int(rng.integers(2, 5))):
        add(_building_along, rng.uniform(-14, 14), away * (near + rng.uniform(0, 3)))
        add(_building_across, beyond * rng.uniform(14, 30), rng.uniform(-12, 12))
    for _ in range(int(rng.integers(1, 5))):
        add(_tree, rng.uniform(-12, 12), away * rng.uniform(near - 1.5, near + 6))
    for _ in range(int(rng.integers(0, 3))):
        add(_pole, rng.uniform(-8, 8), away * (near - 1.0))
    for _ in range(int(rng.integers(0, 3))):
        x = rng.uniform(-7, 7) if kind != "parking" else rng.normal(0, 0.3)
        add(_parked, x, away * (2.7 if kind == "parking" else rng.uniform(3.6, 6.0)))
    if rng.random() < 0.5:
        add(_parked, beyond * rng.uniform(8, 14), rng.uniform(-4, 4))
    return items


def _building_along(rng: np.random.Generator, foot: np.ndarray, camera: Camera) -> Polygons:
    return _building(rng, foot, camera, np.array([1.0, 0.0, 0.0]))


def _building_across(rng: np.random.Generator, foot: np.ndarray, camera: Camera) -> Polygons:
    return _building(rng, foot, camera, np.array([0.0, 1.0, 0.0]))


def _building(rng: np.random.Generator, foot: np.ndarray, camera: Camera, direction: np.ndarray) -> Polygons:
    """A wall with rows of windows, around its foot."""
    width, height = rng.uniform(5, 14), rng.uniform(2.5, 12)
    colour = rng.uniform(0.32, 0.80) * (1 + rng.normal(0, 0.10, 3))
    glass = colour * rng.uniform(0.40, 0.75) + np.array([0.0, 0.02, 0.05])
    step = rng.uniform(1.8, 3.0)
    wall = foot + (_UNIT[:, :1] - 0.5) * width * direction + _UNIT[:, 1:] * np.array([0.0, 0.0, height])
    if not _in_picture(wall, camera):
        return [(wall, colour)]
    left, low = np.meshgrid(np.arange(0.6, width - 1.2, step), np.arange(1.0, min(height - 1.2, 7.0), 2.8))
    windows = np.stack([left.ravel(), low.ravel()], axis=1)
    corners = windows[:, None] + _UNIT * [step / 2, 1.3]
    corners[..., 0] -= width / 2
    panes = foot + corners[..., :1] * direction + corners[..., 1:] * np.array([0.0, 0.0, 1.0])
    return [(wall, colour), *((pane, glass) for pane in panes)]


def _in_picture(points: np.ndarray, camera: Camera) -> bool:
    pixels = camera.project_clipped(points)
    return len(pixels) > 2 and bool(((pixels.max(axis=0) > 0) & (pixels.min(axis=0) < camera.size)).all())


def _upright(foot: np.ndarray, right: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """An outline (n, 2) of metres right and up, turned to the camera."""
    return foot + outline[:, :1] * right + outline[:, 1:] * np.array([0.0, 0.0, 1.0])


def _bar(half: float, height: float) -> np.ndarray:
    return np.array([(-half, 0.0), (half, 0.0), (half, height), (-half, height)])


def _tree(rng: np.random.Generator, foot: np.ndarray, camera: Camera) -> Polygons:
    green = np.array([0.18, 0.33, 0.12]) * rng.uniform(0.7, 1.4)
    polygons = [(_upright(foot, camera.rotation[0], _bar(0.1, 2.5)), np.array([0.24, 0.18, 0.12]))]
    for _ in range(5):
        middle = np.array([rng.normal(0, 0.6), rng.uniform(1.6, 3.8)])
        crown = middle + _CROWN * rng.uniform(0.5, 1.1) * rng.uniform(0.8, 1.2, (10, 1))
        polygons.append((_upright(foot, camera.rotation[0], crown), green * rng.uniform(0.75, 1.25)))
    return polygons


def _pole(rng: np.random.Generator, foot: np.ndarray, camera: Camera) -> Polygons:
    return [
        (_upright(foot, camera.rotation[0], _bar(0.06, rng.uniform(3, 8))), np.full(3, rng.uniform(0.15, 0.6)))
    ]


def _parked(rng: np.random.Generator, foot: np.ndarray, camera: Camera) -> Polygons:
    """Another vehicle, as a plain box with a band of glass."""
    colour = rng.uniform(0.1, 0.85) * (1 + rng.normal(0, 0.15, 3))
    half_l, half_w, height = rng.uniform(1.9, 2.4), 0.9, rng.uniform(1.35, 1.9)
    polygons: Polygons = []
    for low, high, inset, tone in ((0.25, 0.95, 0.0, colour), (0.95, height, 0.5, colour * 0.25)):
        a, b = half_l - inset, half_w - inset * 0.3
        ring = foot + np.array([(-a, -b, 0.0), (a, -b, 0.0), (a, b, 0.0), (-a, b, 0.0)])
        up, down = ring + np.array([0, 0, high]), ring + np.array([0, 0, low])
        for i in (0, 2, 1, 3):
            j = (i + 1) % 4
            polygons.append((np.stack([down[i], down[j], up[j], up[i]]), tone * (0.7 + 0.1 * i)))
        polygons.append((up, colour))
    return polygons
