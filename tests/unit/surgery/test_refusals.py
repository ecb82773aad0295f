"""What cannot be removed is named before anything is changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from tests.unit.surgery.exactness import pictures, slim_exactly
from tests.unit.surgery.zoo import conv_bn
from toolkit.models.groups import GroupError, find_groups, survey
from toolkit.models.masks import MaskSet
from toolkit.surgery import SurgeryError, apply_plan, plan_from_lists, plan_from_masks


class Body(nn.Module):
    """A convolution, something special, a convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.stem, self.head = conv_bn(3, 8), nn.Conv2d(channels, 5, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.stem(x)))


def _attention(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    return (torch.softmax(flat.transpose(1, 2) @ flat, -1) @ flat.transpose(1, 2)).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(
    ("function", "channels", "reason"),
    [
        (lambda x: torch.topk(x, 3, 1).values, 3, "topk has no removal rule"),
        (lambda x: x[:, :3], 3, "split at 3, which is no attribute"),
        (lambda x: x[:, ::2], 4, "slice with a step"),
        (lambda x: x[:, -3:], 3, "slice from the end"),
        (lambda x: x[:, [0, 2, 4]], 3, "index has no removal rule"),
        (lambda x: torch.softmax(x, 1), 8, "_softmax has no removal rule"),
        (lambda x: F.normalize(x, dim=1), 8, "linalg_vector_norm has no removal rule"),
        (lambda x: F.group_norm(x, 2), 8, "GroupNorm averages over channels"),
        (lambda x: F.layer_norm(x, x.shape[1:]), 8, "LayerNorm averages over channels"),
        (lambda x: x - x.mean(1, keepdim=True), 8, "mean has no removal rule"),
        (lambda x: x * torch.arange(8).view(1, 8, 1, 1), 8, "no channels of its own"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 0, 2)), 10, "constant_pad_nd has no removal rule"),
        (lambda x: F.conv2d(x, torch.ones(4, 8, 1, 1, dtype=x.dtype)), 4, "a weight that is computed"),
        (_attention, 8, "a weight that is computed"),
    ],
)
def test_the_channels_stay_and_the_reason_is_named(
    function: Callable[[Tensor], Tensor], channels: int, reason: str
) -> None:
    net = Body(function, channels)
    with pytest.raises(GroupError, match=reason):
        find_groups(net.double(), pictures(1, 8))


def test_the_rest_of_the_network_can_still_be_slimmed() -> None:
    net = nn.Sequential(conv_bn(3, 8), Body(lambda x: torch.softmax(x, 1)))
    net[1].stem = conv_bn(8, 8)
    found = survey(net.double(), pictures(1, 8))
    assert [g.name for g in found.groups] == ["0.0"]
    assert {f.layer: f.reason for f in found.frozen}["1.stem.0"] == "_softmax has no removal rule in 1"


class Tokens(nn.Module):
    """A convolution whose pixels become tokens of a layer with fixed sizes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem, self.body, self.layer = conv_bn(3, 8), conv_bn(8, 8), layer
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.body(self.stem(x)).flatten(2).transpose(1, 2)
        given = (tokens,) * 3 if isinstance(self.layer, nn.MultiheadAttention) else (tokens,)
        return self.head(self.layer(*given)[0].mean(1))


@pytest.mark.parametrize(
    "layer", [nn.MultiheadAttention(8, 2, batch_first=True), nn.LSTM(8, 8, batch_first=True)], ids=["mha", "lstm"]
)
def test_what_enters_a_layer_of_fixed_sizes_stays_and_the_trunk_is_slimmed(layer: nn.Module) -> None:
    net = Tokens(layer)
    plan, slim = slim_exactly(net, side=8, train=False)
    assert list(plan.groups) == ["stem.0"] and slim.stem[0].out_channels < 8
    frozen = {entry.layer: entry.reason for entry in survey(net, pictures(1, 8)).frozen}
    assert f"{type(layer).__name__} has fixed sizes" in frozen["body.0"]


def test_a_roll_over_channels_is_refused_and_one_over_pixels_is_not() -> None:
    over_channels = nn.Sequential(conv_bn(3, 8), Body(lambda x: torch.roll(x, 3, 1)))
    over_channels[1].stem = conv_bn(8, 8)
    assert [g.name for g in survey(over_channels.double(), pictures(1, 8)).groups] == ["0.0"]
    over_pixels = nn.Sequential(conv_bn(3, 8), Body(lambda x: torch.roll(x, (1, 2), (2, 3))))
    over_pixels[1].stem = conv_bn(8, 8)
    assert len(slim_exactly(over_pixels, side=8)[0].groups) == 2


def test_a_computed_weight_is_frozen() -> None:
    net = nn.Sequential(weight_norm(nn.Conv2d(3, 8, 3)), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1))
    found = survey(net.double(), pictures(1, 8))
    assert [g.name for g in found.groups] == ["1"]
    assert any("computed" in f.reason for f in found.frozen)


class HardCoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn(3, 8), nn.Linear(8 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).view(-1, 512))


def test_a_size_written_into_the_code_is_found_before_anything_is_returned() -> None:
    net = HardCoded().double().eval()
    x = pictures(1, 8)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    plan = plan_from_lists(net, {"stem.0": [0, 1]}, example=x)
    with pytest.raises(SurgeryError, match="computes a size that removal does not change"):
        apply_plan(net, None, plan, x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_tied_weights_of_two_masked_layers_are_refused() -> None:
    net = nn.Sequential(conv_bn(3, 8), conv_bn(8, 8), conv_bn(8, 8), nn.Conv2d(8, 5, 1))
    net[2][1].weight = net[1][1].weight
    found = survey(net.double().eval(), pictures(1, 8))
    masks = MaskSet(found.groups)
    masks.set_({found.groups[1].name: torch.zeros(found.groups[1].channels)})
    with pytest.raises(SurgeryError, match="shared"):
        plan_from_masks(net, masks, example=pictures(1, 8))
