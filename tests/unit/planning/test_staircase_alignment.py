"""Alignment ``auto`` with a device: what the staircase says, what overrides it, and what it leaves alone."""

import pytest
import torch
from pydantic import ValidationError

from targets.errors import TargetError
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.planning.staircase import edge_convolutions, with_predicted_step
from toolkit.surgery import PlanSettings, ScoreSettings, plan_from_scores

X = torch.zeros(1, 3, 64, 64)


@pytest.fixture(scope="module")
def net():
    return build_network(Architecture("resnet18", "layer2", identities=4, width=0.5)).train()


def test_device_decides_the_step_of_auto(net):
    steps = {}
    for precision in ("int8", "fp16"):
        settings = PlanSettings(device="agx-orin-64gb", precision=precision)
        steps[precision] = with_predicted_step(settings, net, X).multiple()
    assert steps == {"int8": 32, "fp16": 8}
    assert net.training and net.backbone.conv1.training


def test_step_reaches_the_plan(net):
    settings = with_predicted_step(PlanSettings(device="agx-orin-64gb"), net, X)
    plan = plan_from_scores(net, ScoreSettings(ratio=0.5), settings, X)
    assert plan.align == 32
    assert {len(group.kept) % 32 for group in plan.groups.values()} == {0}


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"measured_step": 24}, 24),
        ({"align": 8}, 8),
        ({"device": "nano-4gb", "precision": "fp16"}, 8),
        ({"device": "nano-4gb", "precision": "int8"}, 16),
    ],
)
def test_measured_and_given_steps_come_first_and_the_precision_last(net, settings, step):
    """The first Nano has no stairs: there the precision decides."""
    found = with_predicted_step(PlanSettings(**{"device": "agx-orin-64gb", **settings}), net, X)
    assert found.multiple() == step and found.predicted_step is None


def test_power_mode_is_looked_up(net):
    modes = PlanSettings(device="orin-nano-8gb", mode="15W"), PlanSettings(device="orin-nano-8gb", mode="warp")
    assert with_predicted_step(modes[0], net, X).multiple() in (8, 16, 32)
    with pytest.raises(TargetError, match="warp"):
        with_predicted_step(modes[1], net, X)
    with pytest.raises(TargetError, match="toaster"):
        with_predicted_step(PlanSettings(device="toaster"), net, X)
    with pytest.raises(ValidationError, match="needs the device"):
        PlanSettings(mode="15W")


def test_settings_without_a_device_keep_their_hash():
    assert not {"device", "mode", "predicted_step"} & set(PlanSettings().model_dump())
    named = PlanSettings(device="orin-nano-8gb")
    assert PlanSettings.model_validate(named.model_dump(mode="json")) == named


def test_only_the_edge_half_counts(net):
    graph = edge_convolutions(net, X)
    assert graph.layers[0].name == "backbone.conv1"
    assert all("layer3" not in layer.name for layer in graph.layers) and len(graph.layers) == 10
    first = graph.layers[0]
    assert (first.in_channels, first.out_channels, first.kernel, first.positions) == (3, 32, (7, 7), 32 * 32)
    assert first.macs == 3 * 32 * 49 * 32 * 32
