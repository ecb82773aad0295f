"""What a user can get wrong with the method: a clear error with what to change, or nothing broken."""

import pytest
import torch

from tests.unit.patrol.small import FMT, SIDE, patrol_settings, small_data, small_net
from toolkit.errors import ModelError, TrainingError
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol.settings import MaskSettings
from toolkit.patrol.training import train_patrol
from toolkit.surgery import apply_plan, deviation, plan_from_masks
from toolkit.surgery.proposal import PlanSettings

EXAMPLE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def masks_of(net):
    return MaskSet(find_groups(net, torch.zeros(1, 3, SIDE, SIDE)))


def test_all_channels_masked_leaves_every_layer_a_channel():
    net = small_net().eval()
    masks = masks_of(net)
    masks.set_({name: torch.zeros_like(value) for name, value in masks.values().items()})
    plan = plan_from_masks(net, masks, PlanSettings(align=1), EXAMPLE)
    slim = apply_plan(net, masks, plan, EXAMPLE)
    convolutions = [module for module in slim.modules() if isinstance(module, torch.nn.Conv2d)]
    assert min(min(one.in_channels, one.out_channels) for one in convolutions) >= 1
    masks.attach(net)
    assert deviation(net, slim.eval(), EXAMPLE).relative < 1e-5
    masks.detach()


def test_a_cut_deeper_than_the_backbone_names_the_cut_points():
    with pytest.raises(ModelError, match=r"no block 'layer9'.*cut points: .*layer4"):
        small_net(cut="layer9")


def test_a_budget_of_a_split_behind_the_cut_says_what_to_name(tmp_path):
    net = small_net()
    settings = patrol_settings(masks=MaskSettings(as_split="layer4"))
    with pytest.raises(TrainingError, match=r"as_split is layer4, behind .* cut layer2; name an earlier one"):
        train_patrol(net, masks_of(net), small_data(), FMT, settings, tmp_path)


def test_a_joint_loss_that_becomes_nan_keeps_the_last_good_state(tmp_path):
    net = small_net()
    masks = masks_of(net)

    def poison(trained):
        if poison.calls == 1:
            with torch.no_grad():
                trained.classifier.weight.fill_(float("nan"))
        poison.calls += 1
        return 0.0

    poison.calls = 0
    with pytest.raises(TrainingError, match=r"became NaN .* in epoch 3.*kept in"):
        train_patrol(net, masks, small_data(), FMT, patrol_settings({"epochs": 4}), tmp_path, poison)
    newest = sorted(path.name for path in tmp_path.glob("state-*"))
    assert newest, "a state is there"
    assert all(name <= "state-000002" for name in newest)
