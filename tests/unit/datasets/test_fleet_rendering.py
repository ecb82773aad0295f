"""Pictures of the fleet: counterfactuals, ground truth, determinism."""

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from toolkit.datasets.fleet import (
    Background,
    FleetSettings,
    Light,
    Occupant,
    Plate,
    Scene,
    Vehicle,
    View,
    draw_scene,
    identity_vehicle,
    render,
)
from toolkit.datasets.fleet.body import BODIES
from toolkit.errors import DataError

SETTINGS = FleetSettings(seed=11, views="mixed", cameras=10)
SCENES = [draw_scene(SETTINGS, identity, identity, identity % 10) for identity in range(40)]
CLOSE_UP = Scene(view=View(azimuth=180, elevation=8, distance=5, frame="rear"), light=Light(noise=0))


def widened(boxes, reach, size):
    area = np.zeros((size, size), bool)
    for x0, y0, x1, y1 in boxes:
        area[max(y0 - reach, 0) : y1 + reach, max(x0 - reach, 0) : x1 + reach] = True
    return area


def changed(a, b):
    return (a.picture != b.picture).any(axis=2)


@pytest.mark.parametrize("scene", SCENES)
def test_another_plate_changes_the_plate_alone(scene):
    before, after = render(scene, 96), render(scene.with_plate("ZZ0000"), 96)
    difference = changed(before, after)
    if before.plate_box is None:
        assert not difference.any()
        return
    assert not difference[~widened([before.plate_box], before.reach, 96)].any()
    assert after.plate_text == "ZZ0000" and after.plate_box == before.plate_box


@pytest.mark.parametrize("scene", SCENES)
def test_other_people_change_their_boxes_alone(scene):
    others = (Occupant(seat=0, clothes=(0.9, 0.1, 0.1)), Occupant(seat=3, hair=(0.6, 0.5, 0.3)))
    before, after = render(scene, 96), render(scene.with_occupants(others), 96)
    boxes = before.occupant_boxes + after.occupant_boxes
    assert not changed(before, after)[~widened(boxes, before.reach, 96)].any()
    empty = render(scene.with_occupants(()), 96)
    assert empty.occupant_boxes == ()
    assert not changed(before, empty)[~widened(before.occupant_boxes, before.reach, 96)].any()


@pytest.mark.parametrize("scene", SCENES)
def test_another_background_leaves_the_vehicle(scene):
    before, after = render(scene, 96), render(scene.with_background(Background(kind="yard", seed=99)), 96)
    assert np.array_equal(before.coverage, after.coverage)
    assert not changed(before, after)[before.coverage == 255].any()
    assert changed(before, after)[before.coverage == 0].mean() > 0.3


def test_the_changes_are_really_seen():
    before = render(CLOSE_UP, 128)
    x0, y0, x1, y1 = before.plate_box
    plate = changed(before, render(CLOSE_UP.with_plate("HM5067"), 128))[y0:y1, x0:x1]
    assert plate.mean() > 0.2
    blank = render(CLOSE_UP.with_plate(""), 128).picture[y0:y1, x0:x1]
    assert blank.std() < before.picture[y0:y1, x0:x1].std()
    front = Scene(view=View(azimuth=15, elevation=14))
    people = render(front, 128)
    x0, y0, x1, y1 = people.occupant_boxes[0]
    assert changed(people, render(front.with_occupants(()), 128))[y0:y1, x0:x1].mean() > 0.4


def test_other_parts_can_be_replaced():
    scene = SCENES[0]
    assert scene.with_vehicle(Vehicle(body="bus")).plate == scene.plate
    assert scene.with_view(View()).vehicle == scene.vehicle
    assert scene.with_light(Light(exposure=0.5)).view == scene.view
    dark = render(scene.with_light(scene.light.model_copy(update={"exposure": 0.4})), 64)
    assert dark.picture.mean() < render(scene, 64).picture.mean()
    assert scene.with_plate(Plate(text="AB1", yellow=True)).plate.yellow


@pytest.mark.parametrize("size", [64, 100, 128, 256])
def test_any_size(size):
    rendered = render(SCENES[3], size)
    assert rendered.picture.shape == (size, size, 3) and rendered.picture.dtype == np.uint8
    assert rendered.mask.shape == rendered.coverage.shape == (size, size) and rendered.mask.dtype == bool


@pytest.mark.parametrize("size", [32, 63, 257])
def test_wrong_size_is_refused(size):
    with pytest.raises(DataError, match="64 to 256"):
        render(SCENES[0], size)


def test_same_scene_same_picture():
    for scene in SCENES[:6]:
        again = Scene.model_validate_json(scene.model_dump_json())
        assert again == scene
        assert np.array_equal(render(scene, 64).picture, render(again, 64).picture)


