"""Checkpoints: everything returns as it was; damage is refused by name."""

import dataclasses
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.errors import ArtifactError, ModelError
from toolkit.models import checkpoint as module
from toolkit.models.architecture import Architecture
from toolkit.models.checkpoint import DESCRIPTION, PENDING, WEIGHTS, load_checkpoint, save_checkpoint
from toolkit.models.network import ReidNet, build_network
from toolkit.preprocess import Preprocess

TINY = Architecture("resnet18", "layer2", identities=2, width=0.125)
PREPROCESS = Preprocess(height=32, width=32)


def _trained(seed: int = 0) -> ReidNet:
    net = build_network(TINY, seed).train()
    net(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)))
    return net.eval()


def test_everything_returns_as_it_was(tmp_path: Path) -> None:
    net, x = _trained(), torch.rand(2, 3, 32, 32)
    masks = {"layer1.0": torch.rand(8), "layer2": torch.tensor([0.0, 1.0, 0.1])}
    save_checkpoint(tmp_path, net, PREPROCESS, masks=masks, identities=["a", "b"], extra={"epoch": 3})
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.net(x), net(x))
    assert not loaded.net.training
    assert loaded.preprocess == PREPROCESS
    assert set(loaded.masks) == set(masks)
    assert all(torch.equal(loaded.masks[name], masks[name]) for name in masks)
    assert (loaded.plan, loaded.identities, loaded.extra) == (None, ("a", "b"), {"epoch": 3})


def test_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, _trained(), PREPROCESS)
    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [DESCRIPTION, WEIGHTS]


def test_slim_network_comes_back_through_rebuild(tmp_path: Path) -> None:
    slim = build_network(dataclasses.replace(TINY, width=0.25), 5).eval()
    slim.architecture = TINY  # its weights no longer fit the dense architecture it names
    plan = {"version": 1, "groups": {"layer1": [0, 1]}}
    save_checkpoint(tmp_path, slim, PREPROCESS, plan=plan)

    def rebuild(architecture: Architecture, given: dict[str, Any]) -> ReidNet:
        assert (architecture, given) == (TINY, plan)
        return build_network(dataclasses.replace(architecture, width=0.25))

    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_checkpoint(tmp_path, rebuild=rebuild).net(x), slim(x))
    with pytest.raises(ModelError, match=r"slim.*rebuild"):
        load_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="do not fit"):
        load_checkpoint(tmp_path, rebuild=lambda architecture, plan: build_network(architecture))


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "foreign"])
def test_damaged_weights_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, _trained(), PREPROCESS)
    path = tmp_path / WEIGHTS
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-100])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "remove":
        path.unlink()
    else:
        path.write_bytes(b"not weights at all")
    with pytest.raises(ArtifactError, match=WEIGHTS):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "weights_sha256": "x"}', '{"schema": 1}']
)
def test_damaged_description_is_refused(tmp_path: Path, text: str) -> None:
    save_checkpoint(tmp_path, _trained(), PREPROCESS)
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(ArtifactError):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("key", ["architecture", "preprocess", "masks", "identities", "extra", "plan"])
def test_a_missing_part_of_the_description_is_refused(tmp_path: Path, key: str) -> None:
    save_checkpoint(tmp_path, _trained(), PREPROCESS)
    body = json.loads((tmp_path / DESCRIPTION).read_text())
    del body[key]
    (tmp_path / DESCRIPTION).write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match=DESCRIPTION):
        load_checkpoint(tmp_path)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("moment", ["before_description", "before_weights"])
def test_a_kill_while_saving_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    old, new, x = _trained(1), _trained(2), torch.rand(1, 3, 32, 32)
    save_checkpoint(tmp_path, old, PREPROCESS, extra={"which": "old"})
    original = Path.replace

    def replace(self: Path, target: Path) -> Path:
        doomed = DESCRIPTION if moment == "before_description" else WEIGHTS
        if Path(target).name == doomed:
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(module.Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, new, PREPROCESS, extra={"which": "new"})
    monkeypatch.undo()
    expected = {"before_description": (old, "old"), "before_weights": (new, "new")}[moment]
    loaded = load_checkpoint(tmp_path)
    assert loaded.extra["which"] == expected[1]
    assert torch.equal(loaded.net(x), expected[0](x))
    save_checkpoint(tmp_path, new, PREPROCESS)
    assert torch.equal(load_checkpoint(tmp_path).net(x), new(x))
    assert not (tmp_path / PENDING).exists()


def test_contradictions_are_refused_before_writing(tmp_path: Path) -> None:
    other = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5))
    with pytest.raises(ModelError, match="mean and std"):
        save_checkpoint(tmp_path / "a", _trained(), other)
    with pytest.raises(ModelError, match="identity names"):
        save_checkpoint(tmp_path / "a", _trained(), PREPROCESS, identities=["a", "b", "c"])
    assert not (tmp_path / "a").exists()


def test_unwritable_folder_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot write"):
        save_checkpoint(tmp_path / "file", _trained(), PREPROCESS)


def test_a_moved_checkpoint_still_loads(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "here", _trained(), PREPROCESS)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_checkpoint(tmp_path / "there").net.architecture == TINY


def test_a_full_disk_leaves_the_old_checkpoint_and_no_rest(tmp_path: Path) -> None:
    old, x = _trained(1), torch.rand(1, 3, 32, 32)
    save_checkpoint(tmp_path, old, PREPROCESS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(ArtifactError, match="cannot write"):
            save_checkpoint(tmp_path, _trained(2), PREPROCESS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DESCRIPTION, WEIGHTS]
    assert torch.equal(load_checkpoint(tmp_path).net(x), old(x))
