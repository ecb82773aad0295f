"""Body types: dimensions, lofts, windows, wheels and seats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from toolkit.datasets.fleet.geometry import Loft, box_loft
from toolkit.datasets.fleet.scene import Vehicle

Span = tuple[float, float]


@dataclass(frozen=True)
class BodySpec:
    """Dimensions in metres; positions along the vehicle from -1 (rear end) to 1 (front end).

    ``cabin``: windscreen base, windscreen top, rear window top, rear window base. ``windows``: side windows
    along the cabin. ``nose`` and ``tail``: height of the hull at its ends, as part of ``belt``.
    """

    length: float
    width: float
    height: float
    clearance: float
    belt: float
    nose: float
    tail: float
    cabin: tuple[float, float, float, float]
    roof_width: float
    wheel: float
    axles: tuple[float, ...]
    windows: tuple[Span, ...]
    rear_window: bool = True
    rows: int = 2
    roundness: float = 5.0
    box: Span | None = None


_OUTLINE = (-1.0, -0.98, -0.9, 0.9, 0.98, 1.0)
TWO = ((-0.80, -0.08), (-0.01, 0.78))
THREE = ((-0.93, -0.56), (-0.50, 0.06), (0.12, 0.82))
BODIES: dict[str, BodySpec] = {
    "sedan": BodySpec(
        4.65, 1.82, 1.46, 0.20, 0.93, 0.76, 0.93, (0.40, 0.10, -0.42, -0.72), 0.76, 0.33, (0.60, -0.60), TWO
    ),
    "hatchback": BodySpec(
        4.05, 1.76, 1.50, 0.20, 0.95, 0.78, 0.96, (0.46, 0.14, -0.70, -0.93), 0.78, 0.32, (0.62, -0.62), TWO
    ),
    "estate": BodySpec(
        4.75, 1.83, 1.50, 0.20, 0.94, 0.76, 0.96, (0.40, 0.10, -0.80, -0.95), 0.77, 0.33, (0.60, -0.60), THREE
    ),
    "suv": BodySpec(
        4.65, 1.92, 1.76, 0.28, 1.10, 0.86, 0.97, (0.44, 0.16, -0.76, -0.93), 0.80, 0.38, (0.60, -0.60), THREE
    ),
    "mpv": BodySpec(
        4.60, 1.84, 1.72, 0.22, 1.02, 0.80, 0.97, (0.66, 0.26, -0.82, -0.95), 0.80, 0.33, (0.62, -0.60), THREE,
        rows=3,
    ),
    "van": BodySpec(
        5.20, 2.00, 2.15, 0.24, 1.15, 0.82, 0.99, (0.78, 0.50, -0.96, -0.985), 0.86, 0.35, (0.64, -0.60),
        ((0.56, 0.90),), rows=1, roundness=8.0,
    ),
    "pickup": BodySpec(
        5.30, 1.92, 1.80, 0.32, 1.08, 0.88, 0.99, (0.40, 0.16, -0.20, -0.27), 0.80, 0.39, (0.62, -0.58), TWO
    ),
    "truck": BodySpec(
        6.80, 2.20, 2.55, 0.38, 1.20, 0.98, 0.80, (0.975, 0.86, 0.48, 0.46), 0.88, 0.45, (0.70, -0.55),
        ((-0.35, 0.62),), rear_window=False, rows=1, roundness=9.0, box=(-0.995, 0.42),
    ),
    "bus": BodySpec(
        10.5, 2.50, 3.05, 0.32, 1.25, 0.99, 0.99, (0.985, 0.955, -0.97, -0.985), 0.94, 0.48, (0.56, -0.52),
        tuple((a, a + 0.245) for a in (-0.93, -0.665, -0.40, -0.135, 0.13, 0.395, 0.66)), rows=7, roundness=10.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A vehicle's geometry. ``seats`` (k, 3) are the middles of heads; ``axles`` x positions of the wheels."""

    spec: BodySpec
    hull: Loft
    cabin: Loft
    box: Loft | None
    half_width: float
    wheel: float
    axles: tuple[float, ...]
    seats: np.ndarray
    plates: dict[int, np.ndarray]
    windows: tuple[Span, ...]

    @property
    def lofts(self) -> tuple[Loft, ...]:
        """All hulls, from the lowest."""
        return (self.hull, self.cabin) if self.box is None else (self.hull, self.cabin, self.box)

    def outline(self) -> np.ndarray:
        """Points (n, 3) that span the vehicle."""
        points = []
        for loft in self.lofts:
            for t in (0.0, 0.5, 1.0):
                points += [loft.side(np.array(_OUTLINE), np.full(len(_OUTLINE), t), side) for side in (1, -1)]
        ground = points[0].copy()
        ground[:, 2] = 0.0
        return np.concatenate([*points, ground, ground * [1, -1, 1]])


