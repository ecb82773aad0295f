from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from targets.jetson.catalogue import modules
from tests.unit.command_line import patrol_edge
from tests.unit.datasets import folders
from toolkit.settings import load_settings

WRITERS = {
    "two_camera": folders.two_camera,
    "veri776": folders.veri,
    "vehicleid": folders.vehicleid,
    "veriwild": folders.veriwild,
}


def test_fleet_needs_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.yaml"
    outcome = patrol_edge("init", path)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [f"wrote {path}", f"next: patrol-edge run {path}"]
    settings = load_settings(path)
    assert settings.data.kind == "fleet"
    assert settings.picture.height == settings.data.fleet.size == 64
    assert settings.check.limits


@pytest.mark.parametrize("kind", WRITERS)
def test_each_data_set_is_looked_at_and_can_be_run(tmp_path: Path, kind: str) -> None:
    root = WRITERS[kind](tmp_path / "a folder: with signs #1")
    path = tmp_path / "run.yaml"
    outcome = patrol_edge("init", path, "--data", kind, "--root", root)
    assert outcome.code == 0, outcome.err
    assert " pictures of " in outcome.out
    settings = load_settings(path)
    assert settings.data.root == root
    assert settings.picture.height == (64 if kind == "two_camera" else 128)


def test_two_cameras_without_a_test_list_get_a_fold(tmp_path: Path) -> None:
    root = folders.two_camera(tmp_path / "set", lists=False)
    patrol_edge("init", tmp_path / "run.yaml", "--data", "two_camera", "--root", root)
    assert load_settings(tmp_path / "run.yaml").data.test_fold == 0


@pytest.mark.parametrize("key", [module.key for module in modules()])
def test_each_device_has_its_precision_and_its_form(tmp_path: Path, key: str) -> None:
    path = tmp_path / "run.yaml"
    assert patrol_edge("init", path, "--device", key).code == 0
    settings, text = load_settings(path), path.read_text()
    assert settings.name == f"fleet-{key}"
    assert settings.slim.plan.precision == ("fp16" if key.startswith(("nano", "tx2")) else "int8")
    assert ("edge.b.onnx" in text) == key.startswith(("orin", "agx-orin", "thor"))
    assert ("edge.a.onnx" in text) == (not key.startswith("thor"))
    assert max(map(len, text.splitlines())) < 120


def test_choices_are_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    arguments = ("--size", 96, "--backbone", "mobilenet_v2", "--cut", "features.4", "--name", "my run!")
    outcome = patrol_edge("init", path, *arguments)
    assert outcome.code == 0, outcome.err
    body = yaml.safe_load(path.read_text())
    assert (body["name"], body["picture"]) == ("my-run", {"height": 96, "width": 96})
    assert body["model"] == {"backbone": "mobilenet_v2", "cut": "features.4", "last_stride": 1}


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    outcome = patrol_edge("init", path)
    assert outcome.code == 2
    assert "exists and is left alone" in outcome.err
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "veri"), "one of fleet, two_camera, veri776, vehicleid, veriwild"),
        (("--data", "veri776"), "needs --root"),
        (("--data", "veri776", "--root", "nowhere"), "nowhere"),
        (("--device", "orin-nano"), "did you mean orin-nano-8gb"),
        (("--size", 8), "32 to 1024"),
        (("--backbone", "resnet19"), "resnet18"),
        (("--cut", "layer9"), "layer2"),
    ],
)
def test_wrong_choices_are_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[object, ...], words: str
) -> None:
    outcome = patrol_edge("init", tmp_path / "run.yaml", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith("error PE")
    assert words in outcome.err
    assert not list(tmp_path.iterdir())
