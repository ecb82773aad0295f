"""Masks trained towards several budgets, and whole residual blocks that go."""

import pytest
import torch

from tests.unit.patrol.small import FMT, SIDE, patrol_settings, small_data, small_net
from toolkit.errors import TrainingError
from toolkit.patrol.budgets import Budgets, Slack, costs_of, mask_budget, new_masks, slacks
from toolkit.patrol.settings import MaskSettings
from toolkit.patrol.training import train_patrol
from toolkit.surgery import Plan, apply_plan, deviation, plan_from_masks, rebuild
from toolkit.surgery.proposal import PlanSettings

EXAMPLE = torch.zeros(1, 3, SIDE, SIDE)
ALL = ("macs", "activation_bytes", "wire_bytes")


def trained(tmp_path, settings, net=None):
    """Joint training, then the aligned slim network."""
    net = net or small_net(width=0.25)
    masks = new_masks(net, EXAMPLE, settings)
    fmt = FMT if net.architecture.width == 0.125 else FMT.__class__(32, 4, 4, 8, 0.05, False)
    joint = patrol_settings({"epochs": 4}, lipschitz=None, adversary=None, masks=settings)
    train_patrol(net, masks, small_data(), fmt, joint, tmp_path)
    plan = plan_from_masks(net, masks, PlanSettings(align=settings.align), EXAMPLE)
    return net, masks, plan, apply_plan(net, masks, plan, EXAMPLE)


def test_several_costs_bind_at_once_on_the_aligned_network(tmp_path):
    settings = MaskSettings(budgets=ALL, as_split="layer1", align=8, prune_fraction=0.5)
    net, _, _, slim = trained(tmp_path, settings)
    found = slacks(net, slim, settings, EXAMPLE)
    assert [slack.name for slack in found] == list(ALL)
    shallow = costs_of(small_net(width=0.25, cut="layer1"), EXAMPLE)
    for slack in found:
        assert slack.limit == shallow[slack.name] and slack.whose == "the dense split after layer1"
        assert slack.used == costs_of(slim, EXAMPLE)[slack.name] and slack.share >= 0
        slack.check()
    assert min(slack.share for slack in found) < 0.3, "no more went than had to"


def test_the_share_is_that_of_the_cost_nearest_to_its_limit():
    net = small_net()
    masks = new_masks(net, EXAMPLE, None)
    whole = {name: value.numel() for name, value in masks.values().items()}
    cost, ratio = mask_budget(net, masks, (SIDE, SIDE), MaskSettings(budgets=("macs", "parameters"), ratio=0.5))
    assert isinstance(cost, Budgets) and cost(whole) == cost.full == pytest.approx(2.0)
    assert ratio * cost.full == pytest.approx(1.0)
    half = {name: count // 2 for name, count in whole.items()}
    assert cost(half) == pytest.approx(max(each(half) / limit for each, limit in cost.costs))


def test_one_limit_that_no_mask_can_meet_is_named():
    net = small_net()
    masks = new_masks(net, EXAMPLE, None)
    settings = MaskSettings(budgets=("macs", "wire_bytes"), ratio=0.1, align=16)
    cost, ratio = mask_budget(net, masks, (SIDE, SIDE), settings)
    with pytest.raises(TrainingError, match=r"no mask can bring the edge half to 0\.100 of its macs.*raise masks"):
        cost.check_reachable(ratio * cost.full, 1)


def test_a_network_above_its_budget_is_refused_with_what_to_change():
    with pytest.raises(TrainingError, match=r"1,200 activation bytes, more than .*layer1 allows \(1,000\).*align"):
        Slack("activation_bytes", 1200.0, 1000.0, "the dense split after layer1").check()


def test_a_masked_block_goes_and_the_slim_network_is_exact(tmp_path):
    """All channels have to stay, so that only whole blocks can meet the budget."""
    settings = MaskSettings(blocks=True, ratio=0.8, minimum_channels=1000, prune_fraction=0.5)
    net, masks, plan, slim = trained(tmp_path, settings)
    gone = [
        name for name, value in masks.values().items() if name.startswith("block:") and not value.detach().any()
    ]
    assert gone and plan.removed_blocks == tuple(name.removeprefix("block:") for name in gone)
    assert not any(name.startswith(plan.removed_blocks[0] + ".") for name, _ in slim.named_parameters())
    assert costs_of(slim, EXAMPLE)["macs"] <= 0.8 * costs_of(net, EXAMPLE)["macs"]
    pictures = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    masks.attach(net)
    assert deviation(net.eval(), slim.eval(), pictures).relative < 1e-5
    masks.detach()
    again = rebuild(net.architecture, Plan.parse(plan.model_dump(mode="json")))
    again.load_state_dict(slim.state_dict())
    assert torch.allclose(again.eval()(pictures), slim(pictures), atol=1e-5)


def test_settings_without_the_additions_keep_their_hash():
    assert {"budgets", "blocks"}.isdisjoint(MaskSettings().model_dump())
    assert MaskSettings(blocks=True).model_dump()["blocks"] is True
    with pytest.raises(ValueError, match="names a cost twice"):
        MaskSettings(budgets=("macs", "macs"))
