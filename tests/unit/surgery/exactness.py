"""The check that every pattern and family goes through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.unit.surgery.randomize import random_masks, randomize
from toolkit.models.groups import survey
from toolkit.models.masks import MaskSet
from toolkit.surgery import Plan, PlanSettings, apply_plan, cost, deviation, plan_from_masks, plan_table

EXACT = 1e-12
FLOAT = 1e-5


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64)


def no_dropout(*nets: nn.Module) -> None:
    for net in nets:
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.eval()


def slim_exactly(
    net: nn.Module, side: int = 12, zeros: float = 0.5, seed: int = 0, align: int = 1, train: bool = True
) -> tuple[Plan, nn.Module]:
    """Mask at random, slim, and assert that nothing but the size has changed; float64."""
    randomize(net, seed)
    net = net.double().eval()
    x = pictures(2, side, seed)
    found = survey(net, x[:1])
    masks = MaskSet(found.groups, found.blocks)
    random_masks(masks, zeros, seed)
    plan = plan_from_masks(net, masks, PlanSettings(align=align), x[:1])
    slim = apply_plan(net, masks, plan, x[:1])
    masks.attach(net)
    assert deviation(net, slim, x).relative <= EXACT
    if train:
        net.train(), slim.train()
        no_dropout(net, slim)
        assert deviation(net, slim, pictures(8, side, seed + 1)).relative <= EXACT
    masks.detach()
    rows = plan_table(net, plan, x[:1])
    before, after = cost(net, x[:1]), cost(slim, x[:1])
    for name in ("macs", "activation_bytes"):
        change = sum(getattr(row, name)[1] - getattr(row, name)[0] for row in rows)
        assert getattr(before, name) + change == getattr(after, name)
    layers = {layer.layer: layer for layer in after.per_layer}
    for row in rows:
        if row.after:
            new = layers[row.layer]
            said = (row.after, row.parameters[1], row.macs[1], row.activation_bytes[1])
            assert said == (new.channels, new.parameters, new.macs, new.activation_bytes)
    assert after.parameters == sum(p.numel() for p in slim.parameters())
    return plan, slim.eval()


def removed(plan: Plan) -> int:
    return sum(len(group.removed) for group in plan.groups.values())
