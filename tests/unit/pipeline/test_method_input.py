"""What a user can get wrong with the method, on the command line: one line, and the last good state is kept."""

import re

import pytest
import torch

from tests.unit.command_line import patrol_edge
from tests.unit.datasets import folders
from tests.unit.pipeline.commands import read_json, write_config
from toolkit.models.checkpoint import load_checkpoint, save_checkpoint


def refused(tmp_path, config, *arguments, command="train"):
    return patrol_edge(command, config, "--runs", tmp_path / "runs", *arguments).one_line_error()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("patrol.masks.ratio=0.001", r"no mask can bring the edge half to 0\.001 of its macs.*raise masks\.ratio"),
        ("patrol.masks.as_split=layer3", r"as_split is layer3, behind .* own cut layer2; name an earlier one"),
        (
            "patrol.masks.latency={device: orin-nano-8gb, max_ms: 0.0001}",
            r"no mask can bring .*max_ms.*cut earlier",
        ),
    ],
)
def test_a_budget_that_cannot_be_met_is_said_before_anything_is_trained(tmp_path, fleet, change, words):
    config = write_config(tmp_path, data=fleet)
    assert re.search(words, refused(tmp_path, config, "--set", change))
    assert not list((tmp_path / "runs" / "tiny").glob("train*"))


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path, fleet):
    config = write_config(tmp_path, data=fleet)
    error = refused(tmp_path, config, "--set", "train.learning_rate=1e30")
    assert re.search(r"NaN or infinite in epoch \d, step \d+; lower train\.learning_rate", error)
    kept = tmp_path / "runs" / "tiny" / "train.partial" / "checkpoints" / "dense"
    assert str(kept) in error
    (state,) = kept.glob("state-*")
    assert read_json(state / "state.json")["epoch"] == int(state.name[-6:])


def test_one_picture_per_identity(tmp_path):
    folders.two_camera(tmp_path / "set", cars=8, bikes=0, held_out=4, cameras=(1,))
    section = {"kind": "two_camera", "root": str(tmp_path / "set"), "fleet": None}
    error = refused(tmp_path, write_config(tmp_path, data=section))
    assert "picture" in error and "identit" in error


def test_a_checkpoint_whose_masks_are_all_zero(tmp_path, fleet, finished):
    found = load_checkpoint(finished.run.folder("train", "patrol"))
    zero = {name: torch.zeros_like(value) for name, value in found.masks.items()}
    save_checkpoint(tmp_path / "net", found.net, found.preprocess, masks=zero, identities=found.identities)
    enter = {"kind": "checkpoint", "path": str(tmp_path / "net")}
    error = refused(tmp_path, write_config(tmp_path, data=fleet, enter=enter), command="slim")
    assert "every channel mask is zero" in error and "masks.ratio" in error
