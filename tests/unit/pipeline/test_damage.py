"""Artifacts that are not what the run made: refused by name, nothing is done with them."""

import pytest

from tests.unit.pipeline.commands import hashes
from toolkit.stages import ORDER

FILES = [
    "data/pictures.npy",
    "data/splits.json",
    "train/dense/model.safetensors",
    "train/wire.json",
    "slim/plan.json",
    "export/slim/edge.onnx",
    "quantize/edge.cpu.onnx",
    "quantize/calibration.cache",
    "build/codes/slim-int8-cpu-w8-onnxruntime.npy",
    "build/slim-int8-cpu-w8-onnxruntime/edge.onnx.json",
    "attack/slim-int8-cpu-w8-onnxruntime/attack.json",
    "report/report.html",
    "check/verdicts.json",
]


def cut(body):
    return body[:-1]


def emptied(body):
    return b""


def flipped(body):
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


@pytest.mark.parametrize("damage", [flipped, cut, emptied])
def test_damaged_artifact_is_refused_by_name(copied, damage):
    before = hashes(copied.run, *ORDER)
    for name in FILES:
        path = copied.runs / "tiny" / name
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        error = copied.again().one_line_error()
        assert str(path) in error, error
        assert "run again" in error
        path.write_bytes(whole)
    assert copied.again().code == 0
    assert hashes(copied.run, *ORDER) == before


def test_missing_artifact_is_refused_by_name(copied):
    path = copied.runs / "tiny" / "export" / "slim" / "cloud.onnx"
    path.unlink()
    assert f"{path} is missing" in copied.again().one_line_error()


def test_damaged_input_is_refused_when_a_later_stage_is_made_again(copied):
    path = copied.runs / "tiny" / "build" / "cloud-slim" / "cloud.onnx"
    path.write_bytes(flipped(path.read_bytes()))
    error = copied.again("--set", "evaluate.bootstrap=120").one_line_error()
    assert str(path) in error
    assert "evaluate" in copied.run.manifest.stages, "what was finished stays"


def test_damaged_manifest_is_refused_by_name(copied):
    manifest = copied.runs / "tiny" / "manifest.json"
    body = manifest.read_bytes()
    manifest.write_bytes(body[: len(body) // 2])
    assert str(manifest) in copied.again().one_line_error()
    assert manifest.read_bytes() == body[: len(body) // 2], "nothing is written over it"
