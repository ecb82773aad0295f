"""Wrong settings and wrong data: one line that says what to do, exit code 2, nothing half-written."""

import cv2
import numpy as np
import pytest

from tests.unit.command_line import patrol_edge
from tests.unit.datasets import folders
from tests.unit.pipeline.commands import start, wait, write_config
from toolkit.runs import RunFolder


def two_camera_config(tmp_path, **data):
    section = {"kind": "two_camera", "root": str(tmp_path / "set"), "fleet": None, **data}
    return write_config(tmp_path, data=section)


def refused(tmp_path, config, *arguments, command="run"):
    """The one line; the run folder must not exist, because nothing was begun."""
    error = patrol_edge(command, config, "--runs", tmp_path / "runs", *arguments).one_line_error()
    assert not (tmp_path / "runs" / "tiny").exists()
    return error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("trian.epochs=1", ["trian", "did you mean train?"]),
        ("patrol.adversary.betta=1", ["patrol.adversary.betta", "did you mean beta?"]),
        ("model.cutt=layer2", ["model.cutt", "did you mean cut?"]),
        ("quantize.percentil=99", ["quantize.percentil", "did you mean percentile?"]),
        (
            "attack.attackers=[{kind: ridge, desing: 1}]",
            ["ridge.desing", "did you mean design?"],
        ),
        ("attack.attackers=[{kind: inverse_network, stepz: 1}]", ["stepz", "did you mean steps?"]),
        ("check.limits=[{metric: a, maxx: 1}]", ["check.limits.0.maxx", "did you mean max?"]),
        ("data.fleet.sizes=64", ["data.fleet.sizes", "did you mean size?"]),
        ("attack.preset=quick", ["attack.preset", "screening"]),
        ("train.epochs=-1", ["train.epochs", "greater than or equal to 0"]),
        ("train.epochs=many", ["train.epochs", "'many'"]),
        ("wire.bits=9", ["wire.bits", "8"]),
        ("name=a/b", ["name"]),
        ("train.epochs", ["section.key=value"]),
        ("seed.x=1", ["seed is not a section"]),
        ("model.cut=layer9", ["layer9", "layer2"]),
        ("model.backbone=resnet19", ["resnet19", "resnet18"]),
        ("check.file=nowhere.yaml", ["nowhere.yaml"]),
        ("enter={kind: checkpoint, path: nowhere.pth}", ["nowhere.pth does not exist"]),
        ("enter={kind: onnx, path: run.yaml}", ["cut"]),
    ],
)
def test_wrong_setting(tmp_path, fleet, change, words):
    error = refused(tmp_path, write_config(tmp_path, data=fleet), "--set", change)
    for word in words:
        assert word in error, error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "is not YAML"),
        ("", "holds no settings"),
        ("- a\n- b\n", "holds no settings"),
        ("\x00", "is not YAML"),
        ("name: !!python/object/apply:os.system [id]\n", "is not YAML"),
    ],
)
def test_file_that_holds_no_settings(tmp_path, text, words):
    config = tmp_path / "run.yaml"
    config.write_text(text)
    error = refused(tmp_path, config)
    assert words in error and str(config) in error


def test_missing_or_binary_settings_file(tmp_path):
    assert "No such file" in refused(tmp_path, tmp_path / "nothing.yaml")
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00name")
    assert "is not YAML" in refused(tmp_path, tmp_path / "run.yaml")


def test_missing_data_folder(tmp_path):
    error = refused(tmp_path, two_camera_config(tmp_path))
    assert f"{tmp_path / 'set'} does not exist" in error and "data.root" in error


def test_empty_data_folder(tmp_path):
    (tmp_path / "set").mkdir()
    assert "holds no pictures" in refused(tmp_path, two_camera_config(tmp_path))


def test_data_set_of_one_identity(tmp_path):
    folders.two_camera(tmp_path / "set", cars=1, bikes=0, held_out=0, lists=False)
    error = refused(tmp_path, two_camera_config(tmp_path, test_fold=0))
    assert "re-identification needs at least 2" in error


