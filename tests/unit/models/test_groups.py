"""Coupled groups: known answers on small networks."""

import pytest
import torch
from torch import nn

from tests.unit.surgery import zoo
from toolkit.models.groups import GroupError, find_blocks, find_groups, survey


def _names(net: nn.Module, size: int = 16) -> dict[str, int]:
    return {g.name: g.channels for g in find_groups(net, torch.rand(1, 3, size, size))}


def test_a_residual_stream_is_one_group_and_the_inner_convolutions_are_their_own() -> None:
    net = zoo.resnet_basic()
    groups = {g.name: g for g in find_groups(net, torch.rand(1, 3, 16, 16))}
    stream = groups["stem.0"]
    assert stream.channels == 16
    assert [p.module for p in stream.producers] == ["stem.1", "stages.0.0.bn2", "stages.0.1.bn2"]
    assert set(stream.consumers) == {
        "stages.0.0.conv1",
        "stages.0.1.conv1",
        "stages.1.0.conv1",
        "stages.1.0.shortcut.0",
    }
    assert not stream.crosses_cut
    inner = groups["stages.0.0.conv1"]
    assert [(m.parameter, m.dim) for m in inner.members][:2] == [
        ("stages.0.0.conv1.weight", 0),
        ("stages.0.0.bn1.weight", 0),
    ]


def test_the_order_and_the_names_are_the_same_every_time() -> None:
    assert list(_names(zoo.resnet_basic())) == list(_names(zoo.resnet_basic()))


def test_a_grouped_convolution_loses_whole_groups() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 3, groups=4), nn.Conv2d(8, 5, 1))
    (group,) = find_groups(net, torch.rand(1, 3, 8, 8))
    assert group.channels == 4
    assert group.width == 4
    index = {(m.parameter, m.dim): m.index.tolist() for m in group.members}
    assert index["0.weight", 0][1] == [4, 5, 6, 7]
    assert index["1.weight", 0][1] == [2, 3]
    assert index["2.weight", 1][1] == [2, 3]


def test_flattening_couples_all_positions_of_a_channel() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(), nn.Linear(4 * 16, 5))
    (group,) = find_groups(net, torch.rand(1, 3, 8, 8))
    index = {(m.parameter, m.dim): m.index for m in group.members}
    assert index["2.weight", 1][1].tolist() == list(range(16, 32))


def test_a_gate_is_coupled_but_not_masked() -> None:
    net = zoo.SqueezeExcitation(16, 4)
    wrapped = nn.Sequential(nn.Conv2d(3, 16, 1), net, nn.Conv2d(16, 5, 1))
    groups = {g.name: g for g in find_groups(wrapped, torch.rand(1, 3, 8, 8))}
    assert groups["0"].layers == ("0", "1.expand")
    assert [p.module for p in groups["0"].producers] == ["0"]
    assert groups["1.reduce"].channels == 4


def test_residual_blocks_with_an_identity_shortcut_are_found() -> None:
    blocks = find_blocks(zoo.resnet_basic(), torch.rand(1, 3, 16, 16))
    assert [b.name for b in blocks] == ["stages.0.0", "stages.0.1", "stages.1.1"]
    assert blocks[0].module == "stages.0.0.bn2"


def test_layer_norm_freezes_what_it_averages_and_says_so() -> None:
    found = survey(zoo.convnext(), torch.rand(1, 3, 32, 32))
    assert all("pw1" in g.name for g in found.groups)
    assert any("LayerNorm averages over channels" in f.reason for f in found.frozen)


class _TopK(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.topk(x, 3, dim=1).values


def test_an_unknown_operator_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), _TopK(), nn.Conv2d(3, 4, 1))
    with pytest.raises(GroupError, match="topk has no removal rule in 1"):
        find_groups(net, torch.rand(1, 3, 8, 8))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(GroupError, match="no convolution or linear layer"):
        find_groups(nn.ReLU(), torch.rand(1, 3, 8, 8))


def test_tracing_leaves_modes_hooks_and_weights_alone() -> None:
    net = zoo.resnet_basic().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    find_groups(net, torch.rand(2, 3, 16, 16))
    assert all(m.training for m in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
