"""The painted body: every hull's visible faces, shaded; and the bodywork's fixed marks."""

from __future__ import annotations

import numpy as np

from toolkit.datasets.fleet.body import Shape
from toolkit.datasets.fleet.camera import Camera
from toolkit.datasets.fleet.geometry import Loft
from toolkit.datasets.fleet.lighting import Lighting
from toolkit.datasets.fleet.scene import Vehicle
from toolkit.datasets.fleet.sketch import Sketch

MUD = np.array([0.38, 0.29, 0.19])
PLASTIC = np.array([0.07, 0.07, 0.075])
_RIBS, _CREASE = np.linspace(-0.9, 0.9, 9), np.linspace(-0.86, 0.86, 7)
_SPLASH = np.array([(1.0, 0.1), (0.5, 0.7), (-0.3, 0.8), (-1.1, 0.2), (-0.6, -0.6), (0.3, -0.9)])
NORMALS = {
    "left": np.array([0.0, 1.0, 0.0]),
    "right": np.array([0.0, -1.0, 0.0]),
    "front": np.array([1.0, 0.0, 0.0]),
    "rear": np.array([-1.0, 0.0, 0.0]),
    "top": np.array([0.0, 0.0, 1.0]),
}


class Stage:
    """What the parts of a vehicle need to draw themselves."""

    def __init__(self, vehicle: Vehicle, shape: Shape, camera: Camera, lighting: Lighting) -> None:
        self.vehicle = vehicle
        self.shape = shape
        self.camera = camera
        self.lighting = lighting
        self.sketch = Sketch()
        x, y, _ = camera.position
        hull = shape.hull
        self.side = 0 if abs(y) < shape.half_width else (1 if y > 0 else -1)
        self.end = 1 if x > hull.front.max() else (-1 if x < hull.rear.min() else 0)
        self._light = {name: lighting.diffuse(normal[None])[0] for name, normal in NORMALS.items()}

    def lit(self, colour: np.ndarray | tuple[float, float, float], surface: str) -> np.ndarray:
        """A matt colour (3,) as it looks on the left, right, front, rear or top."""
        return np.asarray(colour) * self._light[surface]

    @property
    def side_name(self) -> str:
        """The visible side's name for ``lit``."""
        return "left" if self.side > 0 else "right"

    @property
    def end_name(self) -> str:
        """The visible end's name for ``lit``."""
        return "front" if self.end > 0 else "rear"


def add_loft(stage: Stage, loft: Loft, albedo_of_level: np.ndarray, gloss: float) -> None:
    """Add the visible faces of one hull.

    Args:
        stage: where to.
        loft: the hull.
        albedo_of_level: (levels, 3), one colour for each band between two levels, the last for the top.
        gloss: of the paint.
    """
    mesh = loft.mesh
    to_eye = stage.camera.position - mesh.centres
    visible = np.flatnonzero((mesh.normals * to_eye).sum(axis=1) > 0)
    normals, to_eye = mesh.normals[visible], to_eye[visible]
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    albedo = albedo_of_level[np.minimum(mesh.levels[visible], len(albedo_of_level) - 1)]
    stage.sketch.faces(mesh.corners[visible], stage.lighting.shade(albedo, normals, to_eye, gloss))


def add_hull(stage: Stage) -> None:
    """The lower body with its sills, and dirt that thins out upwards."""
    vehicle, hull = stage.vehicle, stage.shape.hull
    paint = np.array(vehicle.paint)
    albedo = np.repeat(paint[None], len(hull.levels), axis=0)
    if vehicle.two_tone:
        albedo[:2] = paint * 0.35 + 0.05
    if vehicle.trim != "body":
        albedo[0] = PLASTIC
    middle = np.append((hull.levels[1:] + hull.levels[:-1]) / 2, 1.0)
    mud = (vehicle.dirt * 0.75 * np.power(1 - middle, 1.6))[:, None]
    add_loft(stage, hull, albedo * (1 - mud) + MUD * mud, gloss=1 - 0.6 * vehicle.dirt)


