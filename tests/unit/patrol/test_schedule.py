import pytest
import torch
from torch import nn

from toolkit.patrol.schedule import make_optimizer, one_cycle, set_schedule


@pytest.mark.parametrize("steps", [7, 100])
def test_agrees_with_torchs_one_cycle(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps, pct_start=0.3)
    for step in range(steps):
        rate, momentum = one_cycle(step, steps, 0.01, 0.3)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-9)
        assert momentum == pytest.approx(optimizer.param_groups[0]["betas"][0], rel=1e-6)
        optimizer.step()
        if step + 1 < steps:
            theirs.step()


def test_one_step_is_enough():
    assert one_cycle(0, 1, 0.01, 0.2)[0] > 0


def test_only_kernels_decay():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net[1].bias.requires_grad_(False)
    optimizer = make_optimizer(net, 0.1, 0.3)
    decayed, plain = optimizer.param_groups
    assert [p.dim() for p in decayed["params"]] == [4] and decayed["weight_decay"] == 0.3
    assert len(plain["params"]) == 2 and plain["weight_decay"] == 0.0
    set_schedule(optimizer, 0.5, 0.9)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    assert decayed["betas"] == (0.9, 0.999)
