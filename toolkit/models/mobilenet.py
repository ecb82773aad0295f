"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), with torchvision's parameter names."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from toolkit.models.backbone import Backbone, check_arguments, initialize, scaled

# expansion, channels, repeats, stride (table 2 of the paper)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
LAST_REDUCING_STAGE = 5


class ConvNormRelu6(nn.Sequential):
    """Convolution, BatchNorm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """Expand, depthwise, project without activation; shortcut where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [ConvNormRelu6(inputs, hidden, kernel=1)]
        self.conv = nn.Sequential(
            *expand,
            ConvNormRelu6(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        return cast(Tensor, x + out if self.shortcut else out)


class MobileNetV2(Backbone):
    """Blocks are ``features.0`` to ``features.18``; ``features.1`` to ``features.17`` end without activation,
    so their features are signed.

    Args:
        last_stride: stride of the last reducing stage.
        width: multiplies all channels (the head's only when above 1, as in the paper).
    """

    def __init__(self, *, last_stride: int = 2, width: float = 1.0) -> None:
        check_arguments(last_stride, width)
        inputs = scaled(STEM_CHANNELS, width)
        blocks: list[nn.Module] = [ConvNormRelu6(3, inputs, stride=2)]
        strides, reduction = [2], 2
        for stage, (expansion, channels, repeats, stage_stride) in enumerate(STAGES):
            stride = last_stride if stage == LAST_REDUCING_STAGE else stage_stride
            reduction *= stride
            outputs = scaled(channels, width)
            for position in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, stride if position == 0 else 1, expansion))
                strides.append(reduction)
                inputs = outputs
        blocks.append(ConvNormRelu6(inputs, scaled(HEAD_CHANNELS, max(1.0, width)), kernel=1))
        strides.append(reduction)
        super().__init__([f"features.{index}" for index in range(len(blocks))], strides)
        self.features = nn.Sequential(*blocks)
        initialize(self)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        return cast(Tensor, self.features[index](x))

    def block_modules(self, index: int) -> tuple[nn.Module, ...]:
        return (self.features[index],)

    def nonnegative_at(self, block: str | int) -> bool:
        return self.index_of(block) in (0, len(self.block_names) - 1)
