"""Number plates: a texture of block letters, laid onto the vehicle in perspective."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from toolkit.datasets.fleet.paint import Stage
from toolkit.datasets.fleet.scene import Plate

WIDTH, HEIGHT = 0.64, 0.18  # m
CELL_W, CELL_H, MARGIN = 44, 76, 12
LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
DIGITS = "0123456789"
_INK = np.array([0.05, 0.05, 0.10])


def draw_text(rng: np.random.Generator) -> str:
    """A random plate text: two letters and four digits (an invented scheme)."""
    return "".join([*rng.choice(list(LETTERS), 2), *rng.choice(list(DIGITS), 4)])


@lru_cache(maxsize=64)
def _glyph(letter: str) -> np.ndarray:
    """Coverage float32 (CELL_H, CELL_W) of one letter, stretched to fill its cell."""
    large = np.zeros((240, 240), np.uint8)
    cv2.putText(large, letter, (50, 190), cv2.FONT_HERSHEY_SIMPLEX, 6.0, 255, 22, cv2.LINE_AA)
    x, y, w, h = cv2.boundingRect(large)
    width = CELL_W - 8 if letter not in "1I" else (CELL_W - 8) // 2
    glyph = cv2.resize(large[y : y + h, x : x + w], (width, CELL_H), interpolation=cv2.INTER_AREA)
    cell = np.zeros((CELL_H, CELL_W), np.float32)
    left = (CELL_W - width) // 2
    cell[:, left : left + width] = glyph / np.float32(255)
    return cell


@lru_cache(maxsize=512)
def texture(plate: Plate) -> np.ndarray:
    """The plate seen straight on: float32 (h, w, 3), albedo in [0, 1]."""
    count = max(len(plate.text), 6)
    h = CELL_H + 2 * MARGIN
    w = count * CELL_W + 2 * MARGIN + 8
    ink = np.zeros((h, w), np.float32)
    x = MARGIN + 4 + (count - len(plate.text)) * CELL_W // 2
    for letter in plate.text:
        ink[MARGIN : MARGIN + CELL_H, x : x + CELL_W] = _glyph(letter)
        x += CELL_W
    ground = np.array([0.98, 0.80, 0.15] if plate.yellow else [0.96, 0.96, 0.94])
    result = ground + (_INK - ground) * ink[..., None]
    for edge in (np.s_[:3], np.s_[-3:], np.s_[:, :3], np.s_[:, -3:]):
        result[edge] = 0.25
    return result.astype(np.float32)


def plate_corners(stage: Stage) -> np.ndarray | None:
    """Corners (4, 3) of the visible plate as read: top left, top right, bottom right, bottom left."""
    if stage.end == 0:
        return None
    centre = stage.shape.plates[stage.end]
    across = np.array([-1.0, 1.0, 1.0, -1.0]) * stage.end  # read from outside: left is -y at the front
    up = np.array([1.0, 1.0, -1.0, -1.0])
    return centre + np.stack([np.zeros(4), across * WIDTH / 2, up * HEIGHT / 2], axis=1)


def add_plate(stage: Stage, plate: Plate) -> np.ndarray | None:
    """Add the visible plate; returns its corners (4, 3) or None."""
    corners = plate_corners(stage)
    if corners is None:
        return None
    light = stage.lit(np.ones(3), stage.end_name) * 1.05

    def paint(canvas: np.ndarray, pixels: np.ndarray) -> None:
        _lay(canvas, pixels.astype(np.float32), texture(plate), light)

    stage.sketch.paint(corners, paint)
    return corners


def _lay(canvas: np.ndarray, quad: np.ndarray, albedo: np.ndarray, light: np.ndarray) -> None:
    """Warp the texture onto the quad, shrunk by averaging first so that letters do not alias."""
    x0, y0 = np.maximum(np.floor(quad.min(axis=0)).astype(int) - 1, 0)
    x1 = min(int(np.ceil(quad[:, 0].max())) + 2, canvas.shape[1])
    y1 = min(int(np.ceil(quad[:, 1].max())) + 2, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    sides = [np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[3] - quad[0])]
    w = int(np.clip(round(float(sides[0])), 8, albedo.shape[1]))
    h = int(np.clip(round(float(sides[1])), 4, albedo.shape[0]))
    shrunk = cv2.resize(albedo, (w, h), interpolation=cv2.INTER_AREA)
    image = np.full((h, w, 4), 255, np.uint8)
    image[..., :3] = np.rint(np.clip(shrunk * light.astype(np.float32), 0, 1) * 255)
    source = np.array([(-0.5, -0.5), (w - 0.5, -0.5), (w - 0.5, h - 0.5), (-0.5, h - 0.5)], np.float32)
    matrix = cv2.getPerspectiveTransform(source, quad - np.array([x0, y0], np.float32))
    laid = cv2.warpPerspective(image, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    roi = canvas[y0:y1, x0:x1]
    keep = 255 - laid[..., 3:].astype(np.uint16)
    roi[:] = laid + ((roi * keep + 127) // 255).astype(np.uint8)
