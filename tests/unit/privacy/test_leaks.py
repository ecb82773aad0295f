import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from toolkit.datasets.fleet import FleetSettings, Plate, Scene, View, draw_scene, render
from toolkit.errors import AttackError
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.contents import NamedContent, fleet_contents, labelled_contents
from toolkit.privacy.leaks import LeakProbe, LeakSettings, region_ssim
from toolkit.privacy.patches import (
    CHARACTERS,
    Regions,
    code_reader,
    cut_out,
    occupant_counts,
    picture_reader,
    plate_characters,
    whole_pictures,
)
from toolkit.privacy.recogniser import Recogniser, RecogniserSettings
from toolkit.privacy.similarity import compare

QUICK = LeakSettings(recogniser=RecogniserSettings(height=12, width=12, channels=8, steps=40, batch=32))
FULL = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def arrows(count: int = 240, seed: int = 0) -> tuple[np.ndarray, Regions, list[str]]:
    """Pictures with a bright bar in one of three places; the place is the content."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pictures = random.integers(0, 60, (count, 24, 24, 3)).astype(np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        picture[4:20, 4 + 6 * label : 8 + 6 * label] = 220
    quads = np.repeat(FULL[None], count, 0)
    return pictures, Regions(np.arange(count), quads, labels, 3), [f"id{i // 2}" for i in range(count)]


def measure(reconstructions, codes, labels=None, settings=QUICK):
    pictures, regions, identities = arrows()
    if labels is not None:
        regions = dataclasses.replace(regions, labels=labels)
    rows = np.arange(240)
    probe = LeakProbe(
        NamedContent("bar", regions, True), identities, rows[:160], rows[160:], picture_reader(pictures), settings
    )
    return probe.measure({k: picture_reader(v) for k, v in reconstructions.items()}, codes)


def test_content_that_survives_is_read_and_content_that_does_not_is_at_chance():
    pictures, _, _ = arrows()
    blank = np.full_like(pictures, 90)
    nothing = code_reader(WireCodes(np.zeros((240, 2, 3, 3), np.int8)))
    found = measure({"copy": pictures, "blank": blank}, nothing)
    assert found.reportable
    assert found.accuracy["original"].value > 0.95
    assert found.accuracy["copy"].value > 0.95
    assert found.accuracy["blank"].value < found.chance + 0.15
    assert found.accuracy["codes"].value < found.chance + 0.15
    assert found.worst[0] in ("copy", "copy, read by eye")
    assert found.advantage > 0.9
    rows = {m.name: m for m in found.metrics("v", "m", "worst of 2 attackers")}
    assert set(rows) == {"leak.bar", "leak.bar.original", "leak.bar.chance"}
    assert rows["leak.bar"].protocol == f"worst of 2 attackers: {found.worst[0]}"
    assert rows["leak.bar"].value == found.worst[1].value


def test_codes_count_where_the_reconstruction_shows_nothing():
    pictures, _, _ = arrows()
    codes = (255 - pictures[:, ::3, ::3]).transpose(0, 3, 1, 2)
    found = measure({"blank": np.full_like(pictures, 90)}, code_reader(WireCodes((codes // 2).astype(np.int8))))
    assert found.worst[0] == "codes"
    assert found.worst[1].value > 0.9


def test_a_recogniser_that_cannot_read_originals_proves_nothing():
    pictures, _, _ = arrows()
    labels = np.random.default_rng(1).integers(0, 3, 240)
    found = measure({"copy": pictures}, None, labels=labels)
    assert not found.reportable
    assert set(found.accuracy) == {"original"}
    assert "leak.bar" not in {m.name for m in found.metrics("v", "m")}
    with pytest.raises(AttackError, match="cannot read originals"):
        _ = found.worst


def test_identity_evidence_is_not_called_a_leak():
    pictures, _, _ = arrows()
    found = dataclasses.replace(measure({"copy": pictures}, None), per_picture=False)
    assert {m.name.split(".")[0] for m in found.metrics("v", "m")} == {"identity_evidence"}


def test_shared_identities_and_empty_sides_are_refused():
    pictures, regions, identities = arrows()
    read, rows = picture_reader(pictures), np.arange(240)
    bar = NamedContent("bar", regions, True)
    with pytest.raises(AttackError, match="share an identity"):
        LeakProbe(bar, identities, rows[:161], rows[161:], read, QUICK)
    few = dataclasses.replace(regions, rows=regions.rows[:4], quads=regions.quads[:4], labels=regions.labels[:4])
    with pytest.raises(AttackError, match="0 test regions"):
        LeakProbe(NamedContent("bar", few, True), identities, rows[:160], rows[160:], read, QUICK)
    with pytest.raises(AttackError, match="fit the recogniser"):
        Recogniser(regions, QUICK.recogniser).hits(read, rows)


def test_whole_region_is_the_resized_picture():
    pictures, regions, _ = arrows(2)
    same = cut_out(picture_reader(pictures), regions, np.array([1, 0]), (24, 24))
    expected = pictures[[1, 0]].transpose(0, 3, 1, 2) / 255
    assert np.abs(same - expected).max() < 1e-5


def test_a_quad_is_straightened():
    picture = np.zeros((1, 40, 60, 3), np.uint8)
    picture[0, 10:20, 30:40] = (0, 200, 0)
    quad = np.array([(30, 10), (40, 10), (40, 20), (30, 20)], np.float64) / (60, 40)
    turned = np.roll(quad, -1, axis=0)
    regions = Regions(np.zeros(2, np.int64), np.stack([quad, turned]), np.zeros(2, np.int64), 1)
    found = cut_out(picture_reader(picture), regions, np.arange(2), (8, 8))
    assert found[:, 1, 1:-1, 1:-1] == pytest.approx(200 / 255, abs=1e-5)
    assert found[:, 0].max() == 0


def test_plate_characters_show_the_character():
    """Averaged glyphs of one letter differ from another's: the cells lie where the renderer put them."""
    view = View(azimuth=180.0, elevation=8.0, frame="rear")
    text = "KT4818"
    scene = Scene(view=view, plate=Plate(text=text))
    made = render(scene, 256)
    regions = plate_characters([made], [0])
    assert [CHARACTERS[i] for i in regions.labels] == list(text)
    patches = cut_out(picture_reader(made.picture[None]), regions, np.arange(6), (40, 32)).mean(1)
    ink = [cv2.threshold((255 * p / p.max()).astype(np.uint8), 0, 1, cv2.THRESH_OTSU)[1] for p in patches]
    distance = [[np.abs(a.astype(int) - b).mean() for b in ink] for a in ink]
    same = distance[3][5]  # the two eights
    others = [distance[3][i] for i in (0, 1, 2, 4)]
    assert same < 0.6 * min(others)