@pytest.mark.parametrize("number", [0, 2, 3, 4, 5])
def test_sizes_show_the_same_view(number):
    scene = SCENES[number].with_light(SCENES[number].light.model_copy(update={"noise": 0.0}))
    large = cv2.resize(render(scene, 256).picture, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(large - render(scene, 64).picture).mean() < 8


@pytest.mark.parametrize("body", sorted(BODIES))
@pytest.mark.parametrize("azimuth", [0, 40, 90, 150, 180, 270])
def test_every_body_from_every_side(body, azimuth):
    scene = Scene(vehicle=Vehicle(body=body), view=View(azimuth=azimuth, elevation=15, fill=0.9))
    rendered = render(scene, 64)
    rows, columns = np.flatnonzero(rendered.mask.any(axis=1)), np.flatnonzero(rendered.mask.any(axis=0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    assert 0.75 * 64 < extent < 64
    assert 0.08 < rendered.mask.mean() < 0.85
    assert (rendered.plate_box is None) == (azimuth in (90, 270))


def test_plate_corners_are_read_from_left_to_right():
    for azimuth in (0, 25, 150, 180):
        rendered = render(Scene(view=View(azimuth=azimuth, elevation=10)), 128)
        top_left, top_right, bottom_right, bottom_left = rendered.plate_corners
        assert top_left[0] < top_right[0] and bottom_left[0] < bottom_right[0]
        assert top_left[1] < bottom_left[1] and top_right[1] < bottom_right[1]
        x0, y0, x1, y1 = rendered.plate_box
        assert x0 <= top_left[0] + 1e-3 and bottom_right[0] <= x1 + 1e-3 and y0 < y1


def read_plate(rendered):
    """Read the rectified plate by comparing each cell with every letter drawn on an otherwise blank plate."""
    from toolkit.datasets.fleet.plate import CELL_H, CELL_W, DIGITS, LETTERS, MARGIN, texture

    height, width = texture(Plate(text="AA0000")).shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(rendered.plate_corners - 0.5, corners)
    flat = cv2.warpPerspective(rendered.picture, matrix, (width, height)).mean(axis=2)
    text = ""
    for place in range(6):
        left = MARGIN + 4 + place * CELL_W
        cell = flat[MARGIN : MARGIN + CELL_H, left : left + CELL_W]
        scores = {}
        for letter in LETTERS if place < 2 else DIGITS:
            sample = texture(Plate(text=letter * 6)).mean(axis=2)
            sample = sample[MARGIN : MARGIN + CELL_H, left : left + CELL_W]
            scores[letter] = np.corrcoef(cell.ravel(), cv2.GaussianBlur(sample, (0, 0), 4).ravel())[0, 1]
        text += max(scores, key=scores.get)
    return text


@pytest.mark.parametrize("text", ["KT4821", "BD6093", "XW1758"])
@pytest.mark.parametrize(("size", "frame"), [(128, "rear"), (256, "vehicle")])
def test_plates_are_legible(text, size, frame):
    view = View(azimuth=176, elevation=9, distance=6, frame=frame)
    scene = Scene(plate=Plate(text=text), view=view, light=Light(noise=2.0))
    assert read_plate(render(scene, size)) == text


def test_mask_is_where_the_vehicle_is():
    scene = Scene(vehicle=Vehicle(paint=(0.9, 0.1, 0.1), decals=()), view=View(azimuth=150), light=Light(noise=0))
    rendered = render(scene, 128)
    red = (rendered.picture[..., 0] > 90) & (rendered.picture[..., 1] < 60)
    assert red.sum() > 800 and rendered.mask[red].mean() > 0.98


def test_bindings():
    tied = FleetSettings(plate="per_identity", occupants="per_identity", background="per_identity")
    free = FleetSettings(plate="per_picture", occupants="per_picture", background="per_picture")
    a, b = (draw_scene(tied, 4, picture, 0) for picture in (0, 1))
    assert (a.plate, a.occupants, a.background) == (b.plate, b.occupants, b.background)
    assert a.view != b.view and a.light != b.light
    c, d = (draw_scene(free, 4, picture, 0) for picture in (0, 1))
    assert c.plate != d.plate and c.occupants != d.occupants and c.background != d.background
    assert a.vehicle == b.vehicle == c.vehicle == identity_vehicle(tied, 4)


def test_identities_share_type_and_colour_but_differ():
    vehicles = [identity_vehicle(SETTINGS, identity) for identity in range(200)]
    assert len(set(vehicles)) == 200
    kinds = {(vehicle.body, vehicle.colour) for vehicle in vehicles}
    assert len(kinds) < 100
    assert {vehicle.body for vehicle in vehicles} == set(BODIES)


def test_seed_decides():
    assert draw_scene(SETTINGS, 0, 0, 0) == draw_scene(SETTINGS, 0, 0, 0)
    other = SETTINGS.model_copy(update={"seed": 12})
    assert draw_scene(other, 0, 0, 0).vehicle != draw_scene(SETTINGS, 0, 0, 0).vehicle


@pytest.mark.parametrize(
    "options", [{"size": 32}, {"size": 512}, {"identities_train": 1}, {"cameras": 1}, {"plate": "never"}]
)
def test_wrong_settings(options):
    with pytest.raises(ValidationError):
        FleetSettings(**options)


def test_wrong_scene_parts():
    with pytest.raises(ValidationError):
        Plate(text="no spaces")
    with pytest.raises(ValidationError):
        Scene(weather="rain")
