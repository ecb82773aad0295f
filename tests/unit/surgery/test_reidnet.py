"""Both halves of a split re-ID network."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.unit.surgery.randomize import random_masks, randomize
from toolkit.models.architecture import Architecture
from toolkit.models.groups import survey
from toolkit.models.masks import MaskSet
from toolkit.models.network import ReidNet, build_network
from toolkit.surgery import (
    Plan,
    PlanError,
    PlanSettings,
    apply_plan,
    cost,
    deviation,
    plan_from_masks,
    rebuild,
)

CUTS = [
    ("resnet18", "layer2"),
    ("resnet34", "layer1"),
    ("resnet50", "layer2"),
    ("resnet50_ibn_a", "layer2"),
    ("mobilenet_v2", "features.9"),
    ("vgg16_bn", "features.16"),
]


def _example() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def _network(backbone: str, cut: str, **more: object) -> tuple[Architecture, ReidNet, MaskSet]:
    architecture = Architecture(backbone, cut, 5, width=0.25, **more)  # type: ignore[arg-type]
    net = build_network(architecture)
    randomize(net, 0)
    found = survey(net, _example()[:1])
    masks = MaskSet(found.groups, found.blocks)
    random_masks(masks, 0.5, 1)
    return architecture, net.eval(), masks


@pytest.mark.parametrize(("backbone", "cut"), CUTS)
def test_slim_equals_masked_and_is_rebuilt_bit_exactly(backbone: str, cut: str, tmp_path: Path) -> None:
    architecture, net, masks = _network(backbone, cut)
    plan = plan_from_masks(net, masks, PlanSettings(align=8))
    slim = apply_plan(net, masks, plan)
    x = _example()
    masks.attach(net)
    assert deviation(net, slim, x).relative < 1e-5
    masks.detach()
    plan.save(tmp_path / "plan.json")
    again = rebuild(architecture, Plan.load(tmp_path / "plan.json"))
    again.load_state_dict(slim.state_dict())
    assert torch.equal(again.eval()(x), slim(x))
    assert cost(slim, x, "edge").macs < cost(net, x, "edge").macs
    assert plan.wire is not None
    assert slim.edge(x).shape[1] == len(plan.wire.kept)


def test_the_wire_shrinks_or_is_frozen_on_request() -> None:
    _, net, masks = _network("resnet18", "layer2")
    shrunk = plan_from_masks(net, masks, PlanSettings(align=8))
    assert shrunk.wire is not None and shrunk.wire.shrinks
    frozen = plan_from_masks(net, masks, PlanSettings(align=8, freeze_wire=True))
    assert frozen.wire is not None and not frozen.wire.shrinks
    slim = apply_plan(net, masks, frozen)
    cloud = {
        k: v.shape for k, v in net.state_dict().items() if k.startswith(("backbone.layer3", "backbone.layer4"))
    }
    assert all(slim.state_dict()[k].shape == shape for k, shape in cloud.items())
    masks.attach(net)
    assert deviation(net, slim, _example()).relative < 1e-5


def test_the_last_block_keeps_what_the_heads_give_out() -> None:
    _, net, masks = _network("resnet18", "layer4", pooling="gem")
    plan = plan_from_masks(net, masks, PlanSettings(align=8))
    assert plan.wire is not None and not plan.wire.shrinks
    assert "network output" in plan.frozen.values()
    slim = apply_plan(net, masks, plan)
    masks.attach(net)
    assert deviation(net, slim, _example()).relative < 1e-5


def test_a_gem_network_with_a_reduction_may_shrink_up_to_it() -> None:
    _, net, masks = _network("resnet18", "layer4", pooling="gem", embedding=16)
    plan = plan_from_masks(net, masks, PlanSettings(align=8))
    assert plan.wire is not None and plan.wire.shrinks
    slim = apply_plan(net, masks, plan)
    masks.attach(net)
    assert deviation(net, slim, _example()).relative < 1e-5


def test_train_mode_is_equal_too() -> None:
    _, net, masks = _network("resnet18", "layer2")
    net.double().train()
    slim = apply_plan(net, masks, plan_from_masks(net, masks, PlanSettings(align=8)))
    assert slim.training
    masks.attach(net)
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    assert deviation(net, slim, x.double()).relative < 1e-12


def test_a_plan_for_another_network_is_refused() -> None:
    _, net, masks = _network("resnet18", "layer2")
    plan = plan_from_masks(net, masks)
    with pytest.raises(PlanError, match="another architecture"):
        rebuild(Architecture("resnet18", "layer2", 6, width=0.25), plan)
    with pytest.raises(PlanError, match="made from masks"):
        apply_plan(net, None, plan)
    with pytest.raises(PlanError, match="not a plan of version 1"):
        rebuild(Architecture("resnet18", "layer2", 5, width=0.25), json.loads(plan.to_json()) | {"more": 1})
