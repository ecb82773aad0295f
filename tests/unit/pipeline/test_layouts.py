"""The data stage on folders in the layouts that people have."""

from pathlib import Path

import numpy as np

from tests.unit.command_line import patrol_edge
from tests.unit.datasets import folders
from tests.unit.pipeline.commands import read_json, write_config
from toolkit.runs import RunFolder


def data_stage(tmp_path, **section):
    config = write_config(tmp_path, data={"fleet": None, "root": str(tmp_path / "set"), **section})
    outcome = patrol_edge("data", config, "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.log
    assert outcome.out == f"data: {tmp_path / 'runs' / 'tiny' / 'data'}\n"
    run = RunFolder.read(tmp_path / "runs" / "tiny")
    index = read_json(run.path("data", "index.json"))
    pictures = np.load(run.path("data", "pictures.npy"), allow_pickle=False)
    assert pictures.shape == (len(index["paths"]), 32, 32, 3) and pictures.dtype == np.uint8
    rows = index["rows"]
    names = {name: {index["identities"][row] for row in numbers} for name, numbers in rows.items()}
    test = names["query"] | names["gallery"]
    assert test and not test & names["train"]
    assert set(rows["calibration"]) <= set(rows["train"])
    for part in ("attacker_train", "attacker_validation"):
        assert not test & names[part]
    assert not names["attacker_train"] & names["attacker_validation"]
    return run, index, names


def test_two_cameras_with_lists(tmp_path):
    folders.two_camera(tmp_path / "set")
    run, index, names = data_stage(tmp_path, kind="two_camera")
    assert index["protocol"] == "two_camera"
    assert "images/train/car_0001_cam1.jpg" in index["paths"]
    assert set(index["cameras"]) == {"cam1", "cam2"}
    assert names["query"] | names["gallery"] == {f"car_{number:04d}" for number in range(1, 6)}
    assert run.manifest.stages["data"].summary == {
        "pictures": 60,
        "skipped": 0,
        "train_identities": 25,
        "test_identities": 5,
    }
    stored = read_json(run.path("data", "splits.json"))
    assert "car_0001" in str(stored), "splits are stored by name"


def test_two_cameras_by_another_fold(tmp_path):
    folders.two_camera(tmp_path / "set")
    _, _, names = data_stage(tmp_path, kind="two_camera", test_fold=3)
    held_out = names["query"] | names["gallery"]
    assert not held_out & {f"car_{number:04d}" for number in range(1, 6)}
    assert {name.split("_")[0] for name in held_out} == {"car", "motorcycle"}


def test_veri_layout(tmp_path):
    folders.veri(tmp_path / "set", train=4)
    _, index, names = data_stage(tmp_path, kind="veri776")
    assert index["protocol"] == "veri"
    assert names["query"] == names["gallery"] == {"0005", "0006", "0007"}
    assert names["train"] == {"0001", "0002", "0003", "0004"}
    assert set(index["cameras"]) == {"c001", "c002"}


def test_fleet_is_written_once_in_veri_layout(finished, fleet):
    root = Path(fleet["root"])
    assert {"image_train", "image_query", "image_test"} <= {path.name for path in root.iterdir()}
    index = read_json(finished.run.path("data", "index.json"))
    assert index["protocol"] == "veri" and index["synthetic"] is True
    assert len(set(index["identities"])) == 20
