"""Dead channels that leave a constant: bias, one kept channel, or refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.unit.surgery.exactness import EXACT, pictures
from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo import conv_bn
from toolkit.models.groups import survey
from toolkit.surgery import (
    PlanError,
    PlanSettings,
    ScoreSettings,
    SurgeryError,
    apply_plan,
    deviation,
    fold_masks,
    plan_from_lists,
    plan_from_zeros,
    reference_masks,
    slim_by_scores,
)

ONE = PlanSettings(align=1)


def _dead(net: nn.Sequential, norm: str, channels: list[int]) -> nn.Sequential:
    """Zero scales; the shifts survive."""
    randomize(net, 0)
    with torch.no_grad():
        net.get_submodule(norm).weight[channels] = 0  # type: ignore[index, operator]
        net.get_submodule(norm).bias[channels] = torch.linspace(0.2, 0.9, len(channels))  # type: ignore[index, operator]
    return net.double().eval()


def _slim(net: nn.Module, side: int = 10) -> tuple[nn.Module, Tensor]:
    x = pictures(2, side)
    slim = apply_plan(net, None, plan_from_zeros(net, ONE, x[:1]), x[:1])
    assert deviation(net, slim, x).relative <= EXACT
    return slim, x


def test_a_shift_goes_into_the_bias_of_an_unpadded_convolution() -> None:
    net = _dead(nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 5, 3, bias=False)), "0.1", [1, 4])
    slim, _ = _slim(net)
    assert slim.get_submodule("1").in_channels == 6
    expected = torch.einsum("ochw,c->o", net[1].weight[:, [1, 4]], torch.tensor([0.2, 0.9]).double())
    torch.testing.assert_close(slim.get_submodule("1").bias.detach(), expected.detach(), rtol=1e-6, atol=0)


def test_a_shift_that_the_activation_cuts_off_leaves_nothing() -> None:
    net = _dead(nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 5, 3, padding=1, bias=False)), "0.1", [1, 4])
    with torch.no_grad():
        net.get_submodule("0.1").bias[[1, 4]] = -0.3
    slim, _ = _slim(net)
    assert slim.get_submodule("1").in_channels == 6
    assert slim.get_submodule("1").bias is None


def test_constants_before_a_padded_convolution_merge_into_one_channel() -> None:
    net = _dead(nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 5, 3, padding=1)), "0.1", [1, 4, 6])
    slim, _ = _slim(net)
    merged = slim.get_submodule("1")
    assert merged.in_channels == 6
    weights = torch.tensor([0.2, 0.55, 0.9]).double()
    expected = torch.einsum("ochw,c->ohw", net[1].weight[:, [1, 4, 6]], weights / 0.9)
    torch.testing.assert_close(merged.weight[:, 4].detach(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_alignment_offers_the_constant_channel_its_place() -> None:
    net = _dead(nn.Sequential(conv_bn(3, 16), nn.Conv2d(16, 8, 3, padding=1)), "0.1", [1, 2, 3, 4, 5, 6, 7, 8, 9])
    x = pictures(2, 10)
    plan = plan_from_zeros(net, PlanSettings(align=8), x[:1])
    assert len(plan.groups["0.0"].constant) == 1
    assert len(plan.groups["0.0"].kept) == 8
    assert deviation(net, apply_plan(net, None, plan, x[:1]), x).relative <= EXACT


def test_a_padded_and_an_unpadded_reader_of_the_same_constant() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = conv_bn(3, 8), nn.Conv2d(8, 5, 3, padding=1), nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.a(x) + self.b(x)

    net = _dead(Two(), "stem.1", [0, 3, 5])  # type: ignore[arg-type]
    slim, _ = _slim(net)
    assert slim.get_submodule("a").in_channels == 6


def test_a_constant_behind_a_padded_depthwise_convolution_is_refused_and_stays() -> None:
    net = nn.Sequential(conv_bn(3, 8), conv_bn(8, 8, 3, groups=8), nn.Conv2d(8, 5, 1))
    net = _dead(net, "0.1", [1, 4])
    x = pictures(2, 10)
    plan = plan_from_zeros(net, ONE, x[:1])
    assert plan.groups["0.0"].removed == ()
    rough = plan_from_zeros(net, PlanSettings(align=1, borders="approximate"), x[:1])
    assert rough.groups["0.0"].removed == (1, 4)
    with pytest.raises((SurgeryError, PlanError)):
        apply_plan(net, None, rough, x[:1])
    slim = apply_plan(net, None, rough, x[:1], borders="approximate")
    assert 1e-6 < deviation(net, slim, x).relative < 1


def test_zeroed_filters_are_found() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 5, 1))
    randomize(net, 1)
    with torch.no_grad():
        net[0].weight[[0, 2, 5]] = 0
    net = net.double()
    slim, _ = _slim(net)
    assert slim.get_submodule("0").out_channels == 5


def test_channels_that_read_only_dead_channels_are_dead() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 1))
    randomize(net, 1)
    with torch.no_grad():
        net[0].weight[1:] = 0
        net[2].weight[[2, 3], 0] = 0
    slim, _ = _slim(net.double())
    assert slim.get_submodule("0").out_channels == 1
    assert slim.get_submodule("2").out_channels == 4


@pytest.mark.parametrize("padding", [0, 1])
def test_an_activation_that_is_not_zero_at_zero(padding: int) -> None:
    net = nn.Sequential(conv_bn(3, 8, act="none"), nn.Sigmoid(), nn.Conv2d(8, 5, 3, padding=padding))
    randomize(net, 2)
    net = net.double().eval()
    x = pictures(2, 10)
    plan = plan_from_lists(net, {"0.0": [0, 1, 2]}, settings=ONE, example=x[:1])
    slim = apply_plan(net, None, plan, x[:1])
    assert slim.get_submodule("2").in_channels == 5 + padding
    masked = net
    with torch.no_grad():
        net.get_submodule("0.1").weight[:3] = 0
        net.get_submodule("0.1").bias[:3] = 0
    assert deviation(masked, slim, x).relative <= EXACT


def test_a_constant_that_a_gate_turns_into_a_signal_stays() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.gate, self.head = conv_bn(3, 8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))))

    net = _dead(Gated(), "stem.1", [1, 4])  # type: ignore[arg-type]
    plan = plan_from_zeros(net, ONE, pictures(1, 10))
    assert plan.groups["stem.0"].removed == ()


def test_a_shared_layer_that_reads_two_constants_refuses() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.shared = conv_bn(3, 8), nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.shared(x) - self.shared(2 * x)

    net = _dead(Twice(), "stem.1", [1, 4])  # type: ignore[arg-type]
    plan = plan_from_zeros(net, ONE, pictures(1, 10))
    assert plan.groups["stem.0"].removed == ()


def test_a_group_that_is_dead_as_a_whole_keeps_one_channel() -> None:
    net = _dead(nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 5, 1)), "0.1", list(range(8)))
    slim, _ = _slim(net)
    assert slim.get_submodule("1").in_channels == 1


def test_a_plan_from_zeros_for_other_weights_is_refused() -> None:
    net = _dead(nn.Sequential(conv_bn(3, 8), nn.Conv2d(8, 5, 1)), "0.1", [1, 4])
    plan = plan_from_zeros(net, ONE, pictures(1, 10))
    with torch.no_grad():
        net.get_submodule("0.1").weight.fill_(1)
    with pytest.raises(SurgeryError, match="would change the output"):
        apply_plan(net, None, plan, pictures(1, 10))


def test_exactness_does_not_depend_on_the_size_of_the_example() -> None:
    """On one pixel every constant looks uniform; the depthwise padding must be known without seeing it."""
    net = nn.Sequential(conv_bn(3, 8), conv_bn(8, 8, 3, groups=8), nn.Conv2d(8, 5, 1))
    net = _dead(net, "0.1", [1, 4])
    plan = plan_from_zeros(net, ONE, pictures(1, 1))
    assert plan.groups["0.0"].removed == ()


@pytest.mark.parametrize("pool", [nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d(1)])
def test_padding_without_weights_makes_a_constant_differ_at_the_borders(pool: nn.Module) -> None:
    net = _dead(nn.Sequential(conv_bn(3, 8), pool, nn.Conv2d(8, 5, 1)), "0.1", [1, 4])
    assert plan_from_zeros(net, ONE, pictures(1, 1)).groups["0.0"].removed == ()
    exact = nn.Sequential(net[0], nn.AvgPool2d(3, 1), net[2])
    assert plan_from_zeros(exact, ONE, pictures(1, 3)).groups["0.0"].removed == (1, 4)


@pytest.mark.parametrize(
    ("function", "kept"),
    [
        (torch.relu, True),
        (lambda x: torch.nn.functional.hardswish(x) + x * 0.5, True),
        (lambda x: x * torch.sigmoid(x), True),
        (lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), True),
        (lambda x: torch.clamp(x, -1, 2), True),
        (lambda x: torch.clamp(x, 0.1, 2), False),
        (torch.sigmoid, False),
        (lambda x: x + torch.sigmoid(x), False),
        (lambda x: x + 1, False),
        (torch.nn.functional.softplus, False),
        (torch.cos, False),
    ],
)
def test_where_zero_stays_zero(function: Callable[[Tensor], Tensor], kept: bool) -> None:
    """Either way the slim network is exact; only the way in which its constants are found differs."""

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = conv_bn(3, 8, act="none"), nn.Conv2d(8, 5, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(function(self.stem(x)))

    net = Body()
    randomize(net, 0)
    net = net.double().eval()
    x = pictures(2, 10)
    found = survey(net, x[:1])
    assert bool(found.stirred[found.groups[0].roots].any()) is not kept
    slimmed = slim_by_scores(net, ScoreSettings(ratio=0.5), ONE, x[:1])
    reference = reference_masks(net, slimmed.plan, None, x[:1])
    assert reference is not None
    assert deviation(fold_masks(net, reference), slimmed.net, x).relative <= EXACT
    assert len(slimmed.plan.groups["stem.0"].removed) in ((4,) if kept else (3,))
