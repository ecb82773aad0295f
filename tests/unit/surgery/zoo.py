"""Small networks of every graph pattern, defined here so that nothing has to be downloaded."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: str = "relu"
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    activations = {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "hardswish": nn.Hardswish,
        "silu": nn.SiLU,
        "prelu": nn.PReLU,
    }
    if act != "none":
        layers.append(nn.PReLU(outputs) if act == "prelu" else activations[act](inplace=True))
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, hidden: int, gate: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class InstanceBatch(nn.Module):
    """IBN-a with the attribute that splits."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.instance = nn.InstanceNorm2d(self.half, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.half)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.instance(x[:, : self.half]), self.batch(x[:, self.half :])], 1)


class Basic(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = act()
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        out += x if self.shortcut is None else self.shortcut(x)
        return self.act(out)


class Bottleneck(nn.Module):
    """ResNet-50, ResNeXt (groups), RegNet-Y (groups and SE), ResNet-50-IBN-a."""

    def __init__(
        self, inputs: int, mid: int, outputs: int, stride: int, groups: int = 1, se: int = 0, ibn: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, mid, 1, bias=False)
        self.bn1: nn.Module = InstanceBatch(mid) if ibn else nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.se: nn.Module = SqueezeExcitation(mid, se) if se else nn.Identity()
        self.conv3 = nn.Conv2d(mid, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.se(F.relu(self.bn2(self.conv2(out))))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class Classifier(nn.Module):
    """Stem, stages, pooling and a linear layer."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], channels: int, classes: int = 7) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.stages(self.stem(x)), 1), 1))


def resnet_basic(layers: tuple[int, ...] = (2, 2), width: int = 16, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    stages: list[nn.Module] = []
    inputs = width
    for stage, count in enumerate(layers):
        outputs = width * 2**stage
        blocks = [
            Basic(inputs if i == 0 else outputs, outputs, 2 if i == 0 and stage else 1, act) for i in range(count)
        ]
        stages.append(nn.Sequential(*blocks))
        inputs = outputs
    return Classifier(conv_bn(3, width), stages, inputs)


def resnet_bottleneck(
    groups: int = 1,
    se: int = 0,
    ibn: bool = False,
    layers: tuple[int, ...] = (2, 2),
    expansion: int = 4,
    width: int = 16,
) -> nn.Module:
    stages: list[nn.Module] = []
    inputs = 16
    for stage, count in enumerate(layers):
        mid = width * 2**stage
        blocks = []
        for i in range(count):
            blocks.append(
                Bottleneck(inputs, mid, mid * expansion, 2 if i == 0 else 1, groups, se, ibn and stage == 0)
            )
            inputs = mid * expansion
        stages.append(nn.Sequential(*blocks))
    return Classifier(conv_bn(3, 16), stages, inputs)


class ConvNextBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pw1 = nn.Linear(channels, 4 * channels)
        self.pw2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.dw(x).permute(0, 2, 3, 1))
        out = self.gamma * self.pw2(F.gelu(self.pw1(out)))
        return x + out.permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), LayerNorm2d(16))
    down = nn.Sequential(LayerNorm2d(16), nn.Conv2d(16, 32, 2, 2))
    return Classifier(stem, [ConvNextBlock(16), ConvNextBlock(16), down, ConvNextBlock(32)], 32)
