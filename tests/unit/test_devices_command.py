"""The commands devices and predict."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from targets.errors import CatalogueError
from toolkit.cli import app
from toolkit.errors import SettingsError

runner = CliRunner(env={"COLUMNS": "200"})


@pytest.fixture
def small(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((16, 3, 3, 3), np.float32), "w")],
    )
    path = tmp_path / "edge.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_devices_lists_all():
    shown = runner.invoke(app, ["devices"])
    assert shown.exit_code == 0 and "orin-nano-8gb" in shown.output and "thor-t5000" in shown.output
    listed = json.loads(runner.invoke(app, ["devices", "--json"]).output)
    assert len(listed) >= 18 and listed[0]["family"] == "nano"


def test_devices_explains_one():
    shown = runner.invoke(app, ["devices", "orin-nano-8gb"])
    assert shown.exit_code == 0
    for words in ("20.5 TOPS dense", "no DLA", "8.5 to 10.16", "super:25W", "data sheet"):
        assert words in shown.output
    said = json.loads(runner.invoke(app, ["devices", "agx-orin-64gb", "--json"]).output)
    assert said["explanation"]["has_dla"] and said["figures"]["sms"] == {
        "value": 16.0, "unit": "SM", "source": "ultralytics-guide",
    }  # fmt: skip


def test_an_unknown_device_is_refused():
    assert isinstance(runner.invoke(app, ["devices", "orin-micro"]).exception, CatalogueError)


def test_predict(small, tmp_path):
    common = ["--device", "orin-nano-8gb", "--mode", "15W", "--precision", "int8"]
    shown = runner.invoke(app, ["predict", str(small), *common])
    assert shown.exit_code == 0 and "Predicted: edge on orin-nano-8gb, mode 15W, int8" in shown.output
    layers = tmp_path / "layers.json"
    found = runner.invoke(app, ["predict", str(small), *common, "--json", "--layers", str(layers)])
    said = json.loads(found.output)
    assert said["provenance"] == "predicted" and said["latency_ms"]["low"] < said["latency_ms"]["value"]
    again = json.loads(runner.invoke(app, ["predict", str(layers), *common, "--json"]).output)
    assert again["latency_ms"] == said["latency_ms"]


def test_predict_says_that_a_default_mode_is_assumed(small):
    common = ["predict", str(small), "--device", "orin-nano-8gb", "--json"]
    (note,) = [one for one in json.loads(runner.invoke(app, common).output)["notes"] if "mode" in one]
    assert note.startswith("no mode was given: 15W is taken, which is assumed")
    named = json.loads(runner.invoke(app, [*common, "--mode", "15W"]).output)["notes"]
    assert not any("mode" in one for one in named)


def test_predict_refuses_a_missing_file(tmp_path):
    shown = runner.invoke(app, ["predict", str(tmp_path / "none.onnx"), "--device", "nano-4gb"])
    assert isinstance(shown.exception, SettingsError)
