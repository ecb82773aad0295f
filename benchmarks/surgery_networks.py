"""What the slimming benchmark runs on: every family at full size, and the small members that the tests use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo import (
    Bottleneck,
    Classifier,
    ConvNextBlock,
    LayerNorm2d,
    SqueezeExcitation,
    conv_bn,
    resnet_bottleneck,
)
from tests.unit.surgery.zoo_families import FAMILIES, DenseBlock, Inception, OmniScale, ShuffleUnit
from toolkit.models.registry import BACKBONES, build_backbone


class Classified(nn.Module):
    """A backbone with pooling and a linear classifier."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = build_backbone(name)
        self.head = nn.Linear(self.backbone.out_channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


class MBConv(nn.Module):
    """EfficientNet's block (Tan and Le 2019, arXiv:1905.11946); its gate is a quarter of its input wide."""

    def __init__(self, expand: int, kernel: int, stride: int, inputs: int, outputs: int) -> None:
        super().__init__()
        mid = inputs * expand
        layers = [conv_bn(inputs, mid, 1, act="silu")] if expand > 1 else []
        layers += [conv_bn(mid, mid, kernel, stride, mid, "silu"), SqueezeExcitation(mid, inputs // 4)]
        self.body = nn.Sequential(*layers, conv_bn(mid, outputs, 1, act="none"))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def efficientnet_b0() -> nn.Module:
    """Expansion, kernel, stride, channels and blocks of every stage are the paper's table 1."""
    table = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3)]
    blocks: list[nn.Module] = []
    inputs = 32
    for expand, kernel, stride, outputs, count in [*table, (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]:
        for number in range(count):
            blocks.append(MBConv(expand, kernel, 1 if number else stride, inputs, outputs))
            inputs = outputs
    return Classifier(conv_bn(3, 32, 3, 2, act="silu"), [*blocks, conv_bn(320, 1280, 1, act="silu")], 1280, 10)


def regnet_y(widths: tuple[int, ...], depths: tuple[int, ...], group: int) -> nn.Module:
    """RegNetY (Radosavovic et al. 2020, arXiv:2003.13678), its widths, depths and group width."""
    blocks: list[nn.Module] = []
    inputs = 32
    for width, depth in zip(widths, depths, strict=True):
        for number in range(depth):
            blocks.append(Bottleneck(inputs, width, width, 1 if number else 2, width // group, inputs // 4))
            inputs = width
    return Classifier(conv_bn(3, 32, 3, 2), blocks, inputs, 10)


def densenet121() -> nn.Module:
    """DenseNet-121 (Huang et al. 2017, arXiv:1608.06993), table 1, growth 32."""
    stages: list[nn.Module] = []
    inputs = 64
    for number, layers in enumerate((6, 12, 24, 16)):
        if number:
            half = nn.Conv2d(inputs, inputs // 2, 1, bias=False)
            stages.append(nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(True), half, nn.AvgPool2d(2)))
            inputs //= 2
        stages.append(DenseBlock(inputs, 32, layers))
        inputs += 32 * layers
    stages.append(nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(True)))
    return Classifier(nn.Sequential(conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)), stages, inputs, 10)


def googlenet() -> nn.Module:
    """Nine inception modules with the output widths of table 1 (Szegedy et al. 2015, arXiv:1409.4842)."""
    table = [(64, 128, 32, 32), (128, 192, 96, 64), (), (192, 208, 48, 64), (160, 224, 64, 64), (128, 256, 64, 64)]
    table += [(112, 288, 64, 64), (256, 320, 128, 128), (), (256, 320, 128, 128), (384, 384, 128, 128)]
    stem = nn.Sequential(
        conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), conv_bn(64, 64, 1), conv_bn(64, 192), nn.MaxPool2d(3, 2, 1)
    )
    stages: list[nn.Module] = []
    inputs = 192
    for widths in table:
        if widths:
            stages.append(Inception(inputs, *widths))
            inputs = sum(widths)
        else:
            stages.append(nn.MaxPool2d(3, 2, 1))
    return Classifier(stem, stages, inputs, 10)


def shufflenet_v2() -> nn.Module:
    """ShuffleNetV2 1x (Ma et al. 2018, arXiv:1807.11164), table 5; its 24-channel stem is 32 wide here."""
    stages: list[nn.Module] = []
    inputs = 32
    for outputs, count in ((116, 4), (232, 8), (464, 4)):
        stages += [ShuffleUnit(inputs, outputs, 2), *(ShuffleUnit(outputs, outputs, 1) for _ in range(count - 1))]
        inputs = outputs
    stem = nn.Sequential(conv_bn(3, 32, 3, 2), nn.MaxPool2d(3, 2, 1))
    return Classifier(stem, [*stages, conv_bn(464, 1024, 1)], 1024, 10)


def convnext_tiny() -> nn.Module:
    """ConvNeXt-T (Liu et al. 2022, arXiv:2201.03545)."""
    stages: list[nn.Module] = []
    inputs = 96
    for number, (width, count) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
        if number:
            stages.append(nn.Sequential(LayerNorm2d(inputs), nn.Conv2d(inputs, width, 2, 2)))
        stages += [ConvNextBlock(width) for _ in range(count)]
        inputs = width
    return Classifier(nn.Sequential(nn.Conv2d(3, 96, 4, 4), LayerNorm2d(96)), stages, 768, 10)


def osnet() -> nn.Module:
    """OSNet 1x (Zhou et al. 2019, arXiv:1905.00953), table 1, with three branches and a shared gate."""
    stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
    stages = [OmniScale(64, 256), OmniScale(256, 256), conv_bn(256, 256, 1), nn.AvgPool2d(2)]
    stages += [OmniScale(256, 384), OmniScale(384, 384), conv_bn(384, 384, 1), nn.AvgPool2d(2)]
    stages += [OmniScale(384, 512), OmniScale(512, 512), conv_bn(512, 512, 1)]
    return Classifier(stem, stages, 512, 10)


class Expanded(nn.Module):
    """MobileNetV3's block (Howard et al. 2019, arXiv:1905.02244)."""

    def __init__(self, kernel: int, mid: int, inputs: int, outputs: int, se: bool, act: str, stride: int) -> None:
        super().__init__()
        layers = [conv_bn(inputs, mid, 1, act=act)] if mid != inputs else []
        layers.append(conv_bn(mid, mid, kernel, stride, mid, act))
        if se:
            layers.append(SqueezeExcitation(mid, max(8, mid // 32 * 8), nn.Hardsigmoid))  # type: ignore[arg-type]
        self.body = nn.Sequential(*layers, conv_bn(mid, outputs, 1, act="none"))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v3() -> nn.Module:
    """MobileNetV3-Large, table 1."""
    relu, swish = "relu", "hardswish"
    table = [(3, 16, 16, False, relu, 1), (3, 64, 24, False, relu, 2), (3, 72, 24, False, relu, 1)]
    table += [(5, 72, 40, True, relu, 2), (5, 120, 40, True, relu, 1), (5, 120, 40, True, relu, 1)]
    table += [(3, 240, 80, False, swish, 2), (3, 200, 80, False, swish, 1), (3, 184, 80, False, swish, 1)]
    table += [(3, 184, 80, False, swish, 1), (3, 480, 112, True, swish, 1), (3, 672, 112, True, swish, 1)]
    table += [(5, 672, 160, True, swish, 2), (5, 960, 160, True, swish, 1), (5, 960, 160, True, swish, 1)]
    blocks: list[nn.Module] = []
    inputs = 16
    for kernel, mid, outputs, se, act, stride in table:
        blocks.append(Expanded(kernel, mid, inputs, outputs, se, act, stride))
        inputs = outputs
    return Classifier(conv_bn(3, 16, 3, 2, act=swish), [*blocks, conv_bn(160, 960, 1, act=swish)], 960, 10)


def resnext50() -> nn.Module:
    """ResNeXt-50 32x4d (Xie et al. 2017, arXiv:1611.05431) on a small stem."""
    return resnet_bottleneck(groups=32, expansion=2, layers=(3, 4, 6, 3), width=128)


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        make: the dense network with initial weights.
        side: of the picture that both tools are given when they are timed.
        judged_side: of the pictures that outputs are compared on.
    """

    make: Callable[[], nn.Module]
    side: int
    judged_side: int

    def build(self) -> nn.Module:
        """With statistics, scales and shifts as training leaves them."""
        net = self.make()
        randomize(net, 0)
        return net


NETWORKS = {
    **{f"{name} (full size)": Network(lambda n=name: Classified(n), 224, 64) for name in BACKBONES},  # type: ignore[misc]
    "efficientnet_b0 (full size)": Network(efficientnet_b0, 224, 64),
    "regnet_y_400mf (full size)": Network(lambda: regnet_y((48, 104, 208, 440), (1, 3, 6, 6), 8), 224, 64),
    "regnet_y_1_6gf (full size)": Network(lambda: regnet_y((48, 120, 336, 888), (2, 6, 17, 2), 24), 224, 64),
    "densenet121 (full size)": Network(densenet121, 224, 64),
    "googlenet (full size)": Network(googlenet, 224, 64),
    "shufflenet_v2_x1 (full size)": Network(shufflenet_v2, 224, 64),
    "mobilenet_v3_large (full size)": Network(mobilenet_v3, 224, 64),
    "convnext_tiny (full size)": Network(convnext_tiny, 224, 64),
    "osnet_x1 (full size)": Network(osnet, 224, 64),
    "resnext50 (full size)": Network(resnext50, 224, 64),
    **{f"{name} (small)": Network(make, 64, 32) for name, make in FAMILIES.items()},
}
