"""What the slimming benchmark runs on: the backbones at full size, and small members of the other families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo import Bottleneck, Classifier, SqueezeExcitation, conv_bn
from tests.unit.surgery.zoo_families import FAMILIES
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
    **{f"{name} (small)": Network(make, 64, 32) for name, make in FAMILIES.items()},
}
