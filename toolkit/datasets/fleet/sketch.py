"""An ordered list of shapes in vehicle coordinates, projected all at once and drawn far to near.

The canvas is uint8 (h, w, 4): colour multiplied by coverage, and coverage. Antialiased drawing of opaque
colours onto it is then exactly the 'over' operator (Porter and Duff, SIGGRAPH 1984).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from toolkit.datasets.fleet.camera import Camera

SHIFT = 4
UNIT = 1 << SHIFT
Colour = tuple[int, int, int, int]
Painter = Callable[[np.ndarray, np.ndarray], None]


def opaque(colour: np.ndarray | tuple[float, float, float]) -> Colour:
    """RGB in [0, 1] (clipped) as a colour of the canvas."""
    r, g, b = (int(min(max(c, 0.0), 1.0) * 255 + 0.5) for c in colour)
    return r, g, b, 255


@dataclass(frozen=True)
class _Shape:
    start: int
    end: int
    colour: Colour
    width: float  # of a line, m; 0 fills
    closed: bool
    hull: bool
    painter: Painter | None


@dataclass
class Sketch:
    """Shapes in drawing order."""

    points: list[np.ndarray] = field(default_factory=list)
    shapes: list[_Shape] = field(default_factory=list)
    count: int = 0

    def fill(self, points: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
        """A filled polygon; points (n, 3)."""
        self._add(points, opaque(colour))

    def hull(self, points: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
        """The filled outline of a convex solid given by points (n, 3)."""
        self._add(points, opaque(colour), hull=True)

    def faces(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Filled polygons (f, n, 3) of colours (f, 3)."""
        levels = np.rint(np.clip(colours, 0.0, 1.0) * 255).astype(int).tolist()
        for face, (r, g, b) in zip(points, levels, strict=True):
            self._add(face, (r, g, b, 255))

    def line(
        self,
        points: np.ndarray,
        colour: np.ndarray | tuple[float, float, float],
        width: float,
        closed: bool = False,
    ) -> None:
        """A line through points (n, 3), ``width`` metres wide and at least one pixel."""
        self._add(points, opaque(colour), width, closed)

    def paint(self, points: np.ndarray, painter: Painter) -> None:
        """Call ``painter(canvas, pixels)`` with the canvas coordinates (n, 2) of the points, in turn."""
        self._add(points, (0, 0, 0, 0), painter=painter)

    def _add(
        self,
        points: np.ndarray,
        colour: Colour,
        width: float = 0.0,
        closed: bool = True,
        hull: bool = False,
        painter: Painter | None = None,
    ) -> None:
        self.points.append(points)
        self.shapes.append(_Shape(self.count, self.count + len(points), colour, width, closed, hull, painter))
        self.count += len(points)

    def draw(self, canvas: np.ndarray, camera: Camera) -> None:
        """Draw everything onto ``canvas``, whose side is a multiple of the camera's picture."""
        factor = canvas.shape[0] / camera.size
        local = camera.transform(np.concatenate(self.points))
        depth = np.maximum(local[:, 2:], 0.2)
        pixels = to_canvas(local[:, :2] * (camera.scale / depth) + camera.offset, factor)
        fixed = np.rint(np.clip(pixels, -20000, 20000) * UNIT).astype(np.int32)
        for shape in self.shapes:
            if shape.painter is not None:
                shape.painter(canvas, pixels[shape.start : shape.end])
                continue
            polygon = fixed[shape.start : shape.end]
            if shape.hull:
                polygon = cv2.convexHull(polygon)
            if shape.width == 0.0:
                cv2.fillConvexPoly(canvas, polygon, shape.colour, cv2.LINE_AA, SHIFT)
                continue
            width = shape.width * camera.scale * factor / depth[shape.start, 0]
            cv2.polylines(canvas, [polygon], shape.closed, shape.colour, max(1, round(width)), cv2.LINE_AA, SHIFT)


def to_canvas(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Continuous picture coordinates to the canvas, where a pixel's centre has whole coordinates."""
    return pixels * factor - 0.5


def fill_polygon(picture: np.ndarray, pixels: np.ndarray, colour: float | list[float]) -> None:
    """Fill a polygon given in continuous picture coordinates (n, 2); fewer than three points draw nothing."""
    if len(pixels) < 3:
        return
    points = np.rint(np.clip(pixels - 0.5, -16000, 16000) * UNIT).astype(np.int32)
    cv2.fillPoly(picture, [points], colour, cv2.LINE_AA, SHIFT)
