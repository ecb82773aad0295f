"""The surroundings: ground in perspective with its markings, the sky, and the vehicle's shadow."""

from __future__ import annotations

import cv2
import numpy as np

from toolkit.datasets.fleet.camera import Camera
from toolkit.datasets.fleet.lighting import Lighting
from toolkit.datasets.fleet.noise import TILE, TILE_BLURS, ground_tile
from toolkit.datasets.fleet.scene import Background
from toolkit.datasets.fleet.scenery import Polygons, draw_items
from toolkit.datasets.fleet.sketch import fill_polygon

TILE_METRES = 7.0
REACH = 70.0  # m, how far the ground is drawn


def render_background(background: Background, camera: Camera, lighting: Lighting) -> np.ndarray:
    """The picture without the vehicle: float32 (S, S, 3), levels 0..255."""
    rng = np.random.default_rng([background.seed, 7])
    size = camera.size
    picture = _sky(size, lighting, rng)
    mask = np.zeros((size, size), np.uint8)
    fill_polygon(mask, camera.project_clipped(_rect(-REACH, REACH, -REACH, REACH)), 255)
    ground = _ground(background.kind, camera, lighting, rng)
    cv2.copyTo(ground, mask, picture)
    draw_items(picture, background.kind, camera, lighting, rng)
    return cv2.GaussianBlur(picture, (3, 3), 0.6 * size / 128).astype(np.float32)


def add_shadow(picture: np.ndarray, outline: np.ndarray, camera: Camera, lighting: Lighting) -> np.ndarray:
    """Darken the ground below the vehicle and where its shadow falls.

    Args:
        picture: float32 (S, S, 3).
        outline: points (n, 3) that span the vehicle.
        camera: of the picture.
        lighting: of the picture.
    """
    size = camera.size
    strength = lighting.light.sun / max(lighting.light.sun + lighting.light.ambient, 1e-6)
    cast = outline.copy()
    cast[:, :2] -= lighting.to_sun[:2] / lighting.to_sun[2] * cast[:, 2:]
    cast[:, 2] = 0.0
    below = outline * [0.99, 0.99, 0.0]
    field = np.zeros((size, size), np.float32)
    for points, depth, sigma in ((cast, 0.75 * strength, 0.008), (below, 0.62, 0.022)):
        mask = np.zeros((size, size), np.uint8)
        fill_polygon(mask, cv2.convexHull(camera.project(points).astype(np.float32))[:, 0], 255)
        soft = cv2.GaussianBlur(mask, (0, 0), sigma * size).astype(np.float32)
        field = np.maximum(field, soft * np.float32(depth / 255))
    return picture * (1.0 - field[..., None])


def _sky(size: int, lighting: Lighting, rng: np.random.Generator) -> np.ndarray:
    top = lighting.sky * np.array([0.80, 0.92, 1.05]) * rng.uniform(0.9, 1.1)
    low = lighting.sky * np.array([1.1, 1.08, 1.05])
    ramp = np.linspace(0, 1, size)[:, None]
    column = np.clip((top + (low - top) * ramp) * 255, 0, 255).astype(np.uint8)
    return np.repeat(column[:, None], size, axis=1)


def _ground(kind: str, camera: Camera, lighting: Lighting, rng: np.random.Generator) -> np.ndarray:
    """Ground with its markings and texture, uint8 (S, S, 3); only right below the horizon."""
    size = camera.size
    tone = rng.uniform(0.26, 0.50)
    base = np.empty((size, size, 3), np.float32)
    base[:] = tone * (1 + rng.normal(0, 0.03, 3))
    for polygon, colour in _markings(kind, tone, rng):
        fill_polygon(base, camera.project_clipped(polygon), colour.tolist())
    texture = _ground_texture(camera, rng.uniform(0, TILE, 2))
    light = (lighting.diffuse(np.array([[0.0, 0.0, 1.0]]))[0] * 255).astype(np.float32)
    base *= texture[..., None]
    base *= light
    return np.clip(base, 0, 255, out=base).astype(np.uint8)


def _ground_texture(camera: Camera, shift: np.ndarray) -> np.ndarray:
    """Factors around 1, float32 (S, S): the tile laid on the ground, blurred first where it is seen small."""
    per_metre = TILE / TILE_METRES
    depth = float(np.linalg.norm(camera.position))
    blur = int(np.clip(round(np.log2(per_metre * depth / camera.scale)), 0, TILE_BLURS - 1))
    to_tile = np.array([[per_metre, 0, shift[0]], [0, per_metre, shift[1]], [0, 0, 1.0]])
    centre = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # a pixel's index to its middle
    return cv2.warpPerspective(
        ground_tile(blur),
        to_tile @ np.linalg.inv(camera.ground_homography()) @ centre,
        (camera.size, camera.size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )


def _markings(kind: str, tone: float, rng: np.random.Generator) -> Polygons:
    white = np.full(3, 0.80) * rng.uniform(0.8, 1.1)
    if kind in ("street", "highway"):
        return _road(kind, tone, white, rng)
    if kind == "parking":
        return [(_rect(-2.6, 2.6, y - 0.06, y + 0.06), white) for y in (-4.05, -1.35, 1.35, 4.05)]
    patch = np.full(3, tone * rng.uniform(0.7, 1.5))
    return [(_rect(*np.sort(rng.uniform(-8, 8, 2)), *np.sort(rng.uniform(-8, 8, 2))), patch)]


def _road(kind: str, tone: float, white: np.ndarray, rng: np.random.Generator) -> Polygons:
    edge = rng.uniform(4.2, 7.0)
    green = kind == "highway" or rng.random() < 0.4
    verge = np.array([0.28, 0.40, 0.19]) if green else np.full(3, tone + 0.18)
    shapes: Polygons = []
    for side in (1, -1):
        shapes.append((_rect(-REACH, REACH, side * edge, side * REACH), verge * rng.uniform(0.8, 1.2)))
        shapes.append((_rect(-REACH, REACH, side * edge, side * (edge + 0.25)), np.full(3, tone + 0.28)))
        shapes.append((_rect(-REACH, REACH, side * (edge - 0.6), side * (edge - 0.45)), white))
    offset, lane = rng.uniform(0, 6), rng.choice([-1, 1]) * 1.75
    for x in np.arange(-18, 18, 6.0) + offset:
        shapes.append((_rect(x, x + 3, lane - 0.07, lane + 0.07), white))
    if kind == "street" and rng.random() < 0.3:
        x = rng.choice([-1, 1]) * rng.uniform(3.5, 6)
        shapes += [(_rect(x - 1.4, x + 1.4, y, y + 0.5), white) for y in np.arange(-4, 4, 1.0)]
    return shapes


def _rect(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)])
