import numpy as np
import pytest

from toolkit.datasets.fleet import FleetSettings, draw_scene, render
from toolkit.errors import AttackError
from toolkit.preprocess import Preprocess
from toolkit.privacy.certificate import certify
from toolkit.privacy.counterfactuals import CONTENTS, counterfactual_pictures, variants_of

FLEET = FleetSettings(size=64, identities_train=4, identities_test=3, pictures_per_identity=4)
PREPROCESS = Preprocess(height=64, width=64)


@pytest.mark.parametrize("content", CONTENTS)
def test_scenes_differ_in_one_content_alone(content):
    scene = draw_scene(FLEET, 5, 0, 0)
    variants = variants_of(content, scene)
    assert len(variants) > 1
    part = {"plate": "plate", "occupants": "occupants", "background": "background"}[content]
    for variant in variants:
        assert variant.model_copy(update={part: getattr(scene, part)}) == scene
    assert len({str(getattr(variant, part)) for variant in variants}) == len(variants)


def test_a_plate_changes_in_its_last_digit():
    texts = [variant.plate.text for variant in variants_of("plate", draw_scene(FLEET, 5, 0, 0))]
    assert len(texts) == 10
    places = {place for place in range(len(texts[0])) if len({text[place] for text in texts}) > 1}
    assert len(places) == 1
    assert not any(character.isdigit() for character in texts[0][max(places) + 1 :])


@pytest.mark.parametrize("content", CONTENTS)
def test_pictures_of_a_scene_are_different_and_of_the_runs_size(content):
    scenes = counterfactual_pictures(content, FLEET, Preprocess(height=48, width=32), 2)
    assert len(scenes) == 2
    for pictures in scenes:
        assert pictures.dtype == np.uint8
        assert pictures.shape[1:] == (48, 32, 3)
        assert len({picture.tobytes() for picture in pictures}) == len(pictures) > 1


def test_a_change_stays_where_the_content_is():
    scene = draw_scene(FLEET, 5, 0, 0)
    truth = render(scene, 64)
    assert truth.plate_box is not None, "choose a scene that shows its plate"
    pictures = np.stack([render(variant, 64).picture for variant in variants_of("plate", scene)]).astype(int)
    rows, columns = np.nonzero((pictures != pictures[:1]).any((0, 3)))
    x0, y0, x1, y1 = truth.plate_box
    reach = truth.reach + 1
    assert x0 - reach <= columns.min() and columns.max() < x1 + reach
    assert y0 - reach <= rows.min() and rows.max() < y1 + reach


def test_certificates_of_an_encoder_that_sees_all_and_of_one_that_sees_nothing():
    scenes = counterfactual_pictures("plate", FLEET, PREPROCESS, 2)
    everything = certify("plate", scenes, lambda pictures: pictures.reshape(len(pictures), -1))
    assert everything.accuracy == 1.0
    nothing = certify("plate", scenes, lambda pictures: np.zeros((len(pictures), 4), np.int8))
    assert nothing.accuracy == pytest.approx(nothing.chance)


def test_unknown_contents_are_refused():
    with pytest.raises(AttackError, match="wheels"):
        counterfactual_pictures("wheels", FLEET, PREPROCESS, 1)
