"""Balanced choice, stored list, and refusal of data that is not pictures."""

from collections import Counter

import numpy as np
import pytest

from calibration.drift import feature_drift
from calibration.errors import (
    ConstantPictureError,
    DuplicatePictureError,
    NoisePictureError,
    PictureError,
)
from calibration.pictures import (
    choose_pictures,
    duplicates,
    picture_list_hash,
    read_picture_list,
    refuse_unreal,
    write_picture_list,
)
from tests.unit.calibration.networks import batch, pictures


def unbalanced():
    identities, cameras = [], []
    for number in range(10):
        for picture in range(2 + 6 * (number == 0)):
            identities.append(f"v{number}")
            cameras.append("left" if picture % 2 else "right")
    return identities, cameras


def test_identities_and_cameras_are_balanced_in_every_prefix():
    identities, cameras = unbalanced()
    chosen = choose_pictures(identities, cameras, 20, 3)
    assert len(set(chosen.tolist())) == 20
    for size in (5, 10, 16, 20):
        counts = Counter(identities[i] for i in chosen[:size])
        assert max(counts.values()) - min(counts.get(f"v{n}", 0) for n in range(10)) <= 1
        sides = Counter(cameras[i] for i in chosen[:size])
        assert abs(sides["left"] - sides["right"]) <= 2


def test_choice_depends_on_the_seed_alone():
    identities, cameras = unbalanced()
    np.testing.assert_array_equal(
        choose_pictures(identities, cameras, 9, 1), choose_pictures(identities, cameras, 9, 1)
    )
    assert (
        choose_pictures(identities, cameras, 9, 1).tolist() != choose_pictures(identities, cameras, 9, 2).tolist()
    )


def test_more_than_there_are_gives_all():
    identities, cameras = unbalanced()
    assert sorted(choose_pictures(identities, cameras, 1000, 0).tolist()) == list(range(len(identities)))


@pytest.mark.parametrize(
    ("identities", "cameras", "count"), [([], [], 3), (["a"], ["x", "y"], 1), (["a"], ["x"], 0)]
)
def test_nothing_to_choose_from(identities, cameras, count):
    with pytest.raises(PictureError):
        choose_pictures(identities, cameras, count, 0)


def test_real_looking_pictures_pass_in_both_forms():
    refuse_unreal(pictures(20))
    refuse_unreal(batch(20))


def noise(kind: str) -> np.ndarray:
    random = np.random.default_rng(0)
    if kind == "uniform":
        return random.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    if kind == "gaussian":
        return np.clip(random.normal(128, 30, (16, 32, 32, 3)), 0, 255).astype(np.uint8)
    if kind == "grey":
        return np.repeat(random.integers(0, 256, (16, 32, 32, 1), dtype=np.uint8), 3, axis=3)
    coarse = random.integers(0, 256, (16, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "grey", "coarse"])
def test_noise_is_refused(kind):
    with pytest.raises(NoisePictureError, match="random"):
        refuse_unreal(noise(kind))


def test_float_noise_is_refused():
    with pytest.raises(NoisePictureError):
        refuse_unreal(np.random.default_rng(0).random((8, 3, 32, 32), dtype=np.float32))


def test_constant_pictures_are_refused():
    with pytest.raises(ConstantPictureError):
        refuse_unreal(np.full((8, 32, 32, 3), 90, np.uint8))


def test_duplicates_are_refused_even_slightly_changed():
    found = pictures(10)
    again = np.clip(found[3].astype(int) + np.random.default_rng(0).integers(-1, 2, found[3].shape), 0, 255)
    with pytest.raises(DuplicatePictureError, match="number 10"):
        refuse_unreal(np.concatenate([found, again[None].astype(np.uint8)]))


def test_duplicates_are_those_of_all_pairs():
    found = pictures(30)
    found[[11, 20, 29]] = found[[4, 4, 0]]
    assert duplicates(found, 2.0) == [11, 20, 29]
    assert duplicates(found[::-1].copy(), 2.0) == [18, 25, 29]


def test_a_few_bad_pictures_among_many_are_only_logged(caplog):
    found = pictures(40)
    found[7] = 0
    refuse_unreal(found)
    assert "1 of 40" in caplog.text


def test_only_the_chosen_rows_count():
    found = pictures(10)
    found[3] = found[5]
    refuse_unreal(found, rows=np.asarray([0, 1, 2, 4, 5]))
    with pytest.raises(DuplicatePictureError, match="number 1\\)"):
        refuse_unreal(found, rows=np.asarray([5, 3]))
    with pytest.raises(PictureError, match="no calibration pictures"):
        refuse_unreal(found, rows=np.asarray([], np.int64))


@pytest.mark.parametrize(
    "data", [np.zeros((4, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8), np.full((2, 3, 8, 8), 2, np.float32)]
)
def test_other_arrays_are_named(data):
    with pytest.raises(PictureError):
        refuse_unreal(data)


def test_the_list_is_stored_with_its_hash(tmp_path):
    path = tmp_path / "pictures.json"
    digest = write_picture_list(path, ["a.jpg", "b.jpg"])
    assert read_picture_list(path) == ("a.jpg", "b.jpg")
    assert digest == picture_list_hash(["a.jpg", "b.jpg"]) != picture_list_hash(["b.jpg", "a.jpg"])
    path.write_text(path.read_text().replace("b.jpg", "c.jpg"))
    with pytest.raises(PictureError, match="changed"):
        read_picture_list(path)
    path.write_text("{")
    with pytest.raises(PictureError):
        read_picture_list(path)


def test_drift_of_one_distribution_is_small_and_of_two_is_reported(caplog):
    random = np.random.default_rng(0)
    one, same, other = random.normal(size=(60, 8)), random.normal(size=(80, 8)), random.normal(1.5, 1, (60, 8))
    assert not feature_drift(one, same, 0).far
    assert "far" not in caplog.text
    drift = feature_drift(one, other, 0)
    assert drift.far
    assert drift.distance > feature_drift(one, same, 0).distance
    assert "far" in caplog.text
    with pytest.raises(PictureError):
        feature_drift(one, other[:, :3], 0)
