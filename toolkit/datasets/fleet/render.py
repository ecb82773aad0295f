"""From a scene to a picture and what is true about it."""

from __future__ import annotations

import cv2
import numpy as np

from toolkit.datasets.fleet import decals, optics, paint, plate, trimmings, wheels, windows
from toolkit.datasets.fleet.background import add_shadow, render_background
from toolkit.datasets.fleet.body import Shape, shape_of
from toolkit.datasets.fleet.camera import Camera, place_camera
from toolkit.datasets.fleet.lighting import Lighting
from toolkit.datasets.fleet.noise import sensor_noise
from toolkit.datasets.fleet.paint import Stage
from toolkit.datasets.fleet.scene import Box, Rendered, Scene
from toolkit.errors import DataError

OVERSAMPLING = 2
SIZES = (64, 256)


def render(scene: Scene, size: int = 128) -> Rendered:
    """Draw ``scene`` as a square picture.

    The same scene and size give the same picture on every call. Replacing the plate, the occupants or the
    background changes no pixel outside ``plate_box``, ``occupant_boxes`` or beyond ``coverage`` 255, each widened
    by ``reach``.

    Args:
        scene: what to draw.
        size: side in pixels, 64 to 256.

    Raises:
        DataError: the size is out of range.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise DataError(f"the fleet is rendered at {SIZES[0]} to {SIZES[1]} pixels, not at {size}")
    shape = shape_of(scene.vehicle)
    outline = shape.outline()
    camera = place_camera(scene.view, outline, _framed(scene, shape, outline), size)
    lighting = Lighting(scene.light)
    stage = Stage(scene.vehicle, shape, camera, lighting)
    corners, seen = _assemble(stage, scene)
    canvas = np.zeros((size * OVERSAMPLING, size * OVERSAMPLING, 4), np.uint8)
    stage.sketch.draw(canvas, camera)
    layer = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    layer = optics.smear(optics.blur_layer(layer, scene.view), scene.view.motion * size, _heading(camera))
    behind = add_shadow(render_background(scene.background, camera, lighting), outline, camera, lighting)
    picture = _develop(layer, optics.blur_layer(behind, scene.view), scene, lighting)
    quad = None if corners is None else camera.project(corners).astype(np.float32)
    return Rendered(
        picture=picture,
        mask=layer[..., 3] > 127,
        coverage=np.ascontiguousarray(layer[..., 3]),
        plate_text=scene.plate.text,
        plate_box=None if quad is None else _clipped(quad.min(axis=0), quad.max(axis=0), size),
        plate_corners=quad,
        occupant_boxes=_occupant_boxes(seen, size),
        reach=optics.reach_of(scene.view, size),
    )


def _assemble(stage: Stage, scene: Scene) -> tuple[np.ndarray | None, windows.Seen]:
    """Put all parts on the sketch, far to near."""
    behind, beside = _mirrors(stage)
    wheels.add_tyres(stage)
    if stage.shape.box is not None and stage.camera.position[0] > 0:
        paint.add_box(stage)
    paint.add_hull(stage)
    paint.add_seams(stage)
    trimmings.add_front(stage)
    trimmings.add_rear(stage)
    decals.add_decals(stage, "hood")
    trimmings.add_bed(stage)
    if stage.shape.box is None:
        decals.add_decals(stage, "rear")
    paint.add_dirt(stage)
    wheels.add_discs(stage)
    if stage.shape.box is None:
        decals.add_decals(stage, "side")
    corners = plate.add_plate(stage, scene.plate)
    for side in behind:
        trimmings.add_mirror(stage, side)
    paint.add_cabin(stage)
    seen = windows.add_windows(stage, scene.occupants)
    for side in beside:
        trimmings.add_mirror(stage, side)
    if stage.shape.box is not None:
        if stage.camera.position[0] <= 0:
            paint.add_box(stage)
        decals.add_decals(stage, "side")
        decals.add_decals(stage, "rear")
    trimmings.add_roof(stage)
    trimmings.add_rear_extras(stage)
    return corners, seen


def _mirrors(stage: Stage) -> tuple[list[int], list[int]]:
    """Sides whose outside mirror is drawn before the cabin, and after it."""
    if stage.end > 0:
        return [], [1, -1]
    y = stage.camera.position[1]
    hidden = [side for side in (1, -1) if side * y < stage.shape.half_width + 0.5]
    return hidden, [side for side in (1, -1) if side not in hidden]


def _framed(scene: Scene, shape: Shape, outline: np.ndarray) -> np.ndarray:
    """What fills the picture: the whole vehicle, or the part of one end around its plate."""
    if scene.view.frame == "vehicle":
        return outline
    centre = shape.plates[-1 if scene.view.frame == "rear" else 1]
    half, low, high = 0.76, max(centre[2] - 0.60, 0.0), centre[2] + 0.92
    return np.array([(centre[0], y, z) for y in (-half, half) for z in (low, high)])


def _heading(camera: Camera) -> np.ndarray:
    ends = camera.project(np.array([(-0.5, 0.0, 0.5), (0.5, 0.0, 0.5)]))
    return ends[1] - ends[0]


def _develop(layer: np.ndarray, behind: np.ndarray, scene: Scene, lighting: Lighting) -> np.ndarray:
    """Put the vehicle before the background, then exposure, gamma and sensor noise."""
    size = layer.shape[0]
    clear = (255.0 - layer[..., 3:].astype(np.float32)) / np.float32(255.0)
    picture = layer[..., :3] + behind * clear
    field = optics.shade_field(scene.light, size)
    if field is not None:
        picture *= field
    picture = cv2.LUT(np.clip(np.rint(picture), 0, 255).astype(np.uint8), lighting.expose())
    if scene.light.noise <= 0:
        return picture
    noisy = picture + np.float32(scene.light.noise) * sensor_noise(size, scene.light.noise_seed)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _occupant_boxes(seen: windows.Seen, size: int) -> tuple[Box, ...]:
    boxes = (
        _clipped(np.array(box[:2]) / OVERSAMPLING, np.array(box[2:]) / OVERSAMPLING, size)
        for box in seen.boxes
        if box is not None
    )
    return tuple(box for box in boxes if box is not None)


def _clipped(low: np.ndarray, high: np.ndarray, size: int) -> Box | None:
    """Whole pixels that a rectangle touches, or None outside the picture."""
    x0, y0 = (int(v) for v in np.clip(np.floor(low), 0, size))
    x1, y1 = (int(v) for v in np.clip(np.ceil(high), 0, size))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
