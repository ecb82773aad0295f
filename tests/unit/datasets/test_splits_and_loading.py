"""Who sees which picture, and pictures in memory."""

from collections import Counter

import numpy as np
import pytest

from tests.unit.datasets import folders
from toolkit.datasets import DataSettings, Splits, load_pictures, make_splits, open_dataset
from toolkit.errors import DataError
from toolkit.preprocess import Preprocess, decode

SMALL = Preprocess(height=16, width=16)


def identities(dataset, indices):
    return {dataset.records[i].identity for i in indices}


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    root = folders.two_camera(tmp_path_factory.mktemp("roads"))
    settings = DataSettings(kind="two_camera", root=root, splits={"calibration_pictures": 12})
    return open_dataset(settings), settings


def test_who_sees_what(roads):
    dataset, settings = roads
    splits = make_splits(dataset, settings, seed=3)
    train, test = set(splits.train), set(splits.test)
    assert not train & test and train | test == set(range(len(dataset.records)))
    assert not identities(dataset, splits.train) & identities(dataset, splits.test)
    assert set(splits.attacker_train) | set(splits.attacker_validation) == train
    assert not identities(dataset, splits.attacker_train) & identities(dataset, splits.attacker_validation)
    assert len(identities(dataset, splits.attacker_validation)) == 5
    assert splits.query == splits.gallery
    assert set(splits.calibration) < train


def test_calibration_is_balanced(roads):
    dataset, settings = roads
    for seed in range(4):
        chosen = [dataset.records[i] for i in make_splits(dataset, settings, seed).calibration]
        assert len(chosen) == 12 and max(Counter(record.identity for record in chosen).values()) == 1
    every = settings.model_copy(update={"splits": settings.splits.model_copy(update={"calibration_pictures": 40})})
    chosen = [dataset.records[i] for i in make_splits(dataset, every, 0).calibration]
    assert Counter(Counter(record.identity for record in chosen).values()) == {2: 15, 1: 10}
    pairs = Counter((record.identity, record.camera) for record in chosen)
    assert max(pairs.values()) == 1


def test_calibration_is_balanced_over_cameras(tmp_path):
    settings = DataSettings(kind="veri776", root=folders.veri(tmp_path), splits={"calibration_pictures": 6})
    dataset = open_dataset(settings)
    chosen = [dataset.records[i] for i in make_splits(dataset, settings, 1).calibration]
    assert Counter((r.identity, r.camera) for r in chosen) == {
        (f"000{i}", f"c00{c}"): 1 for i in (1, 2, 3) for c in (1, 2)
    }
    splits = make_splits(dataset, settings, 1)
    assert splits.query == dataset.indices_of("query") and splits.gallery == dataset.indices_of("gallery")


def test_seed_decides(roads):
    dataset, settings = roads
    assert make_splits(dataset, settings, 1) == make_splits(dataset, settings, 1)
    assert make_splits(dataset, settings, 1).calibration != make_splits(dataset, settings, 2).calibration


def test_stored_by_name(roads):
    dataset, settings = roads
    splits = make_splits(dataset, settings, 0)
    text = splits.to_json(dataset)
    assert "images/train/car_0001_cam1.jpg" in text
    assert Splits.from_json(text, dataset) == splits


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("car_0001_cam1", "car_9999_cam1", "car_9999_cam1"),
        ('"version": 1', '"version": 2', "version 2"),
        ('"query"', '"queries"', "not a file of splits"),
        ("{", "", "not a file of splits"),
    ],
)
def test_foreign_splits_are_refused(roads, old, new, message):
    dataset, settings = roads
    text = make_splits(dataset, settings, 0).to_json(dataset).replace(old, new)
    with pytest.raises(DataError, match=message):
        Splits.from_json(text, dataset)


def test_pictures_in_the_asked_order(roads):
    dataset, _ = roads
    loaded = load_pictures(dataset, Preprocess(height=24, width=24), [5, 2, 5, 9])
    assert loaded.indices == (5, 2, 5, 9) and loaded.skipped == ()
    assert loaded.pictures.dtype == np.uint8 and loaded.pictures.shape == (4, 24, 24, 3)
    for row, index in enumerate((5, 2, 5, 9)):
        assert np.array_equal(loaded.pictures[row], decode(dataset.path_of(index)))


@pytest.fixture
def spoiled(tmp_path):
    root = folders.two_camera(tmp_path)
    dataset = open_dataset(DataSettings(kind="two_camera", root=root))
    whole = dataset.path_of(1).read_bytes()
    dataset.path_of(1).write_bytes(whole[: len(whole) // 2])
    dataset.path_of(3).write_bytes(b"")
    return dataset


def test_bad_pictures_are_refused_by_name(spoiled):
    with pytest.raises(DataError, match=spoiled.records[1].path):
        load_pictures(spoiled, SMALL, range(10))


def test_bad_pictures_are_skipped_and_counted(spoiled):
    loaded = load_pictures(spoiled, SMALL, range(6), on_error="skip")
    assert loaded.indices == (0, 2, 4, 5) and len(loaded.pictures) == 4
    assert len(loaded.skipped) == 2 and "truncated" in loaded.skipped[0] and "empty" in loaded.skipped[1]


def test_nothing_usable(spoiled):
    with pytest.raises(DataError, match="no usable picture"):
        load_pictures(spoiled, SMALL, [1, 3], on_error="skip")
    with pytest.raises(DataError, match="no usable picture"):
        load_pictures(spoiled, SMALL, [])
