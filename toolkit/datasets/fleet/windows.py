"""Glass, and the people behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from toolkit.datasets.fleet.paint import PLASTIC, Stage
from toolkit.datasets.fleet.scene import Occupant
from toolkit.datasets.fleet.sketch import SHIFT, UNIT, Colour, opaque

_ANGLE = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)
_SHOULDERS = np.array(
    [(-0.10, -0.12), (0.10, -0.12), (0.25, -0.24), (0.27, -0.70), (-0.27, -0.70), (-0.25, -0.24)]
)
_HEADREST = np.array([(-0.12, -0.16), (0.12, -0.16), (0.14, 0.06), (0.09, 0.11), (-0.09, 0.11), (-0.14, 0.06)])
_SEAT = np.array([(-0.22, -0.18), (0.22, -0.18), (0.25, -0.70), (-0.25, -0.70)])
HEAD = 0.125  # m, radius

PixelBox = tuple[int, int, int, int]


@dataclass
class Seen:
    """Filled while drawing: each occupant's box on the canvas (x0, y0, x1, y1), or None where hidden."""

    boxes: list[PixelBox | None] = field(default_factory=list)


@dataclass(frozen=True)
class _Figure:
    """A flat shape inside the cabin; ``occupant`` is a number, or -1 for the seat itself."""

    points: np.ndarray
    colour: Colour
    occupant: int


def add_windows(stage: Stage, occupants: tuple[Occupant, ...]) -> Seen:
    """Add all visible glass; returns what will be seen of the occupants."""
    seen = Seen([None] * len(occupants))
    panes = _panes(stage)
    if not panes:
        return seen
    figures = _figures(stage, occupants)
    lengths = [len(points) for points, _ in panes] + [len(figure.points) for figure in figures]
    cuts = np.cumsum(lengths)[:-1]
    tints = [tint for _, tint in panes]
    sky = stage.lighting.sky

    def paint(canvas: np.ndarray, pixels: np.ndarray) -> None:
        parts = np.split(np.rint(pixels * UNIT).astype(np.int32), cuts)
        _paint_glass(
            canvas, parts[: len(panes)], tints, list(zip(figures, parts[len(panes) :], strict=True)), sky, seen
        )

    stage.sketch.paint(np.concatenate([p for p, _ in panes] + [f.points for f in figures]), paint)
    frame = stage.lit(PLASTIC if stage.vehicle.trim != "chrome" else (0.7, 0.7, 0.72), stage.side_name)
    for points, _ in panes:
        stage.sketch.line(points, frame, 0.02, closed=True)
    return seen


def _panes(stage: Stage) -> list[tuple[np.ndarray, float]]:
    """Outlines (n, 3) of the glass that faces the camera, with the darkness of each."""
    cabin, shape, vehicle = stage.shape.cabin, stage.shape, stage.vehicle
    panes = []
    across = np.linspace(-0.88, 0.88, 5)
    wide = np.concatenate([across, across[::-1]])
    panes.append((cabin.end(wide, np.repeat([0.10, 0.86], 5), 1), 0.1))
    if shape.spec.rear_window and not (vehicle.body == "van" and vehicle.tint > 0.6):
        panes.append((cabin.end(wide * 0.93, np.repeat([0.16, 0.84], 5), -1), vehicle.tint))
    if stage.side:
        for rear, front in shape.windows:
            along = np.linspace(rear, front, 4)
            outline = np.concatenate([along, along[::-1]])
            dark = 0.2 if front > 0.7 else vehicle.tint
            panes.append((cabin.side(outline, np.repeat([0.11, 0.86], 4), stage.side), dark))
    return [(points, dark) for points, dark in panes if _faces(points, stage.camera.position)]


def _faces(points: np.ndarray, eye: np.ndarray) -> bool:
    """Whether a pane's outer side is turned to the eye; a sliver counts as turned away."""
    half = len(points) // 2
    (a, b, c), (d, e, f) = points[half] - points[0], points[-1] - points[half - 1]
    normal = np.array([b * f - c * e, c * d - a * f, a * e - b * d])
    centre = (points[0] + points[half]) / 2
    if normal[:2] @ centre[:2] < 0:
        normal = -normal
    to_eye = eye - centre
    return bool(normal @ to_eye > 0.08 * math.sqrt((normal @ normal) * (to_eye @ to_eye)))


