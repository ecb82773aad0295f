"""The coupled channels against torch-pruning's dependency graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unit.surgery.zoo import conv_bn
from tests.unit.surgery.zoo_families import FAMILIES
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.models.registry import BACKBONES, cut_points
from toolkit.surgery.witness import question

# What torch-pruning 1.6.1 makes of them, see docs/architecture.md.
CRASHES = {"shufflenet_v2": "ZeroDivisionError"}
DIFFERS = {"resnet50_ibn": "bn1.instance", "resnext": "bn2", "regnet_x": "bn2", "regnet_y": "bn2"}
AGREES = [name for name in FAMILIES if name not in {*CRASHES, *DIFFERS}]


@pytest.mark.parametrize("family", AGREES)
def test_both_graphs_couple_the_same_channels(family: str) -> None:
    torch.manual_seed(0)
    found = question(FAMILIES[family](), torch.rand(1, 3, 32, 32))
    assert (found.failure, found.differing) == ("", ())
    assert found.agreed >= 12
    reasons = {reason.split(" in ")[0] for _, reason in found.kept}
    assert reasons <= {"network output", "LayerNorm averages over channels"}


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "resnet50_ibn_a"])
def test_both_graphs_agree_on_every_backbone(backbone: str) -> None:
    """Cut behind the last block, so that every group is the edge half's."""
    net = build_network(Architecture(backbone, cut_points(backbone)[-1], 3, width=0.25, embedding=8))
    found = question(net, torch.rand(2, 3, 32, 32), per_group=2)
    assert (found.failure, found.differing) == ("", ())
    assert found.agreed >= 10


def test_the_ibn_backbone_is_followed_by_ours_alone() -> None:
    net = build_network(Architecture("resnet50_ibn_a", "layer1", 3, width=0.25))
    assert question(net, torch.rand(2, 3, 32, 32)).differing


@pytest.mark.parametrize("family", CRASHES)
def test_where_it_cannot_follow_it_says_so(family: str) -> None:
    torch.manual_seed(0)
    found = question(FAMILIES[family](), torch.rand(1, 3, 32, 32))
    assert found.agreed == 0
    assert found.failure.startswith(CRASHES[family])


@pytest.mark.parametrize("family", DIFFERS)
def test_where_it_differs_the_matrix_shows_that_ours_is_exact(family: str) -> None:
    torch.manual_seed(0)
    found = question(FAMILIES[family](), torch.rand(1, 3, 32, 32))
    assert found.failure == ""
    assert any(DIFFERS[family] in text for text in found.differing)


def test_a_wrong_coupling_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the residual stream's layers taken out of their group."""
    import toolkit.surgery.witness as module

    honest = module._our_places
    monkeypatch.setattr(module, "_our_places", lambda *args: set(sorted(honest(*args))[1:]))
    found = question(nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 4, 1)), torch.rand(1, 3, 8, 8))
    assert found.agreed == 0
    assert "only torch-pruning's" in found.differing[0]


def test_the_network_is_not_changed() -> None:
    net = nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 4, 1)).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert question(net, torch.rand(1, 3, 8, 8)).agreed > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net.training and not any(p.requires_grad for p in net.parameters())
