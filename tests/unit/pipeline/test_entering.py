"""Entering with things of one's own: a checkpoint at slim, an ONNX file with a named cut at quantize."""

import json
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn as nn

from tests.unit.command_line import patrol_edge
from tests.unit.pipeline.commands import read_json, write_config
from toolkit.metrics import MetricSet
from toolkit.models.architecture import Architecture
from toolkit.models.checkpoint import load_checkpoint
from toolkit.models.network import build_network
from toolkit.runs import RunFolder
from toolkit.surgery import Plan, fingerprint, rebuild, shrink

LIMITS = [{"metric": "reid.map", "variant": "*-int8-*", "min": 0.0}]


class Foreign(nn.Module):
    """Somebody's network: names and shape are not this toolkit's; it ends in (N, D, 1, 1)."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 5, 2, 2), nn.BatchNorm2d(12), nn.LeakyReLU(0.1))
        self.trunk = nn.Sequential(nn.Conv2d(12, 20, 3, 2, 1), nn.BatchNorm2d(20), nn.ReLU())
        self.side = nn.Conv2d(20, 20, 3, 1, 1, groups=20)
        self.tail = nn.Sequential(nn.ReLU(), nn.Conv2d(20, 40, 3, 2, 1), nn.AdaptiveAvgPool2d(1))

    def forward(self, picture):
        x = self.trunk(self.stem(picture))
        return self.tail(x + self.side(x))


@pytest.fixture(scope="module")
def own_onnx(tmp_path_factory):
    """The file and the names of its tensors that everything passes through."""
    path = tmp_path_factory.mktemp("own") / "theirs.onnx"
    torch.manual_seed(3)
    net = Foreign().eval()
    torch.onnx.export(
        net, (torch.rand(1, 3, 32, 32),), path, dynamo=False, opset_version=15, input_names=["image"],
        output_names=["vector"], dynamic_axes={"image": {0: "n"}, "vector": {0: "n"}},
    )  # fmt: skip
    return path


@pytest.fixture
def torchvision_file(tmp_path):
    """Names of torchvision's ResNet-18 with a classifier of a thousand classes, which no data here has."""
    net = build_network(Architecture("resnet18", "layer2", identities=2, width=0.25), seed=5)
    state = {**net.backbone.state_dict(), "fc.weight": torch.rand(1000, 128), "fc.bias": torch.rand(1000)}
    torch.save(state, tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def finished_run(tmp_path, config):
    outcome = patrol_edge("run", config, "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.log
    run = RunFolder.read(tmp_path / "runs" / "tiny")
    page = run.path("report", "report.html").read_text(encoding="utf-8")
    return run, outcome, page


def test_torchvision_weights_enter_at_slim(tmp_path, fleet, torchvision_file):
    enter = {"kind": "checkpoint", "path": torchvision_file.name}
    config = write_config(tmp_path, data=fleet, enter=enter, check={"limits": LIMITS})
    run, outcome, page = finished_run(tmp_path, config)
    assert f"train: take {torchvision_file}" in outcome.log and "then PATROL" not in outcome.log
    assert not run.has("train", "patrol")
    assert read_json(run.path("train", "curves.json")) == {}
    assert set(read_json(run.path("slim", "curves.json"))) == {"finetune"}
    costs = read_json(run.path("slim", "cost.json"))
    assert costs["slim"]["macs"] < 0.75 * costs["dense"]["macs"], "scores remove what no mask removed"
    metrics = MetricSet.load(run.path("report", "metrics.json"))
    variants = {metric.variant for metric in metrics if metric.name == "reid.map"}
    split = {"dense-fp32-float", "slim-fp32-float", "slim-int8-cpu"}
    assert {key.split("-w8")[0] for key in variants} == {*split, "whole-fp32-float"}
    assert "slim-int8-cpu" in page


def test_checkpoint_that_misses_weights_is_refused_by_name(tmp_path, fleet, torchvision_file):
    state = torch.load(torchvision_file, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith("layer3.1")}, torchvision_file)
    enter = {"kind": "checkpoint", "path": torchvision_file.name}
    config = write_config(tmp_path, data=fleet, enter=enter)
    error = patrol_edge("run", config, "--runs", tmp_path / "runs").one_line_error()
    assert str(torchvision_file) in error and "layer3.1.conv1.weight" in error
    run = RunFolder.read(tmp_path / "runs" / "tiny")
    assert list(run.manifest.stages) == ["data"] and not list(run.root.glob("*.partial"))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be read"), (b"PK\x03\x04 cut off", "cannot be read"), (b"no weights", "not a file of weights")],
)
def test_file_that_is_no_checkpoint(tmp_path, fleet, content, words):
    (tmp_path / "own.pth").write_bytes(content)
    config = write_config(tmp_path, data=fleet, enter={"kind": "checkpoint", "path": "own.pth"})
    error = patrol_edge("train", config, "--runs", tmp_path / "runs").one_line_error()
    assert "own.pth" in error and words in error


