"""Lamps, grille, bumpers, mirrors and what stands on the roof."""

from __future__ import annotations

import numpy as np

from toolkit.datasets.fleet.geometry import Loft, box_loft, disc
from toolkit.datasets.fleet.paint import PLASTIC, Stage, add_loft

CHROME = np.array([0.78, 0.78, 0.80])
Patch = tuple[tuple[float, float], ...]


def _circle(up: float) -> Patch:
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    return tuple(zip((0.73 + 0.15 * np.cos(angle)).tolist(), (up + 0.13 * np.sin(angle)).tolist(), strict=True))


# Corners (across, up) on the left half; mirrored for the right.
FRONT_LAMPS: tuple[Patch, ...] = (
    ((0.55, 0.56), (0.97, 0.58), (0.97, 0.80), (0.58, 0.76)),
    ((0.50, 0.58), (0.98, 0.58), (0.985, 0.88), (0.62, 0.78)),
    _circle(0.66),
    ((0.40, 0.66), (0.98, 0.66), (0.985, 0.84), (0.44, 0.78)),
)
REAR_LAMPS: tuple[Patch, ...] = (
    ((0.74, 0.52), (0.96, 0.52), (0.97, 0.90), (0.76, 0.90)),
    ((0.50, 0.64), (0.97, 0.62), (0.975, 0.84), (0.52, 0.80)),
    ((0.00, 0.72), (0.975, 0.66), (0.98, 0.86), (0.00, 0.80)),
    _circle(0.71),
)
GRILLES: tuple[Patch, ...] = (
    ((-0.45, 0.58), (0.45, 0.58), (0.45, 0.74), (-0.45, 0.74)),
    ((-0.32, 0.40), (0.32, 0.40), (0.42, 0.76), (-0.42, 0.76)),
    ((-0.50, 0.68), (0.50, 0.68), (0.42, 0.78), (-0.42, 0.78)),
    ((-0.55, 0.42), (0.55, 0.42), (0.36, 0.72), (-0.36, 0.72)),
)


def _patch(loft: Loft, corners: np.ndarray, end: int) -> np.ndarray:
    return loft.end(corners[:, 0], corners[:, 1], end)


def _mirrored(patch: Patch) -> list[np.ndarray]:
    left = np.array(patch)
    return [left, left * [-1, 1]]


def add_front(stage: Stage) -> None:
    """Grille, bumper and headlamps, when the front is visible."""
    if stage.end <= 0:
        return
    hull, vehicle = stage.shape.hull, stage.vehicle
    low = np.array([(-0.82, 0.06), (0.82, 0.06), (0.70, 0.30), (-0.70, 0.30)])
    stage.sketch.fill(_patch(hull, low, 1), stage.lit(PLASTIC, "front"))
    grille = np.array(GRILLES[vehicle.grille])
    points = _patch(hull, grille, 1)
    stage.sketch.fill(points, stage.lit(PLASTIC * 1.3, "front"))
    edge = CHROME if vehicle.trim == "chrome" else PLASTIC * 3
    stage.sketch.line(points, stage.lit(edge, "front"), 0.03, closed=True)
    low_up, high_up = grille[:, 1].min(), grille[:, 1].max()
    for up in np.linspace(low_up, high_up, 2 + vehicle.grille)[1:-1]:
        stage.sketch.line(hull.end([-0.36, 0.36], [up, up], 1), stage.lit(edge * 0.8, "front"), 0.02)
    for patch in _mirrored(FRONT_LAMPS[vehicle.front_lamps]):
        glass = _patch(hull, patch, 1)
        on = stage.lighting.light.lamps_on
        colour = np.array([1.0, 0.98, 0.90]) if on else stage.lit((0.88, 0.90, 0.93), "front")
        stage.sketch.fill(glass, colour)
        stage.sketch.line(glass, stage.lit(PLASTIC * 2, "front"), 0.015, closed=True)


def add_rear(stage: Stage) -> None:
    """Lamps, bumper, boot lid and badge, when the rear is visible."""
    if stage.end >= 0:
        return
    hull, vehicle = stage.shape.hull, stage.vehicle
    paint = np.array(vehicle.paint)
    bumper = np.array([(-0.90, 0.02), (0.90, 0.02), (0.86, 0.20), (-0.86, 0.20)])
    stage.sketch.fill(_patch(hull, bumper, -1), stage.lit(PLASTIC * 1.2, "rear"))
    seam = stage.lit(paint * 0.45, "rear")
    across = np.linspace(-0.92, 0.92, 5)
    stage.sketch.line(hull.end(across, np.full(5, 0.36), -1), seam, 0.02)
    if vehicle.trim == "chrome":
        stage.sketch.line(hull.end(across * 0.7, np.full(5, 0.66), -1), stage.lit(CHROME, "rear"), 0.035)
    red = np.array([0.95, 0.12, 0.08]) if stage.lighting.light.lamps_on else stage.lit((0.62, 0.06, 0.06), "rear")
    for patch in _mirrored(REAR_LAMPS[vehicle.rear_lamps]):
        glass = _patch(hull, patch, -1)
        stage.sketch.fill(glass, red)
        stage.sketch.line(glass, red * 0.5, 0.018, closed=True)
    for patch in _mirrored(((0.60, 0.08), (0.80, 0.08), (0.80, 0.14), (0.60, 0.14))):
        stage.sketch.fill(_patch(hull, patch, -1), stage.lit((0.60, 0.25, 0.08), "rear"))


