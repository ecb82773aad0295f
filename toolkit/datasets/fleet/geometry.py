"""Bodies as lofts: rounded rectangles stacked from bottom to top. Vehicle coordinates in metres:
x forward, y left, z up, the origin on the ground below the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

_ENDS = (0.995, 0.97, 0.92, 0.84)  # denser where a rounded corner bends


@dataclass(frozen=True)
class Mesh:
    """Quads seen from outside counterclockwise: corners (F, 4, 3), unit normals (F, 3), centres (F, 3), and the
    level (F,) that each begins at.
    """

    corners: np.ndarray
    normals: np.ndarray
    centres: np.ndarray
    levels: np.ndarray


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
        samples: along each side, where the mesh is not at a corner.
    """

    levels: np.ndarray
    front: np.ndarray
    rear: np.ndarray
    half_width: np.ndarray
    bottom: float
    top_x: np.ndarray
    top_z: np.ndarray
    roundness: float = 6.0
    samples: int = 5

    def _outline(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        front, rear, width = self._table[:, 0], self._table[:, 1], self._table[:, 2]
        return (
            np.interp(t, self.levels, front),
            np.interp(t, self.levels, rear),
            np.interp(t, self.levels, width),
        )

    @cached_property
    def _table(self) -> np.ndarray:
        return np.stack([(self.front + self.rear) / 2, (self.front - self.rear) / 2, self.half_width], axis=1)

    def _bulge(self, u: np.ndarray) -> np.ndarray:
        rest = np.maximum(1.0 - np.abs(u) ** self.roundness, 0.0)
        return rest ** (1.0 / self.roundness)

    def _raise(self, x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
        points = np.empty((*x.shape, 3))
        points[..., 0] = x
        points[..., 1] = y
        points[..., 2] = self.bottom + t * (np.interp(x, self.top_x, self.top_z) - self.bottom)
        return points

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
        centre, half, width = self._table[-1]
        points = self._raise(centre + u * half, v * width * self._bulge(u), np.ones_like(u))
        points[:, 2] += 0.006
        return points

    @cached_property
    def mesh(self) -> Mesh:
        """The surface without its underside."""
        u, faces = _topology(len(self.levels), self.samples)
        along = np.concatenate([u, u[::-1]])
        side = np.repeat([-1.0, 1.0], len(u))
        centre, half, width = (column[:, None] for column in self._table.T)
        points = self._raise(centre + along * half, side * width * self._bulge(along), self.levels[:, None])
        corners = points.reshape(-1, 3)[faces]
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return Mesh(corners, normals, corners.mean(axis=1), faces[:, 0] // len(along))


@lru_cache(maxsize=32)
def _topology(levels: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions along a side, and quads (F, 4) as indices into rings of right side, then left side."""
    ends = np.array(_ENDS)
    u = np.concatenate([-ends, np.linspace(-0.72, 0.72, samples), ends[::-1]])
    ring = len(u) * 2
    faces = [
        (k * ring + i, k * ring + j, (k + 1) * ring + j, (k + 1) * ring + i)
        for k in range(levels - 1)
        for i, j in ((i, (i + 1) % ring) for i in range(ring))
    ]
    last = (levels - 1) * ring
    faces += [(last + i, last + i + 1, last + ring - 2 - i, last + ring - 1 - i) for i in range(len(u) - 1)]
    return u, np.array(faces)


def box_loft(
    front: float, rear: float, half_width: float, bottom: float, top: float, roundness: float, samples: int = 2
) -> Loft:
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
        samples=samples,
    )


def disc(centre: np.ndarray, radius: float, count: int = 20) -> np.ndarray:
    """Points (count, 3) on a circle that stands in the plane of x and z."""
    return centre + radius * _circle(count)


@lru_cache(maxsize=32)
def _circle(count: int) -> np.ndarray:
    angle = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.zeros(count), np.sin(angle)], axis=1)