def add_cabin(stage: Stage) -> None:
    """The upper body; its glass is added by ``windows``."""
    cabin = stage.shape.cabin
    albedo = np.repeat(np.array(stage.vehicle.paint)[None], len(cabin.levels), axis=0)
    add_loft(stage, cabin, albedo, gloss=1 - 0.6 * stage.vehicle.dirt)


def add_box(stage: Stage) -> None:
    """A truck's box, lighter than the cab, with ribs on its side."""
    box = stage.shape.box
    if box is None:
        return
    colour = 0.25 * np.array(stage.vehicle.paint) + 0.62
    add_loft(stage, box, np.repeat(colour[None], len(box.levels), axis=0), gloss=0.2)
    if stage.side:
        rib = stage.lit(colour * 0.8, stage.side_name)
        for along in _RIBS:
            stage.sketch.line(box.side([along] * 2, [0.05, 0.94], stage.side), rib, 0.03)
    if stage.end < 0:
        seam = stage.lit(colour * 0.5, "rear")
        stage.sketch.line(box.end([0.0, 0.0], [0.05, 0.94], -1), seam, 0.03)
        stage.sketch.line(box.end([-0.9, 0.9, 0.9, -0.9], [0.05, 0.05, 0.94, 0.94], -1), seam, 0.04, closed=True)


def add_seams(stage: Stage) -> None:
    """Doors, handles and the crease along the visible side."""
    if not stage.side:
        return
    hull, side, shape = stage.shape.hull, stage.side, stage.shape
    paint = np.array(stage.vehicle.paint)
    seam = stage.lit(paint * 0.45, stage.side_name)
    half = hull.front.max()
    cabin = shape.cabin
    edges = [cabin.front[0] - 0.05]
    rows = 1 if shape.spec.rows == 1 else 2
    edges += [edges[0] - 0.95 * (i + 1) for i in range(rows)]
    for x in edges:
        stage.sketch.line(hull.side([x / half] * 4, [0.16, 0.5, 0.8, 0.99], side), seam, 0.018)
    bright = stage.lit(np.minimum(paint * 1.15 + 0.04, 1.0), stage.side_name)
    stage.sketch.line(hull.side(_CREASE, np.full(7, 0.66), side), bright, 0.018)
    handle = stage.lit((0.75, 0.75, 0.76) if stage.vehicle.trim == "chrome" else paint * 0.6, stage.side_name)
    for x in edges[1:]:
        u = np.array([x + 0.10, x + 0.26]) / half
        stage.sketch.line(hull.side(u, [0.78, 0.78], side), handle, 0.035)


def add_dirt(stage: Stage) -> None:
    """Splashes at places that belong to the vehicle."""
    vehicle, hull = stage.vehicle, stage.shape.hull
    if vehicle.dirt < 0.15:
        return
    rng = np.random.default_rng(vehicle.dirt_seed)
    count = int(vehicle.dirt * 34)
    along, up = rng.uniform(-0.9, 0.9, count), 0.16 + rng.beta(1.2, 2.5, count) * 0.7
    sizes, strength = rng.uniform(0.015, 0.06, count), rng.uniform(0.4, 0.9, count)
    paint = np.array(vehicle.paint)
    for visible, surface, points in (
        (stage.side, stage.side_name, hull.side(along, up, stage.side or 1)),
        (stage.end, stage.end_name, hull.end(along * 0.85, up, stage.end or 1)),
    ):
        if not visible:
            continue
        offsets = _blob(surface in ("left", "right"))
        for point, size, mix in zip(points, sizes, strength, strict=True):
            colour = stage.lit(paint * (1 - mix) + MUD * mix, surface)
            stage.sketch.fill(point + offsets * size, colour)


def _blob(on_side: bool) -> np.ndarray:
    zero = np.zeros(len(_SPLASH))
    x, z = _SPLASH.T
    return np.stack([x, zero, z] if on_side else [zero, x, z], axis=1)