def add_rear_extras(stage: Stage) -> None:
    """Spare wheel and spoiler, over the rear glass."""
    if stage.end >= 0:
        return
    vehicle, cabin, hull = stage.vehicle, stage.shape.cabin, stage.shape.hull
    if vehicle.spare_wheel:
        centre = hull.end([0.0], [0.86], -1)[0] - [0.1, 0, 0]
        ring = disc(np.zeros(3), 1.0, 16)[:, [1, 0, 2]]
        radius = stage.shape.wheel * 0.95
        stage.sketch.fill(centre + ring * radius, stage.lit((0.10, 0.10, 0.10), "rear"))
        stage.sketch.fill(centre + ring * radius * 0.72, stage.lit(np.array(vehicle.paint) * 0.9, "rear"))
        stage.sketch.fill(centre + ring * radius * 0.16, stage.lit(vehicle.rim, "rear"))
    if vehicle.spoiler:
        top = cabin if stage.shape.spec.tail > 0.955 else hull
        wing = top.end([-0.8, 0.8, 0.8, -0.8], [0.90, 0.90, 1.0, 1.0], -1)
        wing[:2, 0] -= 0.18
        wing[:2, 2] += 0.06
        stage.sketch.fill(wing, stage.lit(np.array(vehicle.paint) * 0.7, "top"))


def add_bed(stage: Stage) -> None:
    """A pickup's open bed, seen from above."""
    if stage.vehicle.body != "pickup":
        return
    hull = stage.shape.hull
    front = stage.shape.cabin.rear[0] / hull.front.max() - 0.03
    along = np.array([-0.93, front, front, -0.93])
    stage.sketch.fill(hull.top(along, [-0.84, -0.84, 0.84, 0.84]), stage.lit(PLASTIC * 1.6, "top"))
    stage.sketch.fill(
        hull.top(along * [0.97, 1, 1, 0.97], [-0.7, -0.7, 0.7, 0.7]), stage.lit(PLASTIC * 2.6, "top")
    )


def add_mirror(stage: Stage, side: int) -> None:
    """An outside mirror."""
    cabin, vehicle = stage.shape.cabin, stage.vehicle
    root = cabin.side([0.80], [0.14], side)[0]
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    tall = 0.26 if stage.shape.spec.roundness >= 9 else 0.10
    oval = np.stack([np.zeros(8), 0.13 * np.cos(angle), tall * np.sin(angle)], axis=1)
    colour = np.array(vehicle.paint) if vehicle.trim == "body" else PLASTIC * 1.5
    surface = stage.end_name if stage.end else stage.side_name
    stage.sketch.fill(root + np.array([0, side * 0.13, 0.02]) + oval, stage.lit(colour * 0.9, surface))


def add_roof(stage: Stage) -> None:
    """Rails, bars, box, sign, sunroof: seen from nearly everywhere."""
    vehicle, cabin = stage.vehicle, stage.shape.cabin
    top = cabin.top_z.max()
    middle = (cabin.front[-1] + cabin.rear[-1]) / 2
    metal = stage.lit((0.16, 0.16, 0.17), "top")
    if vehicle.sunroof:
        stage.sketch.fill(
            cabin.top([-0.1, 0.55, 0.55, -0.1], [-0.6, -0.6, 0.6, 0.6]), stage.lit((0.1,) * 3, "top")
        )
    if vehicle.roof in ("rails", "bars", "box"):
        for side in sorted((1, -1), key=lambda s: s * (stage.side or 1)):
            rail = cabin.top([-0.8, -0.7, 0.7, 0.8], [side * 0.88] * 4)
            rail[1:3, 2] += 0.07
            stage.sketch.line(rail, stage.lit(CHROME, "top") if vehicle.trim == "chrome" else metal, 0.045)
    if vehicle.roof in ("bars", "box"):
        for along in (-0.45, 0.45):
            bar = cabin.top([along] * 2, [-0.88, 0.88])
            bar[:, 2] += 0.09
            stage.sketch.line(bar, metal, 0.05)
    if vehicle.roof == "box":
        luggage = box_loft(middle + 0.75, middle - 0.75, 0.36, top + 0.03, top + 0.36, 5.0)
        add_loft(stage, luggage, np.full((4, 3), 0.13), gloss=0.6)
    if vehicle.roof == "sign":
        sign = box_loft(middle + 0.12, middle - 0.12, 0.30, top, top + 0.20, 8.0)
        add_loft(stage, sign, np.tile([0.95, 0.80, 0.15], (4, 1)), gloss=0.1)