def test_limits_file_is_read_before_hours_of_work(tmp_path, fleet):
    (tmp_path / "limits.yaml").write_text("schema: 1\nlimits:\n  - {metric: reid.map, minn: 0.5}\n")
    config = write_config(tmp_path, data=fleet, check={"file": "limits.yaml"})
    error = refused(tmp_path, config)
    assert "limits.yaml" in error and "did you mean 'min'?" in error


def spoil(path, how):
    if how == "1x1":
        assert cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8))
    elif how == "truncated":
        body = path.read_bytes()
        path.write_bytes(body[: len(body) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_text("this is no picture")


@pytest.mark.parametrize("how", ["1x1", "truncated", "empty", "text"])
def test_unusable_picture_is_named_or_skipped_with_a_count(tmp_path, how):
    folders.two_camera(tmp_path / "set")
    spoilt = tmp_path / "set" / "images" / "train" / "motorcycle_0003_cam2.jpg"
    spoil(spoilt, how)
    config = two_camera_config(tmp_path)
    error = patrol_edge("data", config, "--runs", tmp_path / "runs").one_line_error()
    assert str(spoilt) in error
    run = RunFolder.read(tmp_path / "runs" / "tiny")
    assert run.manifest.stages == {}
    assert not (run.root / "data").exists() and not (run.root / "data.partial").exists()

    outcome = patrol_edge("data", config, "--runs", tmp_path / "runs", "--set", "data.on_error=skip")
    assert outcome.code == 0, outcome.log
    assert "1 of 60 pictures skipped" in outcome.log and str(spoilt) in outcome.log
    assert RunFolder.read(run.root).manifest.stages["data"].summary["skipped"] == 1


def test_unknown_command_and_missing_argument_are_wrong_use():
    for arguments in (
        ["frobnicate", "x.yaml"],
        ["run"],
        ["train"],
        ["run", "a.yaml", "b.yaml"],
        ["run", "--no"],
    ):
        outcome = patrol_edge(*arguments)
        assert outcome.code == 2, arguments
        assert "Traceback" not in outcome.log


def test_stage_that_this_run_does_not_have(tmp_path, fleet):
    (tmp_path / "own.onnx").write_bytes(b"anything")
    enter = {"kind": "onnx", "path": "own.onnx", "cut": "x"}
    error = refused(tmp_path, write_config(tmp_path, data=fleet, enter=enter), command="train")
    assert "has no stage 'train'; it has data, export, quantize" in error


def test_run_folder_that_another_process_works_in(copied):
    script = (
        "import pathlib, sys, time\n"
        "from toolkit.runs import RunFolder\n"
        "with RunFolder.read(pathlib.Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = start(copied.runs / "tiny", before=script)
    try:
        assert holder.stdout.readline() == "held\n"
        before = (copied.runs / "tiny" / "manifest.json").read_bytes()
        error = copied.again("--set", "evaluate.bootstrap=110").one_line_error()
        assert f"another process works in {copied.runs / 'tiny'}" in error
        assert (copied.runs / "tiny" / "manifest.json").read_bytes() == before
    finally:
        holder.kill()
        wait(holder)
    assert copied.again().code == 0, "a dead process holds nothing"


def test_runs_folder_that_is_a_file(tmp_path, fleet):
    (tmp_path / "runs").write_text("")
    error = patrol_edge("run", write_config(tmp_path, data=fleet), "--runs", tmp_path / "runs").one_line_error()
    assert str(tmp_path / "runs") in error


def test_renamed_artifact_folder_is_not_taken_for_a_stage(copied):
    """A stage's folder without its record is not an artifact: the stage is made again over it."""
    run = copied.run
    record = run.manifest.stages.pop("check")
    run.save()
    outcome = copied.again()
    assert outcome.code == 0
    assert copied.run.manifest.stages["check"].artifacts.keys() == record.artifacts.keys()
