"""Bodies as lofts: rounded rectangles stacked from bottom to top. Vehicle coordinates in metres:
x forward, y left, z up, the origin on the ground below the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ENDS = (0.995, 0.97, 0.92, 0.84)  # denser where a rounded corner bends


@dataclass(frozen=True)
class Loft:
    """A closed hull between the heights ``bottom`` and the profile of ``top``.

    Attributes:
        levels: relative heights t in [0, 1] at which the outline is given, ascending.
        front, rear: x of the outline's ends at these levels.
        half_width: half width at these levels.
        bottom: z at t = 0.
        top_x, top_z: the upper profile, x ascending.
        roundness: exponent of the superellipse; larger is boxier.
    """

    levels: np.ndarray
    front: np.ndarray
    rear: np.ndarray
    half_width: np.ndarray
    bottom: float
    top_x: np.ndarray
    top_z: np.ndarray
    roundness: float = 6.0

    def _outline(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        front = np.interp(t, self.levels, self.front)
        rear = np.interp(t, self.levels, self.rear)
        return (front + rear) / 2, (front - rear) / 2, np.interp(t, self.levels, self.half_width)

    def _bulge(self, u: np.ndarray) -> np.ndarray:
        return np.power(np.maximum(1.0 - np.power(np.abs(u), self.roundness), 0.0), 1.0 / self.roundness)

    def _raise(self, x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
        z = self.bottom + t * (np.interp(x, self.top_x, self.top_z) - self.bottom)
        return np.stack(np.broadcast_arrays(x, y, z), axis=-1)

    def side(self, along: Sequence[float] | np.ndarray, t: Sequence[float] | np.ndarray, side: int) -> np.ndarray:
        """Points (n, 3) on the left (+1) or right (-1) side; ``along`` runs from -1 (rear) to 1 (front)."""
        u, level = np.asarray(along, float), np.asarray(t, float)
        centre, half, width = self._outline(level)
        return self._raise(centre + u * half, side * (width * self._bulge(u) + 0.006), level)

    def end(self, across: Sequence[float] | np.ndarray, t: Sequence[float] | np.ndarray, end: int) -> np.ndarray:
        """Points (n, 3) on the front (+1) or rear (-1); ``across`` runs from -1 (right) to 1 (left)."""
        u, level = np.asarray(across, float), np.asarray(t, float)
        centre, half, width = self._outline(level)
        return self._raise(centre + end * (half * self._bulge(u) + 0.006), u * width, level)

    def top(self, along: Sequence[float] | np.ndarray, across: Sequence[float] | np.ndarray) -> np.ndarray:
        """Points (n, 3) on the upper face."""
        u, v = np.asarray(along, float), np.asarray(across, float)
        centre, half, width = self._outline(np.ones(1))
        points = self._raise(centre + u * half, v * width * self._bulge(u), np.ones_like(u))
        points[:, 2] += 0.006
        return points

    def mesh(self, inner: int = 6) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3) and quads (F, 4), seen from outside counterclockwise; the underside is left open."""
        middle = np.linspace(-0.72, 0.72, inner)
        u = np.concatenate([-np.array(_ENDS), middle, np.array(_ENDS)[::-1]])
        ring = len(u) * 2
        along = np.concatenate([u, u[::-1]])
        side = np.concatenate([np.full(len(u), -1.0), np.full(len(u), 1.0)])
        centre, half, width = self._outline(self.levels[:, None])
        y = side * width * self._bulge(along)
        points = self._raise(centre + along * half, y, self.levels[:, None])
        faces = [
            (k * ring + i, k * ring + j, (k + 1) * ring + j, (k + 1) * ring + i)
            for k in range(len(self.levels) - 1)
            for i, j in ((i, (i + 1) % ring) for i in range(ring))
        ]
        last = (len(self.levels) - 1) * ring
        faces += [(last + i, last + i + 1, last + ring - 2 - i, last + ring - 1 - i) for i in range(len(u) - 1)]
        return points.reshape(-1, 3), np.array(faces)


def normals_of(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (F, 3) and centres (F, 3) of quads."""
    corners = points[faces]
    normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return normal / np.maximum(length, 1e-9), corners.mean(axis=1)


def box_loft(front: float, rear: float, half_width: float, bottom: float, top: float, roundness: float) -> Loft:
    """A box with slightly rounded edges."""
    inset = 0.03
    return Loft(
        levels=np.array([0.0, 0.04, 0.95, 1.0]),
        front=np.array([front - inset, front, front, front - inset]),
        rear=np.array([rear + inset, rear, rear, rear + inset]),
        half_width=np.array([half_width - inset, half_width, half_width, half_width - inset]),
        bottom=bottom,
        top_x=np.array([rear, front]),
        top_z=np.array([top, top]),
        roundness=roundness,
    )


def disc(centre: np.ndarray, radius: float, count: int = 20) -> np.ndarray:
    """Points (count, 3) on a circle that stands in the plane of x and z."""
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    return centre + radius * np.stack([np.cos(angle), np.zeros(count), np.sin(angle)], axis=1)