def _figures(stage: Stage, occupants: tuple[Occupant, ...]) -> list[_Figure]:
    """Seats and people, far to near."""
    seats, camera = stage.shape.seats, stage.camera
    right, up = camera.rotation[0], np.array([0.0, 0.0, 1.0])
    from_front = camera.position[0] > 0
    grey = opaque(stage.lit((0.20, 0.20, 0.21), "top"))
    by_seat: dict[int, list[int]] = {}
    for number, occupant in enumerate(occupants):
        by_seat.setdefault(occupant.seat % len(seats), []).append(number)
    figures: list[_Figure] = []
    for seat in np.argsort(-np.linalg.norm(seats - camera.position, axis=1)):
        middle = seats[seat]
        chair = [_flat(middle, outline, right, up, grey, -1) for outline in (_SEAT, _HEADREST)]
        people = [
            figure for number in by_seat.get(int(seat), []) for figure in _person(
                stage, occupants[number], number, middle, right, up, from_front)
        ]  # fmt: skip
        figures += chair + people if from_front else people + chair
    return figures


def _person(
    stage: Stage,
    occupant: Occupant,
    number: int,
    seat: np.ndarray,
    right: np.ndarray,
    up: np.ndarray,
    from_front: bool,
) -> list[_Figure]:
    middle = seat + np.array([0.0, occupant.lean, 0.03 + 0.1 * (occupant.size - 1)])
    size = occupant.size
    clothes, hair, skin = (
        opaque(stage.lit(c, "top") * 0.9) for c in (occupant.clothes, occupant.hair, occupant.skin)
    )
    head = _CIRCLE * [HEAD * 0.9 * size, HEAD * 1.15 * size]
    figures = [
        _flat(middle, _SHOULDERS * size, right, up, clothes, number),
        _flat(middle, head * 1.12 + [0, 0.015], right, up, hair, number),
    ]
    if from_front:
        figures.append(_flat(middle - [0, 0, 0.035], head * 0.86, right, up, skin, number))
    return figures


def _flat(
    middle: np.ndarray, outline: np.ndarray, right: np.ndarray, up: np.ndarray, colour: Colour, occupant: int
) -> _Figure:
    return _Figure(middle + outline[:, :1] * right + outline[:, 1:] * up, colour, occupant)


def _paint_glass(
    canvas: np.ndarray,
    panes: list[np.ndarray],
    tints: list[float],
    figures: list[tuple[_Figure, np.ndarray]],
    sky: np.ndarray,
    seen: Seen,
) -> None:
    """Draw the inside once, then show it through each pane, darkened and with the sky mirrored in it."""
    x, y, w, h = cv2.boundingRect(np.concatenate(panes) >> SHIFT)
    x0, y0 = max(x - 1, 0), max(y - 1, 0)
    x1, y1 = min(x + w + 2, canvas.shape[1]), min(y + h + 2, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    offset = np.array([x0, y0], np.int32) * UNIT
    inside = np.empty((y1 - y0, x1 - x0, 4), np.uint8)
    inside[:] = opaque(sky * 0.10)
    for figure, points in figures:
        cv2.fillConvexPoly(inside, points - offset, figure.colour, cv2.LINE_AA, SHIFT)
    mirrored = np.linspace(0.34, 0.10, y1 - y0)[:, None] * np.append(np.minimum(sky, 1.0), 0.0) * 255
    mirror = np.repeat(mirrored[:, None].astype(np.uint8), x1 - x0, axis=1)
    roi = canvas[y0:y1, x0:x1]
    everywhere = np.zeros(roi.shape[:2], np.uint8)
    for points, tint in zip(panes, tints, strict=True):
        mask = np.zeros(roi.shape[:2], np.uint8)
        cv2.fillPoly(mask, [points - offset], 255, cv2.LINE_8, SHIFT)
        shown = cv2.addWeighted(inside, 0.92 - 0.72 * tint, mirror, 1.0 - 0.5 * tint, 0.0)
        shown[..., 3] = 255
        cv2.copyTo(shown, mask, roi)
        everywhere |= mask
    for number in range(len(seen.boxes)):
        seen.boxes[number] = _visible_box([p for f, p in figures if f.occupant == number], everywhere, offset)


def _visible_box(shapes: list[np.ndarray], mask: np.ndarray, offset: np.ndarray) -> PixelBox | None:
    silhouette = np.zeros_like(mask)
    for points in shapes:
        cv2.fillConvexPoly(silhouette, points - offset, 255, cv2.LINE_AA, SHIFT)
    x, y, w, h = cv2.boundingRect(cv2.bitwise_and(silhouette, mask))
    if w == 0 or h == 0:
        return None
    x0, y0 = x + int(offset[0]) // UNIT, y + int(offset[1]) // UNIT
    return x0, y0, x0 + w, y0 + h
