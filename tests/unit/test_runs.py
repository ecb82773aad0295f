"""The run folder: resume, verification, locks."""

import json

import pytest

from toolkit.errors import ArtifactError
from toolkit.runs import CHECKPOINTS, RunFolder, list_runs


def open_run(root, name="r"):
    return RunFolder.open(root / name, name=name, settings={}, environment={})


def finish(run, stage="train", key="k", text="weights"):
    partial = run.begin(stage, key)
    (partial / "net").mkdir(exist_ok=True)
    (partial / "net" / "model.bin").write_text(text)
    return run.finish(stage, key, code_version=1, inputs={}, seconds=0.1, summary={})


def test_finished_stage_is_found_again(tmp_path):
    finish(open_run(tmp_path))
    again = RunFolder.read(tmp_path / "r")
    assert again.is_done("train", "k")
    assert not again.is_done("train", "other key")
    assert again.path("train", "net", "model.bin").read_text() == "weights"
    assert again.folder("train", "net") == tmp_path / "r" / "train" / "net"
    assert not (tmp_path / "r" / "train.partial").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_changed_artifact_is_refused_by_name(tmp_path, damage):
    finish(open_run(tmp_path))
    path = tmp_path / "r" / "train" / "net" / "model.bin"
    if damage == "flip":
        body = bytearray(path.read_bytes())
        body[0] ^= 1
        path.write_bytes(bytes(body))
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    run = RunFolder.read(tmp_path / "r")
    with pytest.raises(ArtifactError, match=r"net/model\.bin"):
        run.is_done("train", "k")
    with pytest.raises(ArtifactError, match=r"net/model\.bin"):
        run.path("train", "net", "model.bin")


def test_partial_folder_survives_under_the_same_key_only(tmp_path):
    run = open_run(tmp_path)
    (run.begin("train", "k") / "half").write_text("x")
    assert (run.begin("train", "k") / "half").exists()
    assert not (run.begin("train", "new settings") / "half").exists()


def test_checkpoints_are_not_artifacts(tmp_path):
    run = open_run(tmp_path)
    partial = run.begin("train", "k")
    (partial / CHECKPOINTS).mkdir()
    (partial / CHECKPOINTS / "epoch").write_text("x")
    (partial / "result").write_text("y")
    record = run.finish("train", "k", code_version=1, inputs={}, seconds=0, summary={})
    assert list(record.artifacts) == ["result"]
    assert not (tmp_path / "r" / "train" / CHECKPOINTS).exists()


def test_digest_follows_the_content(tmp_path):
    run = open_run(tmp_path)
    first = finish(run).digest()
    assert finish(run).digest() == first
    assert finish(run, text="other").digest() != first


def test_deleted_stage_is_forgotten(tmp_path):
    run = open_run(tmp_path)
    finish(run)
    (tmp_path / "r" / "train" / "net" / "model.bin").unlink()
    (tmp_path / "r" / "train" / "net").rmdir()
    (tmp_path / "r" / "train").rmdir()
    assert run.drop_missing() == ["train"]
    assert not run.has("train", "net")


def test_unfinished_stage_and_unknown_artifact(tmp_path):
    run = open_run(tmp_path)
    with pytest.raises(ArtifactError, match="run it first"):
        run.path("slim", "plan.json")
    finish(run)
    with pytest.raises(ArtifactError, match=r"no artifact plan\.json"):
        run.path("train", "plan.json")


def test_two_processes_cannot_share_a_run(tmp_path):
    first, second = open_run(tmp_path), open_run(tmp_path)
    with first.locked(), pytest.raises(ArtifactError, match="another process"), second.locked():
        pass


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 99}', '{"schema_version": 1}', "[]"])
def test_damaged_manifest_is_named(tmp_path, text):
    open_run(tmp_path).save()
    (tmp_path / "r" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        RunFolder.read(tmp_path / "r")


def test_list_runs_leaves_out_what_is_not_a_run(tmp_path):
    open_run(tmp_path, "a").save()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text("nonsense")
    assert [run.manifest.name for run in list_runs(tmp_path)] == ["a"]
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["schema_version"] == 1
