"""Wheels: what is seen of them below the body, and the visible side's discs with spokes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from toolkit.datasets.fleet.geometry import disc
from toolkit.datasets.fleet.paint import Stage

RUBBER = np.array([0.055, 0.055, 0.06])
TREAD = 0.24  # m


def add_tyres(stage: Stage) -> None:
    """All tyres as short cylinders, to be drawn before the body covers their upper part."""
    shape = stage.shape
    colour = stage.lit(RUBBER, "front")
    for x in shape.axles:
        for side in (1, -1):
            outer = np.array([x, side * shape.half_width * 0.97, shape.wheel])
            rings = [disc(outer - [0, side * inset, 0], shape.wheel, 16) for inset in (TREAD, 0.0)]
            stage.sketch.hull(np.concatenate(rings), colour)


def add_discs(stage: Stage) -> None:
    """Arches, tyres, rims and spokes of the visible side."""
    side, shape, vehicle = stage.side, stage.shape, stage.vehicle
    if not side:
        return
    rim, dark = stage.lit(vehicle.rim, stage.side_name), stage.lit((0.10, 0.10, 0.11), stage.side_name)
    for x in shape.axles:
        centre = np.array([x, side * shape.half_width * 0.995, shape.wheel])
        arch = disc(centre, shape.wheel * 1.14, 24)
        stage.sketch.fill(arch[arch[:, 2] >= shape.hull.bottom], (0.02, 0.02, 0.02))
        centre[1] = side * (shape.half_width * 0.995 + 0.012)
        stage.sketch.fill(disc(centre, shape.wheel), stage.lit(RUBBER, stage.side_name))
        radius = shape.wheel * 0.68
        stage.sketch.fill(disc(centre, radius), rim)
        if vehicle.spokes == 0:
            stage.sketch.fill(disc(centre, radius * 0.5, 12), rim * 0.75)
        for wedge in _gaps(vehicle.spokes):
            stage.sketch.fill(centre + wedge * radius, dark)
        stage.sketch.fill(disc(centre, radius * 0.2, 8), rim * 0.85)


@lru_cache(maxsize=16)
def _gaps(spokes: int) -> list[np.ndarray]:
    """The dark openings between the spokes of a rim of radius 1."""
    if spokes == 0:
        return []
    share = 2 * np.pi / spokes
    gaps = []
    for i in range(spokes):
        angle = np.array([0.22, 0.36, 0.64, 0.78]) * share + i * share
        radius = np.array([0.38, 0.86, 0.86, 0.38])
        gaps.append(np.stack([radius * np.cos(angle), np.zeros(4), radius * np.sin(angle)], axis=1))
    return gaps