@lru_cache(maxsize=256)
def shape_of(vehicle: Vehicle) -> Shape:
    """The geometry of one vehicle: its body type, scaled."""
    spec = BODIES[vehicle.body]
    half = spec.length * vehicle.length / 2
    width = spec.width * vehicle.width / 2
    belt, top = spec.belt * (0.5 + vehicle.height / 2), spec.height * vehicle.height
    hull = _hull(spec, half, width, belt)
    front, roof_front, roof_rear, rear = (half * x for x in spec.cabin)
    wide = width * (0.97 if spec.roundness >= 8 else 0.93)
    narrow = width * spec.roof_width
    cabin = Loft(
        levels=np.array([0.0, 0.55, 0.88, 1.0]),
        front=_lean(front, roof_front),
        rear=_lean(rear, roof_rear),
        half_width=np.array([wide, wide + 0.6 * (narrow - wide), narrow, narrow - 0.09]),
        bottom=belt - 0.03,
        top_x=np.array([-half, half]),
        top_z=np.array([top, top]),
        roundness=spec.roundness + 3,
    )
    box = None
    if spec.box is not None:
        box = box_loft(
            half * spec.box[1], half * spec.box[0], width * 1.04, belt * 0.80, top * 1.18, 24.0, samples=4
        )
    return Shape(
        spec=spec,
        hull=hull,
        cabin=cabin,
        box=box,
        half_width=width,
        wheel=spec.wheel * vehicle.wheel,
        axles=tuple(half * x for x in spec.axles),
        seats=_seats(spec, front, rear, belt, top, width),
        plates=_plates(hull, vehicle, box is not None),
        windows=spec.windows,
    )


def _lean(base: float, roof: float) -> np.ndarray:
    inset = 0.10 if base > roof else -0.06
    return np.array([base, base + 0.60 * (roof - base), roof, roof - inset])


def _hull(spec: BodySpec, half: float, width: float, belt: float) -> Loft:
    front, _, _, rear = spec.cabin
    nose, tail = belt * spec.nose, belt * spec.tail
    profile = np.array(
        [
            (-half, tail * 0.97),
            (-half * 0.93, tail),
            (half * rear, belt),
            (half * front, belt),
            (half * (front + (1 - front) * 0.55), belt + 0.45 * (nose - belt)),
            (half * 0.97, nose),
            (half, nose * 0.97),
        ]
    )
    level = np.array([0.0, 0.14, 0.35, 0.62, 0.86, 1.0])
    swell = np.array([0.93, 0.985, 1.0, 0.99, 0.965, 0.90])
    ends = np.array([0.955, 0.995, 1.0, 0.99, 0.975, 0.95])
    return Loft(
        levels=level,
        front=half * ends,
        rear=-half * ends,
        half_width=width * (swell if spec.roundness < 8 else 0.5 + swell / 2),
        bottom=spec.clearance,
        top_x=profile[:, 0],
        top_z=profile[:, 1],
        roundness=spec.roundness,
        samples=8,
    )


def _seats(spec: BodySpec, front: float, rear: float, belt: float, top: float, width: float) -> np.ndarray:
    """Heads: the driver on the left, the passenger, then row by row to the rear."""
    first = front - (0.95 if spec.roundness < 8 else 0.62)
    pitch = 0.85 if spec.rows <= 3 else (first - rear - 0.5) / spec.rows
    z = belt + min(0.24, 0.45 * (top - belt))
    return np.array(
        [(first - row * pitch, side * width * 0.45, z) for row in range(spec.rows) for side in (1, -1)]
    )


def _plates(hull: Loft, vehicle: Vehicle, low: bool) -> dict[int, np.ndarray]:
    """Centres of the plates: rear (-1) and front (1)."""
    high = 0.30 if low or vehicle.spare_wheel or vehicle.body == "bus" else 0.52
    rear, front = hull.end([0.0], [high], -1)[0], hull.end([0.0], [0.22], 1)[0]
    off = np.array([0.02, 0.0, 0.0])
    return {-1: rear - off, 1: front + off}
