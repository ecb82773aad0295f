"""The base of every backbone: a chain of named blocks that can be cut behind any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from toolkit.errors import ModelError


class Backbone(nn.Module, ABC):
    """A chain of blocks; parameter names are torchvision's, so its public weights load.

    A block's output is taken after its addition and activation, and is the only tensor that the next block
    reads. A cut is the name of a block, or of a stage: an alias of the stage's last block.

    Args:
        block_names: names in order.
        strides: reduction from the picture to each block's output, e.g. 4 behind ResNet's stem.
        aliases: further names, mapped to names of blocks.
    """

    def __init__(
        self, block_names: Sequence[str], strides: Sequence[int], aliases: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        if len(block_names) != len(strides) or len(set(block_names)) != len(block_names):
            raise ValueError("a backbone needs one stride per block and unique names")
        self.block_names: tuple[str, ...] = tuple(block_names)
        self.aliases: dict[str, str] = dict(aliases or {})
        self._strides = tuple(strides)

    @abstractmethod
    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Output of block ``index`` for the previous block's output (the picture for block 0)."""

    @abstractmethod
    def block_modules(self, index: int) -> tuple[nn.Module, ...]:
        """The modules that make up block ``index``, in order of use."""

    @abstractmethod
    def nonnegative_at(self, block: str | int) -> bool:
        """Whether the block ends in an activation that is never negative (else its wire codes are signed)."""

    @property
    def cut_points(self) -> tuple[str, ...]:
        """Every name that a cut may have: aliases first, then blocks."""
        return (*self.aliases, *self.block_names)

    def index_of(self, block: str | int) -> int:
        """Position of a block, by name, alias or position.

        Raises:
            ModelError: there is no such block; the message lists the cut points.
        """
        if isinstance(block, int):
            if 0 <= block < len(self.block_names):
                return block
        else:
            name = self.aliases.get(block, block)
            if name in self.block_names:
                return self.block_names.index(name)
        raise ModelError(f"no block {block!r} in this backbone; cut points: {', '.join(self.cut_points)}")

    def stride_at(self, block: str | int) -> int:
        """Reduction from the picture's side to the side of the block's output."""
        return self._strides[self.index_of(block)]

    def channels_at(self, block: str | int) -> int:
        """Channels of the block's output, read from the modules: also right for a slimmed backbone.

        Raises:
            ModelError: no such block.
        """
        for index in range(self.index_of(block), -1, -1):
            channels = self._output_channels(index)
            if channels is not None:
                return channels
        raise ModelError("the backbone has no convolution left; rebuild it from its plan")

    def _output_channels(self, index: int) -> int | None:
        """Output channels of a block's last convolution on the main path; None for a block without one."""
        channels = None
        for block in self.block_modules(index):
            for name, module in block.named_modules():
                if isinstance(module, nn.Conv2d) and "downsample" not in name:
                    channels = module.out_channels
        return channels

    @property
    def out_channels(self) -> int:
        """Channels of the last block's output."""
        return self.channels_at(len(self.block_names) - 1)

    def forward_range(self, x: Tensor, first: int, last: int) -> Tensor:
        """Blocks ``first`` to ``last``, both included; ``x`` unchanged when ``first > last``."""
        for index in range(first, last + 1):
            x = self.run_block(index, x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Feature map ``(N, C, h, w)`` of normalized pictures ``(N, 3, H, W)``; no pooling, no classifier."""
        return self.forward_range(x, 0, len(self.block_names) - 1)


def scaled(channels: int, width: float) -> int:
    """Channels times a width multiplier, rounded to a multiple of 8 and at least 8.

    Not more than a tenth is lost by rounding (MobileNetV2's reference rule).
    """
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def check_arguments(last_stride: int, width: float) -> None:
    """Refuse arguments that no backbone has.

    Raises:
        ModelError: last_stride is not 1 or 2, or width is not in (0, 4].
    """
    if last_stride not in (1, 2):
        raise ModelError(f"last_stride is 1 or 2, not {last_stride}")
    if not 0 < width <= 4:
        raise ModelError(f"width multiplies the channels and lies in (0, 4], not {width}")


def initialize(backbone: nn.Module) -> None:
    """Kaiming normal convolutions (fan-out; He et al. 2015), norms at scale 1 and shift 0, random order fixed
    by the order of the modules."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
