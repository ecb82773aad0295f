"""One test per graph pattern: what is removed equals what was masked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.surgery import zoo
from tests.unit.surgery.exactness import pictures, removed, slim_exactly
from tests.unit.surgery.zoo import conv_bn
from toolkit.models.groups import survey
from toolkit.surgery import PlanSettings, ScoreSettings, slim_by_scores


class Forward(nn.Module):
    """Named layers and a function over them."""

    def __init__(
        self, function: Callable[[Forward, Tensor], Tensor], **layers: nn.Module | int | nn.Parameter
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _check(net: nn.Module, **options: int | bool) -> nn.Module:
    plan, slim = slim_exactly(net, **options)  # type: ignore[arg-type]
    assert removed(plan) > 0
    return slim


def _head(net: Forward, x: Tensor) -> Tensor:
    return net.get_submodule("head")(x)


def test_chain() -> None:
    _check(nn.Sequential(conv_bn(3, 12), conv_bn(12, 16, 3, 2), nn.Conv2d(16, 5, 1)))


def test_residual_addition() -> None:
    _check(zoo.resnet_basic())


def test_two_residual_additions_of_the_same_stream() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        x = net.stem(x)
        return _head(net, x + net.a(x) + net.b(x))

    _check(Forward(run, stem=conv_bn(3, 8), a=conv_bn(8, 8), b=conv_bn(8, 8), head=nn.Conv2d(8, 5, 1)))


def test_grouped_convolution() -> None:
    slim = _check(nn.Sequential(conv_bn(3, 16), conv_bn(16, 24, 3, groups=4), nn.Conv2d(24, 5, 1)))
    grouped = slim.get_submodule("1.0")
    assert isinstance(grouped, nn.Conv2d)
    assert grouped.out_channels // grouped.groups == 6


def test_depthwise_convolution() -> None:
    slim = _check(nn.Sequential(conv_bn(3, 16), conv_bn(16, 16, 3, groups=16), nn.Conv2d(16, 5, 1)))
    depthwise = slim.get_submodule("1.0")
    assert isinstance(depthwise, nn.Conv2d)
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels


def test_depthwise_convolution_with_a_multiplier() -> None:
    _check(nn.Sequential(conv_bn(3, 8), conv_bn(8, 16, 3, groups=8), nn.Conv2d(16, 5, 1)))


def test_transposed_convolution() -> None:
    up = nn.Sequential(nn.ConvTranspose2d(12, 10, 4, 2, 1), nn.BatchNorm2d(10), nn.ReLU())
    _check(nn.Sequential(conv_bn(3, 12), up, nn.ConvTranspose2d(10, 5, 2, 2)))


def test_concatenation() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        return _head(net, torch.cat([net.a(x), net.b(x), net.a(x)], 1))

    _check(Forward(run, a=conv_bn(3, 8), b=conv_bn(3, 12, 1), head=conv_bn(20 + 8, 5)))


def test_concatenation_with_itself() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        x = net.a(x)
        return _head(net, torch.cat([x, x], 1))

    _check(Forward(run, a=conv_bn(3, 8), head=conv_bn(16, 5)))


def test_concatenation_of_concatenations() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        first = torch.cat([net.a(x), net.b(x)], 1)
        second = torch.cat([first, net.c(first)], 1)
        return _head(net, torch.cat([second, first], 1))

    _check(Forward(run, a=conv_bn(3, 6), b=conv_bn(3, 8), c=conv_bn(14, 4), head=conv_bn(32, 5)))


def test_addition_of_concatenations() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        return _head(net, torch.cat([net.a(x), net.b(x)], 1) + net.c(x))

    _check(Forward(run, a=conv_bn(3, 6), b=conv_bn(3, 8), c=conv_bn(3, 14), head=conv_bn(14, 5)))


def test_split_at_an_attribute() -> None:
    slim = _check(nn.Sequential(nn.Conv2d(3, 16, 3), zoo.InstanceBatch(16), nn.ReLU(), nn.Conv2d(16, 5, 1)))
    split = slim.get_submodule("1")
    assert split.half == split.get_submodule("instance").num_features


def test_chunk_into_equal_parts() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        first, second = net.a(x).chunk(2, 1)
        return _head(net, torch.cat([net.b(first), net.c(second)], 1))

    _check(Forward(run, a=conv_bn(3, 16), b=conv_bn(8, 6), c=conv_bn(8, 4), head=nn.Conv2d(10, 5, 1)))


def test_gated_linear_unit() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        value, gate = net.a(x).chunk(2, 1)
        return _head(net, value * torch.sigmoid(gate))

    _check(Forward(run, a=nn.Conv2d(3, 16, 3), head=nn.Conv2d(8, 5, 1)), train=False)


@pytest.mark.parametrize("layer", [True, False])
def test_channel_shuffle(layer: bool) -> None:
    from tests.unit.surgery.zoo_families import shuffle

    mixing = nn.ChannelShuffle(2) if layer else Forward(lambda net, x: shuffle(x, 2))
    grouped = conv_bn(16, 16, 3, groups=2)
    _check(nn.Sequential(conv_bn(3, 16), mixing, conv_bn(16, 16, 1), grouped, nn.Conv2d(16, 5, 1)))


def test_pixel_shuffle() -> None:
    _check(nn.Sequential(conv_bn(3, 16), nn.PixelShuffle(2), conv_bn(4, 6), nn.Conv2d(6, 5, 1)))


def test_pixel_unshuffle() -> None:
    _check(nn.Sequential(conv_bn(3, 8), nn.PixelUnshuffle(2), nn.Conv2d(32, 5, 1)))


def test_squeeze_excitation() -> None:
    _check(nn.Sequential(conv_bn(3, 16), zoo.SqueezeExcitation(16, 8), conv_bn(16, 5)))


def test_squeeze_excitation_at_one_pixel() -> None:
    _check(
        nn.Sequential(
            conv_bn(3, 16, 3, 2), nn.AdaptiveAvgPool2d(1), zoo.SqueezeExcitation(16, 8), nn.Conv2d(16, 5, 1)
        )
    )


def test_spatial_attention_with_one_channel() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        x = net.a(x)
        return _head(net, x * torch.sigmoid(net.attention(x)))

    net = Forward(run, a=conv_bn(3, 16), attention=nn.Conv2d(16, 1, 3, padding=1), head=nn.Conv2d(16, 5, 1))
    slim = _check(net)
    assert slim.get_submodule("attention").out_channels == 1


def test_shared_layer() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        x = net.a(x)
        return _head(net, net.b(net.b(x)))

    _check(Forward(run, a=conv_bn(3, 10), b=conv_bn(10, 10), head=nn.Conv2d(10, 5, 1)))


def test_shared_normalization() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        return _head(net, F.relu(net.norm(net.a(x))) + F.relu(net.norm(net.b(x))))

    norm = nn.BatchNorm2d(10)
    _check(Forward(run, a=nn.Conv2d(3, 10, 3), b=nn.Conv2d(3, 10, 3), norm=norm, head=nn.Conv2d(10, 5, 1)))


def test_prelu() -> None:
    slim = _check(nn.Sequential(conv_bn(3, 12, act="prelu"), nn.Conv2d(12, 5, 3)))
    assert slim.get_submodule("0.2").num_parameters == slim.get_submodule("0.0").out_channels


def test_layer_scale() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        x = net.a(x)
        return _head(net, x + net.gamma * net.b(x))

    gamma = nn.Parameter(torch.rand(10, 1, 1))
    _check(Forward(run, a=conv_bn(3, 10), b=conv_bn(10, 10), gamma=gamma, head=nn.Conv2d(10, 5, 1)))


def test_learned_position_bias() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        return _head(net, net.a(x) * net.position)

    position = nn.Parameter(torch.rand(1, 10, 12, 12))
    _check(Forward(run, a=conv_bn(3, 10), position=position, head=nn.Conv2d(10, 5, 1)))


def test_flatten_into_a_linear_layer() -> None:
    _check(nn.Sequential(conv_bn(3, 10, 3, 4), nn.Flatten(), nn.Linear(90, 16), nn.ReLU(), nn.Linear(16, 5)))


def test_linear_layers_on_the_last_dimension() -> None:
    net = nn.Sequential(
        nn.Flatten(2), nn.Linear(144, 24), nn.GELU(), nn.Linear(24, 6), nn.Flatten(), nn.Linear(18, 5)
    )
    _check(net)


def test_batch_norm_of_vectors() -> None:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    _check(nn.Sequential(conv_bn(3, 12), pool, nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Linear(16, 5)))


def test_pre_activation_normalizes_before_the_convolution() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = x + net.b(F.relu(net.norm(x)))
        return _head(net, F.relu(net.last(x)))

    net = Forward(
        run, stem=nn.Conv2d(3, 10, 3), norm=nn.BatchNorm2d(10), b=nn.Conv2d(10, 10, 3, padding=1),
        last=nn.BatchNorm2d(10), head=nn.Conv2d(10, 5, 1),
    )  # fmt: skip
    _check(net, train=False)


def test_instance_norm() -> None:
    _check(nn.Sequential(nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12, affine=True), nn.ReLU(), nn.Conv2d(12, 5, 1)))


def test_instance_norm_without_parameters() -> None:
    slim = _check(nn.Sequential(nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12), nn.ReLU(), nn.Conv2d(12, 5, 1)))
    assert slim.get_submodule("1").num_features == slim.get_submodule("0").out_channels


def test_batch_norm_without_parameters() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12, affine=False), nn.ReLU(), nn.Conv2d(12, 5, 1))
    plan, _ = slim_exactly(net, train=False)
    assert removed(plan) > 0
    assert plan.created_biases == ()


def test_group_norm_with_one_group_per_channel() -> None:
    slim = _check(nn.Sequential(nn.Conv2d(3, 12, 3), nn.GroupNorm(12, 12), nn.ReLU(), nn.Conv2d(12, 5, 1)))
    assert slim.get_submodule("1").num_groups == slim.get_submodule("0").out_channels


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_padding_modes(mode: str) -> None:
    _check(nn.Sequential(conv_bn(3, 12), nn.Conv2d(12, 8, 3, padding=1, padding_mode=mode), nn.Conv2d(8, 5, 1)))


def test_explicit_zero_padding() -> None:
    _check(nn.Sequential(conv_bn(3, 12), nn.ZeroPad2d(1), nn.Conv2d(12, 5, 3)))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(3)])
def test_pooling(pool: nn.Module) -> None:
    _check(nn.Sequential(conv_bn(3, 12), pool, nn.Conv2d(12, 5, 1)))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling(mode: str) -> None:
    _check(nn.Sequential(conv_bn(3, 12), nn.Upsample(scale_factor=2, mode=mode), conv_bn(12, 5)))


@pytest.mark.parametrize(
    "act",
    [nn.ReLU6(True), nn.SiLU(), nn.Hardswish(), nn.GELU(), nn.LeakyReLU(0.1), nn.ELU(), nn.Tanh(), nn.Mish()],
)
def test_activations_that_keep_zero(act: nn.Module) -> None:
    _check(nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), act, nn.Conv2d(12, 5, 3, padding=1)))


def test_one_dimensional_and_three_dimensional_convolutions() -> None:
    def run(net: Forward, x: Tensor) -> Tensor:
        line = net.b(F.relu(net.a(x.flatten(2))))
        cube = net.d(F.relu(net.c(x.unsqueeze(2))))
        return line.mean(2) + cube.mean((2, 3, 4))

    net = Forward(
        run, a=nn.Conv1d(3, 10, 3), b=nn.Conv1d(10, 5, 3), c=nn.Conv3d(3, 8, (1, 3, 3)), d=nn.Conv3d(8, 5, 1)
    )
    _check(net)


def test_channels_last_is_kept() -> None:
    net = nn.Sequential(conv_bn(3, 12), nn.Conv2d(12, 8, 3), nn.Conv2d(8, 5, 1)).to(
        memory_format=torch.channels_last
    )
    slim = _check(net)
    assert slim.get_submodule("1").weight.is_contiguous(memory_format=torch.channels_last)


def test_instance_norm_is_masked_at_the_same_place_for_one_picture_and_for_several() -> None:
    net = zoo.resnet_bottleneck(ibn=True).double().eval()
    one, two = (survey(net, pictures(count, 32)) for count in (1, 2))
    sites = [[[(point.module, point.index.tolist()) for point in group.producers] for group in found.groups]
             for found in (one, two)]  # fmt: skip
    assert sites[0] == sites[1]
    assert any("bn1" in module for group in sites[0] for module, _ in group)


class Hidden(nn.Module):
    """Buffers that are not saved: the input's mean, and a gain of every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn(3, 12), nn.Conv2d(12, 5, 1)
        self.register_buffer("mean", torch.rand(1, 3, 1, 1), persistent=False)
        self.register_buffer("gain", torch.rand(12, 1, 1) + 0.5, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x - self.mean) * self.gain)


def test_buffers_that_are_not_saved() -> None:
    slim = _check(Hidden())
    assert len(slim.gain) == slim.stem[0].out_channels < 12


def test_every_tensor_keeps_its_type() -> None:
    net = Hidden().eval()
    x = torch.rand(2, 3, 12, 12)
    slim = slim_by_scores(net, ScoreSettings(ratio=0.5), PlanSettings(align=1), x).net
    assert {t.dtype for t in (*slim.parameters(), slim.mean, slim.gain)} == {torch.float32}
    assert slim(x).dtype == torch.float32
