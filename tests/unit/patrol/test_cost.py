import pytest
import torch
from torch import nn

from tests.unit.patrol.small import SIDE, small_net
from toolkit.errors import TrainingError
from toolkit.models.groups import find_blocks, find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol.budgets import costs_of
from toolkit.patrol.cost import edge_cost, edge_parameters, share_of_split
from toolkit.surgery import PlanSettings, apply_plan, plan_from_masks


def masks_of(net, blocks=False):
    example = torch.zeros(1, 3, SIDE, SIDE)
    return MaskSet(find_groups(net, example), find_blocks(net, example) if blocks else ())


def full(masks):
    return {name: value.numel() for name, value in masks.values().items()}


def test_parameters_of_the_dense_edge():
    net = small_net(cut="layer1")
    cost = edge_cost(net, masks_of(net), (SIDE, SIDE), "parameters", 1)
    # stem 3x8x7x7 + 16, four 3x3 convolutions 8 -> 8 with their normalizations
    assert cost.full == 3 * 8 * 49 + 16 + 4 * (8 * 8 * 9 + 16)
    assert cost.full == sum(p.numel() for p in edge_parameters(net).values())


def test_macs_of_the_dense_edge():
    net = small_net(cut="layer1")
    cost = edge_cost(net, masks_of(net), (SIDE, SIDE), "macs", 1)
    assert cost.full == 3 * 8 * 49 * 16 * 16 + 4 * (8 * 8 * 9) * 8 * 8


@pytest.mark.parametrize("unit", ["macs", "parameters"])
def test_a_narrower_network_costs_what_its_kept_channels_cost(unit):
    """Half of every group kept is the network of half the width."""
    wide, narrow = small_net(width=0.25), small_net(width=0.125)
    masks = masks_of(wide)
    cost = edge_cost(wide, masks, (SIDE, SIDE), unit, 1)
    half = {name: count // 2 for name, count in full(masks).items()}
    assert cost(half) == pytest.approx(edge_cost(narrow, masks_of(narrow), (SIDE, SIDE), unit, 1).full)
    assert cost(full(masks)) == pytest.approx(cost.full)


def test_a_block_that_goes_costs_nothing():
    net = small_net(cut="layer1")
    masks = masks_of(net, blocks=True)
    cost = edge_cost(net, masks, (SIDE, SIDE), "macs", 1)
    gone = full(masks) | {"block:backbone.layer1.1": 0}
    assert cost.full - cost(gone) == 2 * (8 * 8 * 9) * 8 * 8


def test_share_of_an_earlier_dense_split():
    net, shallow = small_net(cut="layer3"), small_net(cut="layer1")
    cost = edge_cost(net, masks_of(net), (SIDE, SIDE), "macs", 1)
    expected = edge_cost(shallow, masks_of(shallow), (SIDE, SIDE), "macs", 1).full / cost.full
    assert share_of_split(net, cost, "layer1") == pytest.approx(expected)
    assert share_of_split(net, cost, "layer3") == 1.0
    with pytest.raises(TrainingError, match="behind the network's own cut layer3"):
        share_of_split(net, cost, "layer4")


@pytest.mark.parametrize("unit", ["activation_bytes", "wire_bytes"])
def test_bytes_of_an_earlier_dense_split(unit):
    net, shallow = small_net(cut="layer3"), small_net(cut="layer1")
    whole = edge_cost(net, masks_of(net), (SIDE, SIDE), unit, 1)
    expected = costs_of(shallow, torch.zeros(1, 3, SIDE, SIDE))[unit]
    assert share_of_split(net, whole, "layer1", (SIDE, SIDE)) * whole.full == pytest.approx(expected)
    assert whole.full == costs_of(net, torch.zeros(1, 3, SIDE, SIDE))[unit]


def test_the_networks_mode_is_left_alone():
    net = small_net().train()
    edge_cost(net, masks_of(net), (SIDE, SIDE), "macs", 1)
    assert net.training and all(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("backbone", "cut"),
    [("resnet18", "layer2"), ("resnet50", "layer1"), ("mobilenet_v2", "features.4"), ("vgg16_bn", "stage2")],
)
@pytest.mark.parametrize("unit", ["macs", "parameters", "activation_bytes", "wire_bytes"])
def test_predicts_what_the_surgery_leaves(backbone, cut, unit):
    """The budget that masks are steered to is the cost of the network that is cut from them."""
    net = small_net(backbone=backbone, cut=cut)
    masks = masks_of(net)
    generator = torch.Generator().manual_seed(0)
    for value in masks.values().values():
        gone = torch.rand(value.shape, generator=generator) < 0.4
        value.data[gone & (torch.arange(len(value)) > 0)] = 0.0
    predicted = edge_cost(net, masks, (SIDE, SIDE), unit, 1)
    plan = plan_from_masks(net, masks, PlanSettings(align=1, borders="approximate"))
    slim = apply_plan(net, masks, plan)
    left = costs_of(slim, torch.zeros(1, 3, SIDE, SIDE))[unit]
    biases = sum(p.numel() for name, p in edge_parameters(slim).items() if name not in edge_parameters(net))
    kept = {name: int((value > 0).sum()) for name, value in masks.values().items()}
    assert predicted(kept) == pytest.approx(left - biases if unit == "parameters" else left)
