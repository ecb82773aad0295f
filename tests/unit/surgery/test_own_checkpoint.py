"""The guide's example: weights with torchvision's names, by commands only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor

from toolkit import cli
from toolkit.models.checkpoint import load_checkpoint
from toolkit.models.registry import build_backbone
from toolkit.surgery import Plan, cost, rebuild

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "configs" / "own_checkpoint.yaml"
GUIDE = ROOT / "docs" / "guides" / "own-checkpoint.md"
SMALL = {
    "model.width": 0.25,
    "picture.height": 64,
    "picture.width": 64,
    "data.fleet.size": 64,
    "data.fleet.identities_train": 8,
    "data.fleet.identities_test": 6,
    "data.fleet.pictures_per_identity": 4,
    "slim.plan.align": 8,
    "threads": 1,
}


def _weights(path: Path) -> dict[str, Tensor]:
    """What torchvision's ``resnet18().state_dict()`` looks like, with a quarter of the channels."""
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", width=0.25).state_dict()
    known = {"conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer4.1.bn2.num_batches_tracked"}
    assert known <= set(backbone)
    weights = {**backbone, "fc.weight": torch.rand(1000, 128), "fc.bias": torch.rand(1000)}
    torch.save(weights, path)
    return weights


def _command(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> None:
    changes = {**SMALL, "enter.path": folder / "resnet18.pth"}
    options = [text for name, value in changes.items() for text in ("--set", f"{name}={value}")]
    monkeypatch.setattr(
        sys, "argv", ["patrol-edge", words[0], str(CONFIG), "--runs", str(folder), *options, *words[1:]]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


def test_by_commands_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = _weights(tmp_path / "resnet18.pth")
    _command(monkeypatch, tmp_path, "slim", "--dry-run")
    table = capsys.readouterr().out
    run = tmp_path / "own_checkpoint"
    assert not (run / "slim").exists()
    for text in ("backbone.layer1.0.conv1", "activation bytes", "coupled to backbone.conv1", "wire: 32 -> "):
        assert text in table
    _command(monkeypatch, tmp_path, "slim")
    _command(monkeypatch, tmp_path, "export")
    dense, slim = (load_checkpoint(path, rebuild=rebuild).net for path in (run / "train/dense", run / "slim/net"))
    assert torch.equal(dense.backbone.conv1.weight, weights["conv1.weight"])  # type: ignore[union-attr, arg-type]
    plan = Plan.load(run / "slim" / "plan.json")
    assert plan.source == "scores"
    example = torch.zeros(1, 3, 64, 64)
    spent = cost(slim, example, "edge").macs / cost(dense, example, "edge").macs
    assert spent <= 0.5
    assert json.loads((run / "slim/deviation.json").read_text())["relative"] < 1e-5
    for layer in json.loads((run / "slim/layers.json").read_text()):
        assert layer["why"], layer
    _same_in_onnx(run, slim, plan)


def _same_in_onnx(run: Path, slim: torch.nn.Module, plan: Plan) -> None:
    """The exported half gives the codes of the rebuilt network."""
    step = json.loads((run / "slim/wire.json").read_text())["step"]
    x = np.load(run / "data/pictures.npy")[:4].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    session = onnxruntime.InferenceSession(run / "export/slim/edge.onnx", providers=["CPUExecutionProvider"])
    codes = session.run(None, {session.get_inputs()[0].name: x})[0]
    with torch.no_grad():
        feature = slim.edge(torch.from_numpy(x)).numpy()  # type: ignore[operator]
    assert plan.wire is not None and codes.shape[1] == len(plan.wire.kept)
    assert np.abs(codes - np.clip(np.round(feature / step), 0, 127)).max() <= 1


def test_the_guide_shows_the_configuration_that_is_tested() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    shown = yaml.safe_load("\n".join(_block(text, "    enter:")))
    assert {name: config[name] for name in shown} == shown
    listed = yaml.safe_load("\n".join(_block(text, "      slim:\n        source: lists")))
    from toolkit.settings import SlimSettings

    assert SlimSettings.model_validate(listed["slim"]).decided({}) == "lists"
    for command in ("slim configs/own_checkpoint.yaml --dry-run", "export configs/own_checkpoint.yaml"):
        assert f"patrol-edge {command}" in text


def _block(text: str, start: str) -> list[str]:
    """The indented lines from ``start`` to the next empty one."""
    return text[text.index(start) :].split("\n\n", maxsplit=1)[0].splitlines()
