"""ResNet-18/34/50 (He et al. 2016, arXiv:1512.03385) and ResNet-50-IBN-a (Pan et al. 2018, arXiv:1807.09441)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from toolkit.models.backbone import Backbone, check_arguments, initialize, scaled

LAYERS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
STAGE_CHANNELS = (64, 128, 256, 512)


class InstanceBatchNorm(nn.Module):
    """IBN-a: the first half of the channels through InstanceNorm, the rest through BatchNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.IN = nn.InstanceNorm2d(half, affine=True)
        self.BN = nn.BatchNorm2d(channels - half)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.split(x, [self.IN.num_features, self.BN.num_features], dim=1)
        return torch.cat((self.IN(first.contiguous()), self.BN(second.contiguous())), dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, ibn: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1: nn.Module = InstanceBatchNorm(planes) if ibn else nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride, as in torchvision) and 1x1 convolutions, and the shortcut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, ibn: bool = False) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1: nn.Module = InstanceBatchNorm(planes) if ibn else nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(Backbone):
    """A residual network; blocks are ``stem`` (with the max-pooling), ``layer1.0``, ... ``layer4.N``.

    Args:
        layers: blocks per stage.
        bottleneck: three-convolution blocks.
        last_stride: stride of layer4; 1 keeps the map twice as fine (Luo et al. 2019).
        width: multiplies all channels; 1 is the published network.
        zero_init_residual: begin with every residual branch at zero (Goyal et al. 2017).
        ibn: InstanceBatchNorm in layer1 to layer3.
    """

    def __init__(
        self,
        layers: tuple[int, ...],
        bottleneck: bool,
        *,
        last_stride: int = 2,
        width: float = 1.0,
        zero_init_residual: bool = False,
        ibn: bool = False,
    ) -> None:
        check_arguments(last_stride, width)
        stage_strides = (1, 2, 2, last_stride)
        names, strides, reduction = ["stem"], [4], 4
        self_where: list[tuple[str, int]] = [("stem", 0)]
        for stage, (count, stride) in enumerate(zip(layers, stage_strides, strict=True), start=1):
            reduction *= stride
            for position in range(count):
                names.append(f"layer{stage}.{position}")
                strides.append(reduction)
                self_where.append((f"layer{stage}", position))
        aliases = {f"layer{stage}": f"layer{stage}.{count - 1}" for stage, count in enumerate(layers, start=1)}
        super().__init__(names, strides, aliases)
        self._where = tuple(self_where)
        block = Bottleneck if bottleneck else BasicBlock
        inputs = scaled(STAGE_CHANNELS[0], width)
        self.conv1 = nn.Conv2d(3, inputs, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, (count, stride) in enumerate(zip(layers, stage_strides, strict=True)):
            planes = scaled(STAGE_CHANNELS[stage], width)
            blocks = []
            for position in range(count):
                blocks.append(block(inputs, planes, stride if position == 0 else 1, ibn and stage < 3))
                inputs = planes * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        initialize(self)
        if zero_init_residual:
            self._zero_residuals()

    def _zero_residuals(self) -> None:
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        if index == 0:
            return cast(Tensor, self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return cast(Tensor, self.block_modules(index)[0](x))

    def block_modules(self, index: int) -> tuple[nn.Module, ...]:
        if index == 0:
            return (self.conv1, self.bn1, self.relu, self.maxpool)
        stage, position = self._where[index]
        return (cast(nn.Sequential, getattr(self, stage))[position],)

    def nonnegative_at(self, block: str | int) -> bool:
        self.index_of(block)
        return True


def resnet18(*, last_stride: int = 2, width: float = 1.0, zero_init_residual: bool = False) -> ResNet:
    """ResNet-18: 11.2 M parameters without its classifier."""
    return ResNet(
        LAYERS["resnet18"], False, last_stride=last_stride, width=width, zero_init_residual=zero_init_residual
    )


def resnet34(*, last_stride: int = 2, width: float = 1.0, zero_init_residual: bool = False) -> ResNet:
    """ResNet-34: 21.3 M parameters without its classifier."""
    return ResNet(
        LAYERS["resnet34"], False, last_stride=last_stride, width=width, zero_init_residual=zero_init_residual
    )


def resnet50(*, last_stride: int = 2, width: float = 1.0, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50: 23.5 M parameters without its classifier."""
    return ResNet(
        LAYERS["resnet50"], True, last_stride=last_stride, width=width, zero_init_residual=zero_init_residual
    )


def resnet50_ibn_a(*, last_stride: int = 2, width: float = 1.0, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50 with InstanceBatchNorm behind the first convolution of each block of layer1 to layer3."""
    return ResNet(
        LAYERS["resnet50"],
        True,
        last_stride=last_stride,
        width=width,
        zero_init_residual=zero_init_residual,
        ibn=True,
    )