def test_plates_that_nobody_could_read_are_left_out():
    truth = SimpleNamespace(
        plate_text="AB1234",
        plate_corners=np.array([(5, 5), (15, 5), (15, 8), (5, 8)], np.float32),
        occupant_boxes=(),
        mask=np.ones((64, 64), bool),
    )
    with pytest.raises(AttackError, match="large enough"):
        plate_characters([truth], [0])
    assert len(plate_characters([truth], [7], least_width=5.0).rows) == 6
    hidden = SimpleNamespace(**{**vars(truth), "plate_corners": None})
    with pytest.raises(AttackError):
        plate_characters([hidden], [0], least_width=5.0)


def test_other_contents():
    mask = np.zeros((10, 20), bool)
    mask[2:6, 5:15] = True
    truth = SimpleNamespace(plate_text="", plate_corners=None, occupant_boxes=((0, 0, 1, 1),) * 3, mask=mask)
    regions = occupant_counts([truth], [4])
    assert regions.labels.tolist() == [2]
    assert regions.classes == 3
    assert regions.quads[0].tolist() == [[0.25, 0.2], [0.75, 0.2], [0.75, 0.6], [0.25, 0.6]]
    colours = whole_pictures(["red", "blue", "red"], [0, 1, 2])
    assert colours.labels.tolist() == [1, 0, 1]
    assert colours.classes == 2


def test_the_fleet_says_what_its_contents_are_tied_to():
    settings = FleetSettings(size=64, plate="per_picture", background="per_identity")
    cameras = ["c1", "c2", "c1", "c2", "c1", "c2"]
    truths = []
    for number in range(6):
        scene = draw_scene(settings, number // 2, number % 2, number % 2)
        made = render(scene, 64)
        truths.append(SimpleNamespace(**{**vars(made), "plate_text": made.plate_text, "scene": scene}))
    wanted = ("occupants", "background", "camera", "colour", "type", "plate")
    found = {c.name: c for c in fleet_contents(truths, cameras, range(6), settings, wanted)}
    assert not found["background"].per_picture
    assert found["camera"].per_picture
    assert found["camera"].regions.labels.tolist() == [0, 1] * 3
    assert not any(found[name].per_picture for name in ("colour", "type") if name in found)
    assert "plate" not in found or found["plate"].per_picture
    assert set(found) <= set(wanted)


def test_labels_name_camera_colour_and_type_and_leave_out_what_has_none():
    attributes = [{"colour": "red", "type": "suv"}, {"color": "blue"}, {}, {"colour": "red", "type": "suv"}]
    found = labelled_contents(
        attributes, ["a", "b", "a", "b"], [5, 6, 7, 8], ("plate", "camera", "colour", "type")
    )
    assert [(c.name, c.per_picture) for c in found] == [("camera", True), ("colour", False)]
    assert found[1].regions.rows.tolist() == [5, 6, 8]
    assert found[1].regions.labels.tolist() == [1, 0, 1]


def test_ssim_inside_a_mask():
    random = np.random.default_rng(0)
    original = random.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    half = original.copy()
    half[:, :, 16:] = 128
    left = np.zeros((2, 32, 32), bool)
    left[:, :, :10] = True
    assert region_ssim(half, original, left) == pytest.approx(1.0)
    assert (region_ssim(half, original, ~left) < 0.6).all()
    everything = np.ones((2, 32, 32), bool)
    assert region_ssim(half, original, everything) == pytest.approx(compare(half, original).ssim)
    assert np.isnan(region_ssim(half, original, np.zeros((2, 32, 32), bool))).all()
    with pytest.raises(AttackError, match="do not match"):
        region_ssim(half, original, left[:1])
