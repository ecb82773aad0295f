"""Decals: stripes, discs, triangles, checkers and slashes in the vehicle's own places."""

from __future__ import annotations

import numpy as np

from toolkit.datasets.fleet.geometry import Loft
from toolkit.datasets.fleet.paint import Stage
from toolkit.datasets.fleet.scene import Decal

_ANGLE = np.linspace(0, 2 * np.pi, 14, endpoint=False)
OUTLINES = {
    "stripe": [np.array([(-3.0, -0.22), (3.0, -0.22), (3.0, 0.22), (-3.0, 0.22)])],
    "disc": [0.8 * np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)],
    "triangle": [np.array([(-0.9, -0.7), (0.9, -0.7), (0.0, 0.9)])],
    "checker": [
        np.array([(x, y), (x + 0.6, y), (x + 0.6, y + 0.6), (x, y + 0.6)])
        for x, y in ((-0.9, -0.6), (-0.3, 0.0), (0.3, -0.6))
    ],
    "slash": [np.array([(-1.6, -0.8), (-0.9, -0.8), (1.6, 0.8), (0.9, 0.8)])],
}


def add_decals(stage: Stage, where: str) -> None:
    """The decals of one place, if that place is visible."""
    for decal in stage.vehicle.decals:
        if decal.where != where:
            continue
        if where == "side" and stage.side:
            _on_side(stage, decal)
        elif where == "rear" and stage.end < 0:
            _on_rear(stage, decal)
        elif where == "hood":
            _on_hood(stage, decal)


def _carrier(stage: Stage) -> Loft:
    """The largest upright face: a truck's box, a van's or a car's hull."""
    return stage.shape.box or stage.shape.hull


def _on_side(stage: Stage, decal: Decal) -> None:
    loft = _carrier(stage)
    half, height = _extent(loft)
    for outline in OUTLINES[decal.kind]:
        u = np.clip(decal.along + outline[:, 0] * decal.size / half * stage.side, -0.95, 0.95)
        t = np.clip(decal.up + outline[:, 1] * decal.size / height, 0.05, 0.97)
        stage.sketch.fill(loft.side(u, t, stage.side), stage.lit(decal.colour, stage.side_name))


def _on_rear(stage: Stage, decal: Decal) -> None:
    loft = _carrier(stage)
    _, height = _extent(loft)
    width = loft.half_width.max()
    for outline in OUTLINES[decal.kind]:
        v = np.clip(decal.along * 0.7 + outline[:, 0] * decal.size * 0.6 / width, -0.9, 0.9)
        t = np.clip(decal.up + outline[:, 1] * decal.size * 0.6 / height, 0.05, 0.95)
        stage.sketch.fill(loft.end(v, t, -1), stage.lit(decal.colour, "rear"))


def _on_hood(stage: Stage, decal: Decal) -> None:
    hull, cabin = stage.shape.hull, stage.shape.cabin
    half = hull.front.max()
    begin = min(cabin.front[0] / half + 0.04, 0.93)
    for across in (-0.28, 0.28) if decal.kind in ("stripe", "slash") else (0.0,):
        wide = 0.10 if decal.kind in ("stripe", "slash") else 0.30
        u = np.linspace(begin, 0.95, 4)
        along = np.concatenate([u, u[::-1]])
        sides = np.concatenate([np.full(4, across - wide), np.full(4, across + wide)])
        stage.sketch.fill(hull.top(along, sides), stage.lit(decal.colour, "top"))


def _extent(loft: Loft) -> tuple[float, float]:
    return float(loft.front.max() - loft.rear.min()) / 2, float(loft.top_z.max() - loft.bottom)
