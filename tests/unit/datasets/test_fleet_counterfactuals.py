import numpy as np
import pytest

from toolkit.datasets.fleet import FleetSettings, draw_scene, load_truth, render, write_fleet
from toolkit.datasets.fleet.counterfactual import FOLDER, changed, counterfactuals
from toolkit.preprocess import Preprocess, read_picture

SETTINGS = FleetSettings(size=64, identities_train=2, identities_test=2, pictures_per_identity=3)
PREPROCESS = Preprocess(height=48, width=48, interpolation="area")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return write_fleet(tmp_path_factory.mktemp("fleet") / "small", SETTINGS)


def test_only_what_is_sensitive_changes():
    scene = draw_scene(SETTINGS, 0, 0, 0)
    other = changed(scene, 1)
    assert other.vehicle == scene.vehicle and other.view == scene.view and other.light == scene.light
    assert other.plate.text != scene.plate.text and len(other.plate.text) == len(scene.plate.text)
    assert other.background != scene.background
    assert other.occupants != scene.occupants or not scene.occupants
    assert changed(scene, 1) == other and changed(scene, 2) != other


def test_pixels_of_the_vehicle_stay_where_nothing_sensitive_is_near():
    scene = draw_scene(SETTINGS, 1, 0, 0)
    before, after = render(scene, 128), render(changed(scene, 3), 128)
    allowed = before.coverage < 255
    for box in (before.plate_box, *before.occupant_boxes, *after.occupant_boxes):
        if box is not None:
            x0, y0, x1, y1 = box
            allowed[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = True
    reach = before.reach
    grown = allowed.copy()
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            grown |= np.roll(allowed, (dy, dx), (0, 1))
    different = (before.picture != after.picture).any(-1)
    assert different.any()
    assert not (different & ~grown).any()


def test_they_pair_up_with_the_pictures_and_are_rendered_once(fleet, monkeypatch):
    paths = sorted(str(path.relative_to(fleet)) for path in (fleet / "image_train").iterdir())
    made = counterfactuals(fleet, paths, PREPROCESS)
    originals = np.stack([read_picture(fleet / path, PREPROCESS) for path in paths])
    assert made.shape == originals.shape and made.dtype == np.uint8
    assert (made != originals).any(axis=(1, 2, 3)).all()
    mask = load_truth(fleet, paths[0]).mask
    assert mask.any()
    monkeypatch.setattr("toolkit.datasets.fleet.counterfactual._render", lambda *_: pytest.fail("rendered again"))
    assert np.array_equal(counterfactuals(fleet, paths, PREPROCESS), made)
    assert len(list((fleet / FOLDER).glob("*.npy"))) == 1
    write_fleet(fleet, SETTINGS)  # the fleet is still known as the same one
