"""The attackers' decoders: those of ``toolkit.models.decoders``, and larger ones that no training adversary uses.

``subpixel_n<N>c<C>``: N residual blocks of C channels at no more than an eighth of the picture, then sub-pixel
upsampling with a residual block a stage, where the codes enter again at their own resolution. Most of the work
is done at low resolution, which makes it the cheapest strong decoder on a CPU; it also takes an embedding (1x1).
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import AttackError, ModelError
from toolkit.models.decoders import build_decoder, parameter_count

NARROWEST = 24
MAX_PARAMETERS = 60_000_000
_SUBPIXEL = re.compile(r"subpixel_n([1-9]\d?)c([1-9]\d{0,3})")


def build_attack_decoder(
    name: str, channels: int, height: int, width: int, picture_size: tuple[int, int]
) -> nn.Module:
    """A decoder from ``(N, channels, height, width)`` to logits ``(N, 3, *picture_size)`` (no sigmoid).

    Raises:
        AttackError: no decoder of that name, or it would be absurdly large.
    """
    with torch.device("meta"):
        size = parameter_count(_build(name, channels, height, width, picture_size))
    if size > MAX_PARAMETERS:
        raise AttackError(f"decoder {name} would have {size:,} parameters on these codes")
    return _build(name, channels, height, width, picture_size)


def _build(name: str, channels: int, height: int, width: int, picture_size: tuple[int, int]) -> nn.Module:
    if match := _SUBPIXEL.fullmatch(name):
        blocks, trunk = int(match[1]), int(match[2])
        return SubpixelDecoder(channels, height, width, picture_size, blocks, trunk)
    try:
        return Published(name, channels, height, width, picture_size)
    except ModelError as error:
        raise AttackError(f"{error}; or subpixel_n<blocks>c<width>") from error


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True)))
        return F.relu(x + y, inplace=True)


class Spread(nn.Module):
    """Codes of 1x1 to 2x2 positions (an embedding) become a small map through a linear layer."""

    def __init__(self, channels: int, height: int, width: int, out: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.out, self.side = out, side
        self.linear = nn.Linear(channels * height * width, out * side[0] * side[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).view(len(x), self.out, *self.side)


class SubpixelDecoder(nn.Module):
    """See the module's description. The trunk runs at no more than an eighth of the picture."""

    def __init__(
        self, channels: int, height: int, width: int, picture_size: tuple[int, int], blocks: int, trunk: int
    ) -> None:
        super().__init__()
        self.picture_size = picture_size
        self.fold = _fold(height, width, picture_size)
        h, w = height // self.fold, width // self.fold
        if h * w <= 4:
            h, w = (math.ceil(n / 16) for n in picture_size)
            self.stem: nn.Module = nn.Sequential(
                Spread(channels * self.fold**2, height // self.fold, width // self.fold, trunk, (h, w)),
                nn.BatchNorm2d(trunk),
                nn.ReLU(inplace=True),
            )
        else:
            self.stem = nn.Sequential(
                nn.Conv2d(channels * self.fold**2, trunk, 3, padding=1, bias=False),
                nn.BatchNorm2d(trunk),
                nn.ReLU(inplace=True),
            )
        self.trunk = nn.Sequential(*(ResidualBlock(trunk) for _ in range(blocks)))
        stages = max(0, math.ceil(math.log2(max(picture_size[0] / h, picture_size[1] / w))))
        self.stages = nn.ModuleList()
        before, factor = trunk, self.fold
        for _ in range(max(0, stages - 1)):
            after = max(NARROWEST, before // 2)
            factor //= 2
            self.stages.append(UpStage(before, after, channels * factor**2 if factor >= 1 else 0, factor))
            before = after
        up = 2 if stages else 1
        self.last = nn.Sequential(_zero_conv(before, 3 * up * up), nn.PixelShuffle(up))

    def forward(self, codes: Tensor) -> Tensor:
        x = self.trunk(self.stem(F.pixel_unshuffle(codes, self.fold) if self.fold > 1 else codes))
        for stage in self.stages:
            x = stage(x, codes)
        return _fit(self.last(x), self.picture_size)


class UpStage(nn.Module):
    """Doubles the resolution; the codes enter again while they are at least as fine as the stage."""

    def __init__(self, before: int, after: int, code_channels: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.up = nn.Sequential(nn.Conv2d(before, after * 4, 1), nn.PixelShuffle(2))
        self.again = nn.Conv2d(code_channels, after, 3, padding=1) if code_channels else None
        self.norm = nn.BatchNorm2d(after)
        self.block = ResidualBlock(after)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        x = self.up(x)
        if self.again is not None:
            fine = F.pixel_unshuffle(codes, self.fold) if self.fold > 1 else codes
            x = x + _fit(self.again(fine), (x.shape[-2], x.shape[-1]))
        return self.block(F.relu(self.norm(x), inplace=True))


class Published(nn.Module):
    """A decoder of ``toolkit.models.decoders`` without its own standardization and sigmoid: logits out."""

    def __init__(self, name: str, channels: int, height: int, width: int, picture_size: tuple[int, int]) -> None:
        super().__init__()
        self.picture_size = picture_size
        self.body = build_decoder(name, channels, height, width, picture_size).body

    def forward(self, codes: Tensor) -> Tensor:
        return _fit(self.body(codes), self.picture_size)


def _fold(height: int, width: int, picture_size: tuple[int, int]) -> int:
    """How often the codes are folded into channels so that the trunk runs at an eighth of the picture."""
    fold = 1
    while (
        height % (2 * fold) == 0
        and width % (2 * fold) == 0
        and height // fold > max(8, picture_size[0] // 8)
        and width // fold > max(8, picture_size[1] // 8)
    ):
        fold *= 2
    return fold


def _zero_conv(before: int, after: int) -> nn.Conv2d:
    """A 3x3 convolution that starts at zero: training starts from the mean picture."""
    conv = nn.Conv2d(before, after, 3, padding=1)
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    if (x.shape[-2], x.shape[-1]) == size:
        return x
    return torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