def test_changed_checkpoint_file_makes_the_run_again(tmp_path, fleet, torchvision_file):
    config = write_config(tmp_path, data=fleet, enter={"kind": "checkpoint", "path": torchvision_file.name})
    assert patrol_edge("train", config, "--runs", tmp_path / "runs").code == 0
    before = RunFolder.read(tmp_path / "runs" / "tiny").manifest.stages["train"].digest()
    state = torch.load(torchvision_file, weights_only=True)
    torch.save({k: v * 2 if k == "conv1.weight" else v for k, v in state.items()}, torchvision_file)
    outcome = patrol_edge("train", config, "--runs", tmp_path / "runs")
    assert "[2/2] train: done" in outcome.log
    assert RunFolder.read(tmp_path / "runs" / "tiny").manifest.stages["train"].digest() != before


def test_masks_of_an_earlier_run_enter_at_slim_with_other_identities(tmp_path, finished):
    """A folder that this toolkit saved, on a data set with another number of vehicles."""
    folder = finished.runs / "tiny" / "train" / "patrol"
    fleet = {"fleet": {"identities_train": 7, "identities_test": 4}}
    config = write_config(tmp_path, data=fleet, enter={"kind": "checkpoint", "path": str(folder)})
    outcome = patrol_edge("slim", config, "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.log
    ours = read_json(tmp_path / "runs" / "tiny" / "slim" / "plan.json")
    theirs = read_json(finished.run.path("slim", "plan.json"))
    assert ours["groups"] == theirs["groups"], "the same masks give the same plan"


@pytest.fixture
def slim_again(tmp_path, finished):
    """Settings that enter with the network that the finished run slimmed, on other vehicles."""
    return {
        "data": {"fleet": {"identities_train": 7, "identities_test": 4}},
        "enter": {"kind": "checkpoint", "path": str(finished.runs / "tiny" / "slim" / "net")},
        "slim": {
            "source": "scores",
            "scores": {"ratio": 0.4},
            "plan": {"align": 1},
            "finetune": {"train": {"epochs": 0}},
        },
    }


def test_slim_network_is_slimmed_again_and_one_plan_leads_there(tmp_path, finished, slim_again):
    """The composed plan is for the dense network, here with a classifier for other identities."""
    config = write_config(tmp_path, **slim_again)
    assert patrol_edge("export", config, "--runs", tmp_path / "runs").code == 0
    run = RunFolder.read(tmp_path / "runs" / "tiny")
    entered = load_checkpoint(run.folder("train", "dense"), rebuild=rebuild)
    twice = load_checkpoint(run.folder("slim", "net"), rebuild=rebuild)
    first, whole = Plan.load(finished.run.path("slim", "plan.json")), Plan.load(run.path("slim", "plan.json"))
    dense = build_network(twice.net.architecture)
    assert twice.net.architecture.identities == 7
    assert whole.architecture == fingerprint(dense) != first.architecture
    assert twice.plan == whole.model_dump(mode="json")
    kept = {name: (set(group.kept), set(whole.groups[name].kept)) for name, group in first.groups.items()}
    assert all(after <= before for before, after in kept.values())
    assert any(after < before for before, after in kept.values())
    assert all(whole.groups[name].channels == group.channels for name, group in first.groups.items())
    assert read_json(run.path("slim", "deviation.json"))["relative"] < 1e-5
    wire = read_json(run.path("slim", "wire.json"))
    assert whole.wire.before == first.wire.before and wire["channels"] == len(whole.wire.kept)
    rebuilt = shrink(dense, whole)
    rebuilt.load_state_dict(twice.net.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(rebuilt.eval()(x), twice.net(x))
    mine, theirs = entered.net.state_dict(), load_checkpoint(Path(slim_again["enter"]["path"]), rebuild=rebuild)
    same = {name: value for name, value in theirs.net.state_dict().items() if not name.startswith("classifier.")}
    assert all(torch.equal(mine[name], value) for name, value in same.items())


def test_slim_network_keeps_its_cut(tmp_path, slim_again):
    config = write_config(tmp_path, **slim_again, model={"cut": "layer1"})
    error = patrol_edge("slim", config, "--runs", tmp_path / "runs").one_line_error()
    assert "slimmed for the cut layer2" in error and "model.cut" in error


def test_dry_run_shows_the_plan_and_no_estimate_of_time(tmp_path, slim_again):
    """Also what a device's predicted staircase makes of the alignment."""
    plan = {"align": "auto", "device": "agx-orin-64gb", "precision": "int8"}
    config = write_config(tmp_path, **slim_again | {"slim": {"scores": {"ratio": 0.4}, "plan": plan}})
    outcome = patrol_edge("slim", config, "--dry-run", "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.log
    assert "MiB of disk" not in outcome.log and "run tiny: about" not in outcome.log
    assert "predicted for agx-orin-64gb" in outcome.log
    assert not RunFolder.read(tmp_path / "runs" / "tiny").has("slim", "plan.json")
    config = write_config(tmp_path, **slim_again | {"slim": {"scores": {"ratio": 0.4}, "plan": {"align": 1}}})
    outcome = patrol_edge("slim", config, "--dry-run", "--json", "--runs", tmp_path / "runs")
    body = json.loads(outcome.out)
    changed = [layer for layer in body["layers"] if layer["after"] < layer["before"]]
    assert changed and all(layer["why"] for layer in changed) and body["plan"]["schema_version"] == 1


def test_normalization_outside_of_the_file_goes_into_the_edge_half(tmp_path, fleet, own_onnx):
    enter = {"kind": "onnx", "path": str(own_onnx), "cut": "/Add_output_0"}
    steps = {}
    for place in ("inside", "outside"):
        config = write_config(tmp_path, name=place, data=fleet, enter={**enter, "normalization": place})
        outcome = patrol_edge("export", config, "--runs", tmp_path / "runs")
        assert outcome.code == 0, outcome.log
        run = RunFolder.read(tmp_path / "runs" / place)
        steps[place] = read_json(run.path("export", "dense", "wire.json"))["step"]
        operators = [node.op_type for node in onnx.load(run.path("export", "dense", "edge.onnx")).graph.node]
        assert ("Sub" in operators) == (place == "outside")
    assert steps["outside"] > 1.5 * steps["inside"], "normalized pictures are larger numbers"


def test_own_onnx_enters_at_quantize(tmp_path, fleet, own_onnx):
    enter = {"kind": "onnx", "path": str(own_onnx), "cut": "/Add_output_0"}
    config = write_config(tmp_path, data=fleet, enter=enter, check={"limits": LIMITS})
    run, outcome, page = finished_run(tmp_path, config)
    assert list(run.manifest.stages) == [
        "data", "export", "quantize", "build", "profile", "attack", "evaluate", "report", "check",
    ]  # fmt: skip
    assert "[1/9] data" in outcome.log and "train" not in run.manifest.stages
    metrics = MetricSet.load(run.path("report", "metrics.json"))
    variants = {metric.variant for metric in metrics if metric.name == "reid.map"}
    assert variants == {"dense-fp32-float-w8-onnxruntime", "dense-int8-cpu-w8-onnxruntime"}
    wire = read_json(run.path("export", "dense", "wire.json"))
    assert wire["channels"] == 20 and wire["signed"] is True, "a linear cut is signed"
    assert "dense-int8-cpu-w8-onnxruntime" in page


def test_onnx_cut_that_does_not_exist_lists_those_that_do(tmp_path, fleet, own_onnx):
    enter = {"kind": "onnx", "path": str(own_onnx), "cut": "/Add_outputs"}
    config = write_config(tmp_path, data=fleet, enter=enter)
    error = patrol_edge("run", config, "--runs", tmp_path / "runs").one_line_error()
    assert "'/Add_outputs'" in error and "/Add_output_0" in error
    assert not RunFolder.read(tmp_path / "runs" / "tiny").manifest.stages, "noticed before anything is made"


def test_onnx_of_another_picture_size(tmp_path, fleet, own_onnx):
    model = onnx.load(own_onnx)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 48
    onnx.save(model, tmp_path / "tall.onnx")
    enter = {"kind": "onnx", "path": "tall.onnx", "cut": "/Add_output_0"}
    config = write_config(tmp_path, data=fleet, enter=enter)
    error = patrol_edge("run", config, "--runs", tmp_path / "runs").one_line_error()
    assert "tall.onnx" in error and "48" in error


def test_truncated_onnx(tmp_path, fleet, own_onnx):
    (tmp_path / "cut.onnx").write_bytes(own_onnx.read_bytes()[:2000])
    config = write_config(tmp_path, data=fleet, enter={"kind": "onnx", "path": "cut.onnx", "cut": "x"})
    error = patrol_edge("run", config, "--runs", tmp_path / "runs").one_line_error()
    assert "cut.onnx" in error
