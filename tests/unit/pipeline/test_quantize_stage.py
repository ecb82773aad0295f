"""The quantize stage where INT8 loses too much: fine-tuning, layers in FP16, sensitivity by every score."""

import json

import onnx
import pytest

from calibration import lint, read_picture_list
from toolkit.errors import SettingsError
from toolkit.metrics import MetricSet
from toolkit.settings import load_settings

ALWAYS = (
    "--set", "quantize.finetune.when=always",
    "--set", "quantize.finetune.train={epochs: 1, learning_rate: 1.0e-4, precision: fp32, identities: 4}",
    "--set", "quantize.sensitivity=[feature, map, leakage]",
    "--set", "quantize.development=24",
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(finished, tmp_path_factory):
    """The tiny run again, fine-tuned, with no loss allowed."""
    copied = finished.copy(tmp_path_factory.mktemp("tuned"))
    outcome = copied.again(*ALWAYS, "--max-map-drop", "0.0", command="quantize")
    assert outcome.code == 0, outcome.log
    return copied


def body(finished, name):
    return json.loads(finished.run.path("quantize", name).read_text(encoding="utf-8"))


def drops(finished):
    text = finished.run.path("quantize", "metrics.json").read_text(encoding="utf-8")
    return {m.protocol: m for m in MetricSet.from_json(text) if m.name == "quantize.map_drop"}


def test_the_loss_is_measured_on_training_pictures_before_and_after(tuned):
    found = drops(tuned)
    assert {"post-training", "fine-tuned"} <= set(found)
    assert {metric.split for metric in found.values()} == {"train"}
    assert all(metric.n == 24 for metric in found.values())


def test_the_set_is_stored_and_compared_with_other_pictures(tuned):
    names = read_picture_list(tuned.run.path("quantize", "pictures.json"))
    assert len(names) == 16
    assert 0 <= body(tuned, "drift.json")["distance"] <= 1


def test_fine_tuning_says_what_it_did(tuned):
    facts = body(tuned, "finetune.json")
    assert len(facts["errors"]) == 2
    assert facts["best"] in (0, 1)
    assert set(facts["curves"]) == {"feature", "embedding"}
    assert facts["agreement"] > 0.99
    methods = {item["method"] for item in body(tuned, "decisions.json")["decisions"]}
    assert ("learned" in methods) == (facts["best"] > 0)


def test_the_forms_are_still_accepted(tuned):
    assert {row["verdict"] for row in body(tuned, "acceptance.json")} == {"accepted", "not run"}
    model = onnx.load(str(tuned.run.path("quantize", "edge.a.onnx")))
    assert not [item for item in lint(model, "tensorrt8") if item.severity == "error"]


def test_layers_in_fp16_are_chosen_where_a_loss_is_left(tuned):
    found = drops(tuned)
    if found["fine-tuned"].value <= 0:
        assert not tuned.run.has("quantize", "float_layers.json")
        return
    choice = body(tuned, "float_layers.json")
    floats = [layer["node"] for layer in body(tuned, "decisions.json")["layers"] if layer["precision"] == "float"]
    assert set(choice["layers"]) <= set(floats)
    assert choice["met"] == (choice["drop"] <= 0)


@pytest.mark.parametrize("name", ["sensitivity.json", "sensitivity.map.json", "sensitivity.leakage.json"])
def test_sensitivity_by_every_score(tuned, name):
    found = body(tuned, name)
    assert found["layers"]
    assert {"layer", "only", "without", "loss_only", "gain_without"} <= set(found["layers"][0])
    if name != "sensitivity.json":
        assert found["float_score"] > 0
    if name == "sensitivity.map.json":
        assert found["float_score"] <= 1


def test_without_fine_tuning_nothing_is_ranked(finished, tmp_path):
    copied = finished.copy(tmp_path)
    assert copied.again("--set", "quantize.finetune=null", command="quantize").code == 0
    assert not copied.run.has("quantize", "finetune.json")
    assert not drops(copied)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("quantize.finetune.epoch=1", "epoch"),
        ("quantize.finetune.limit=2", "limit"),
        ("quantize.sensitivity=[speed]", "sensitivity"),
    ],
)
def test_wrong_settings_are_named(finished, change, what):
    with pytest.raises(SettingsError, match=what):
        load_settings(finished.config, [change])
