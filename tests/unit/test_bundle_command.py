"""A bundle from a run folder: its test vectors are what ONNX Runtime computes."""

import json
import tarfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from targets.errors import DeployError
from targets.jetson.device.bundle import verify
from toolkit.cli import app
from toolkit.errors import ArtifactError, SettingsError
from toolkit.runs import RunFolder

runner = CliRunner()


def edge():
    """A 1x1 convolution and the wire's quantizer."""
    nodes = [
        helper.make_node("Conv", ["picture", "w"], ["f"], name="conv"),
        helper.make_node("QuantizeLinear", ["f", "s", "z"], ["wire"], name="q"),
    ]
    weights = [
        numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w"),
        numpy_helper.from_array(np.array(0.05, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.int8), "z"),
    ]
    graph = helper.make_graph(
        nodes,
        "edge",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("wire", TensorProto.INT8, ["batch", 2, 4, 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.open(tmp_path / "runs" / "small", name="small", settings={}, environment={})
    content = {
        "data": {"preprocess.json": "{}", "index.json": json.dumps({"rows": {"calibration": [0, 1, 2, 3]}})},
        "export": {"networks.json": json.dumps({"final": "slim"}), "slim/wire.json": "{}"},
        "quantize": {"calibration.cache": "cache"},
    }
    for stage, files in content.items():
        partial = folder.begin(stage, "k")
        for name, text in files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(text)
        if stage == "data":
            pictures = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)
            np.save(partial / "pictures.npy", pictures)
        names = {"export": ["slim/edge.onnx"], "quantize": ["edge.a.onnx", "edge.b.onnx"]}.get(stage, [])
        for name in names:
            onnx.save(edge(), str(partial / name))
        folder.finish(stage, "k", code_version=1, inputs={}, seconds=0.0, summary={})
    return folder.root


def unpacked(archive, folder):
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / "small"


def test_int8_bundle(run, tmp_path):
    done = runner.invoke(app, ["bundle", str(run), str(tmp_path / "b.tar.gz"), "--device", "orin-nano-8gb"])
    assert done.exit_code == 0 and "sha256" in done.output
    root = unpacked(tmp_path / "b.tar.gz", tmp_path / "u")
    manifest = verify(root)
    assert set(manifest.networks) == {"a", "b"} and manifest.modules == ("orin-nano-8gb",)
    assert len(manifest.vectors) == 4 and manifest.needs_tensorrt == (8, 5)
    picture = np.fromfile(root / manifest.vectors[2].input, "<f4").reshape(manifest.input.shape)
    codes = np.fromfile(root / manifest.vectors[2].expected, np.int8).reshape(manifest.output.shape)
    np.testing.assert_allclose(codes[0, 0], np.round(picture[0].sum(0) / 0.05).clip(-128, 127), atol=1)


def test_fp16_bundle_for_a_module_without_int8(run, tmp_path):
    common = ["bundle", str(run), str(tmp_path / "b.tar.gz"), "--device", "nano-4gb"]
    assert isinstance(runner.invoke(app, common).exception, SettingsError)
    assert runner.invoke(app, [*common, "--precision", "fp16", "--vectors", "1"]).exit_code == 0
    assert set(verify(unpacked(tmp_path / "b.tar.gz", tmp_path / "u")).networks) == {"float"}


def test_refusals(run, tmp_path):
    out = str(tmp_path / "b.tar.gz")
    assert isinstance(runner.invoke(app, ["bundle", str(tmp_path), out]).exception, ArtifactError)
    assert isinstance(runner.invoke(app, ["bundle", str(run), out, "--vectors", "9"]).exception, ArtifactError)
    assert isinstance(
        runner.invoke(app, ["bundle", str(run), out, "--precision", "int4"]).exception, SettingsError
    )
    assert isinstance(runner.invoke(app, ["deploy", "-x", out]).exception, SystemExit)
    assert isinstance(runner.invoke(app, ["deploy", "a b", out]).exception, DeployError)


def test_a_device_out_of_reach_is_a_row_and_a_failure(tmp_path):
    done = runner.invoke(app, ["deploy", "nobody@127.0.0.1", str(tmp_path / "none.tar.gz"), "--json"])
    assert done.exit_code == 1 and "there is no bundle" in json.loads(done.output)[0]["error"]
