"""Small members of the network families that the matrix covers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.surgery import zoo
from tests.unit.surgery.zoo import Classifier, SqueezeExcitation, conv_bn


class InvertedResidual(nn.Module):
    """MobileNetV2, MobileNetV3 (hard-swish, SE with hard-sigmoid), EfficientNet (SiLU, SE)."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expand: int, act: str, se: type[nn.Module] | None = None
    ) -> None:
        super().__init__()
        mid = inputs * expand
        layers: list[nn.Module] = [conv_bn(inputs, mid, 1, act=act)] if expand > 1 else []
        layers.append(conv_bn(mid, mid, 3, stride, mid, act))
        if se is not None:
            layers.append(SqueezeExcitation(mid, max(4, mid // 4), se))
        layers.append(conv_bn(mid, outputs, 1, act="none"))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet(act: str = "relu6", se: type[nn.Module] | None = None) -> nn.Module:
    blocks = [
        InvertedResidual(16, 8, 1, 1, act),
        InvertedResidual(8, 16, 2, 4, act, se),
        InvertedResidual(16, 16, 1, 4, act, se),
        InvertedResidual(16, 24, 2, 4, act, se),
        InvertedResidual(24, 24, 1, 4, act, se),
        conv_bn(24, 64, 1, act=act),
    ]
    return Classifier(conv_bn(3, 16, 3, 2, act=act), blocks, 64)


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2, 2)
        self.features = nn.Sequential(
            conv_bn(3, 16), conv_bn(16, 16), pool, conv_bn(16, 32), pool, conv_bn(32, 32), pool
        )
        self.classifier = nn.Sequential(
            nn.Linear(32 * 2 * 2, 48),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(48, 48),
            nn.ReLU(True),
            nn.Linear(48, 7),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 2), 1))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.Module):
    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + i * growth, growth) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


def densenet() -> nn.Module:
    transition = nn.Sequential(
        nn.BatchNorm2d(40), nn.ReLU(True), nn.Conv2d(40, 20, 1, bias=False), nn.AvgPool2d(2)
    )
    end = nn.Sequential(nn.BatchNorm2d(44), nn.ReLU(True))
    stem = nn.Sequential(conv_bn(3, 16, 3, 2), nn.MaxPool2d(3, 2, 1))
    return Classifier(stem, [DenseBlock(16, 8, 3), transition, DenseBlock(20, 8, 3), end], 44)


class Inception(nn.Module):
    def __init__(self, inputs: int, a: int, b: int, c: int, d: int) -> None:
        super().__init__()
        self.a = conv_bn(inputs, a, 1)
        self.b = nn.Sequential(conv_bn(inputs, b // 2, 1), conv_bn(b // 2, b))
        self.c = nn.Sequential(conv_bn(inputs, c // 2, 1), conv_bn(c // 2, c, 5))
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(inputs, d, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)


def googlenet() -> nn.Module:
    stages = [Inception(16, 8, 16, 8, 8), nn.MaxPool2d(3, 2, 1), Inception(40, 16, 24, 8, 8)]
    return Classifier(conv_bn(3, 16, 3, 2), stages, 56)


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = outputs // 2
        begin = inputs if stride > 1 else half
        self.right = nn.Sequential(
            conv_bn(begin, half, 1), conv_bn(half, half, 3, stride, half, "none"), conv_bn(half, half, 1)
        )
        if stride > 1:
            self.left = nn.Sequential(conv_bn(inputs, inputs, 3, stride, inputs, "none"), conv_bn(inputs, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            return shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)
        first, second = x.chunk(2, 1)
        return shuffle(torch.cat([first, self.right(second)], 1), 2)


def shufflenet() -> nn.Module:
    stages = [
        ShuffleUnit(16, 32, 2), ShuffleUnit(32, 32, 1), ShuffleUnit(32, 32, 1), ShuffleUnit(32, 64, 2),
        ShuffleUnit(64, 64, 1), conv_bn(64, 48, 1),
    ]  # fmt: skip
    return Classifier(conv_bn(3, 16, 3, 2), stages, 48)


class LightConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.depth = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.depth(self.point(x))))


class OmniScale(nn.Module):
    """OSNet: branches of several depths, gated by one shared gate, summed, residual."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        mid = outputs // 4
        self.reduce = conv_bn(inputs, mid, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(*(LightConv(mid, mid) for _ in range(depth))) for depth in (1, 2, 3)
        )
        self.gate = SqueezeExcitation(mid, 4)
        self.expand = conv_bn(mid, outputs, 1, act="none")
        self.shortcut = conv_bn(inputs, outputs, 1, act="none") if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x)
        total = sum((self.gate(branch(y)) for branch in self.branches), torch.zeros(()))
        return F.relu(self.expand(total) + self.shortcut(x))


def osnet() -> nn.Module:
    stem = nn.Sequential(conv_bn(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1))
    return Classifier(stem, [OmniScale(16, 64), OmniScale(64, 64), nn.AvgPool2d(2), OmniScale(64, 96)], 96)


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: zoo.resnet_basic((2, 2, 2, 2), 8),
    "resnet34": lambda: zoo.resnet_basic((3, 4, 6, 3), 8),
    "resnet50": lambda: zoo.resnet_bottleneck(layers=(3, 4, 6, 3), width=8),
    "resnet50_ibn": lambda: zoo.resnet_bottleneck(ibn=True),
    "resnext": lambda: zoo.resnet_bottleneck(groups=4, expansion=2),
    "mobilenet_v2": mobilenet,
    "mobilenet_v3": lambda: mobilenet("hardswish", nn.Hardsigmoid),
    "vgg_bn": Vgg,
    "densenet": densenet,
    "googlenet": googlenet,
    "shufflenet_v2": shufflenet,
    "efficientnet": lambda: mobilenet("silu", nn.Sigmoid),
    "regnet_x": lambda: zoo.resnet_bottleneck(groups=4, expansion=1),
    "regnet_y": lambda: zoo.resnet_bottleneck(groups=4, expansion=1, se=8),
    "convnext": zoo.convnext,
    "osnet": osnet,
}
