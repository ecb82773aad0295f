"""The fleet on disk."""

import json
from collections import Counter

import numpy as np
import pytest

from toolkit.datasets import DataSettings, load_pictures, make_splits, open_dataset
from toolkit.datasets.fleet import FleetSettings, load_truth, load_truths, render, write_fleet, writer
from toolkit.datasets.fleet.truth import decode_mask, encode_mask
from toolkit.errors import DataError
from toolkit.preprocess import Preprocess

SMALL = FleetSettings(size=64, identities_train=3, identities_test=2, pictures_per_identity=4, cameras=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_fleet(tmp_path_factory.mktemp("data") / "fleet", SMALL)


def test_layout_reads_as_veri776(root):
    settings = DataSettings(kind="fleet", root=root, fleet=SMALL)
    dataset = open_dataset(settings)
    assert dataset.name == "fleet" and dataset.protocol == "veri"
    assert Counter(record.role for record in dataset.records) == {"train": 12, "query": 4, "gallery": 8}
    assert set(dataset.records[0].attributes) == {"colour", "type"}
    splits = make_splits(dataset, settings, 0)
    queries = {dataset.records[i].path.split("/")[1] for i in splits.query}
    assert queries < {dataset.records[i].path.split("/")[1] for i in splits.gallery}
    assert Counter(dataset.records[i].camera for i in splits.query) == {"c001": 2, "c002": 2}


def test_truth_of_each_picture(root):
    dataset = open_dataset(DataSettings(kind="fleet", root=root, fleet=SMALL))
    indices = range(len(dataset.records))
    pictures = load_pictures(dataset, Preprocess(height=64, width=64), indices).pictures
    for truth, picture, record in zip(load_truths(dataset, indices), pictures, dataset.records, strict=True):
        again = render(truth.scene, truth.size)
        assert np.abs(again.picture.astype(int) - picture).mean() < 4  # JPEG alone lies between
        assert np.array_equal(truth.mask, again.mask)
        assert truth.plate_box == again.plate_box and truth.occupant_boxes == again.occupant_boxes
        assert truth.plate_text == again.plate_text == truth.scene.plate.text
        assert (truth.identity, truth.camera) == (record.identity, record.camera)
        if truth.plate_corners is not None:
            assert np.allclose(truth.plate_corners, again.plate_corners, atol=0.01)


def test_deterministic(root, tmp_path):
    again = write_fleet(tmp_path / "again", SMALL)
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    assert len(files) == 12 + 4 + 8 + 20 + 2 + 3 + 1
    assert all((root / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_written_once(root):
    before = (root / "fleet.json").stat().st_mtime_ns
    assert write_fleet(root, SMALL) == root
    assert (root / "fleet.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="other settings"):
        write_fleet(root, SMALL.model_copy(update={"seed": 1}))


def test_strangers_are_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_fleet(tmp_path, SMALL)
    with pytest.raises(DataError, match="is a file"):
        write_fleet(tmp_path / "note.txt", SMALL)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (write_fleet(tmp_path / "empty", SMALL) / "image_train").is_dir()


def test_killed_writer_leaves_nothing_half_written(tmp_path, monkeypatch):
    written = []

    def stop(*arguments):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(arguments)
        return original(*arguments)

    original = writer._write_picture
    monkeypatch.setattr(writer, "_write_picture", stop)
    with pytest.raises(DataError, match="No space left"):
        write_fleet(tmp_path / "fleet", SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "fleet.part").mkdir()
    (tmp_path / "fleet.part" / "left-over").write_text("from a killed run")
    assert not (write_fleet(tmp_path / "fleet", SMALL) / "left-over").exists()


def test_truth_is_missing_or_damaged(root, tmp_path):
    with pytest.raises(DataError, match="no ground truth"):
        load_truth(root, "image_train/9999_c001_00000000_0.jpg")
    stored = json.loads(next((root / "truth").iterdir()).read_text())
    (tmp_path / "truth").mkdir()
    for spoiled in ("{", json.dumps({**stored, "mask_runs": [5]}), json.dumps({**stored, "scene": {"x": 1}})):
        (tmp_path / "truth" / "a.json").write_text(spoiled)
        with pytest.raises(DataError, match="damaged"):
            load_truth(tmp_path, "image_train/a.jpg")


@pytest.mark.parametrize("fill", [0.0, 0.3, 1.0])
def test_mask_runs(fill):
    mask = np.random.default_rng(0).random((16, 16)) < fill
    runs = encode_mask(mask)
    assert sum(runs) == 256 and np.array_equal(decode_mask(runs, 16), mask)
