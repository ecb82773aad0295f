"""Inversion decoders by name: from a feature ``(N, C, h, w)`` back to a picture ``(N, 3, H, W)`` in [0, 1].

The defender's training adversary and the attackers of the privacy suite take their networks from here, so that
one can be told to be larger than the other. Every decoder begins by standardizing its input per channel with
running statistics, so rescaling a feature hides nothing from it.

Names:
    ``adversary``             about 0.3 M parameters, cheap at high resolution; what the defence trains against
    ``he_shallow``            transposed convolutions in the manner of He, Zhang, Lee, ACSAC 2019, black-box attack
    ``trunk``, ``trunk_c<K>`` nearest-neighbour up-sampling, K channels (256), after Hoefler et al. 2026, App. A.4
    ``residual_n<N>c<C>``     N residual blocks of C channels, transposed convolutions, after CEM (CVPR 2025);
                              the paper's attacker is ``residual_n8c64``
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import ModelError

ADVERSARY_WIDTH = 96
_RESIDUAL = re.compile(r"residual_n([1-9]\d?)c([1-9]\d{0,3})")
_TRUNK = re.compile(r"trunk_c([1-9]\d{0,3})")


class Standardize(nn.Module):
    """Per-channel standardization with running statistics that carry no gradient.

    In training mode every batch moves the statistics (the first one sets them); pictures of a batch do not
    influence one another's output through it, which batch normalization would do.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, channels: int, momentum: float = 0.05, floor: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.floor = floor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, feature: Tensor) -> None:
        """Move the statistics towards those of ``feature`` (N, C, h, w)."""
        values = feature.detach().float()
        mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
        weight = max(self.momentum, 1.0 / (1 + int(self.batches)))
        self.mean.lerp_(mean, weight)
        self.variance.lerp_(variance, weight)
        self.batches += 1

    def forward(self, feature: Tensor) -> Tensor:
        if self.training:
            self.observe(feature)
        scale = self.variance.clamp(min=self.floor).rsqrt().view(1, -1, 1, 1)
        return (feature - self.mean.view(1, -1, 1, 1)) * scale


class Residual(nn.Module):
    """Two 3x3 convolutions with normalization and a skip (1x1 where the width changes)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        same = channels_in == channels_out
        self.skip: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        return F.relu(self.body(feature) + self.skip(feature))


class Decoder(nn.Module):
    """Standardize -> body -> exact picture size -> sigmoid."""

    def __init__(self, name: str, body: nn.Module, channels: int, picture_size: tuple[int, int]) -> None:
        super().__init__()
        self.name = name
        self.picture_size = picture_size
        self.channels = channels
        self.standardize = Standardize(channels)
        self.body = body

    def forward(self, feature: Tensor) -> Tensor:
        """Reconstruct pictures ``(N, 3, H, W)`` in [0, 1], float32, from features ``(N, C, h, w)``.

        Raises:
            ModelError: the feature has another number of channels than the decoder was built for.
        """
        if feature.dim() != 4 or feature.shape[1] != self.channels:
            raise ModelError(
                f"decoder {self.name} takes (N, {self.channels}, h, w), not {tuple(feature.shape)}; build it for "
                "the feature of this cut"
            )
        picture = self.body(self.standardize(feature))
        if tuple(picture.shape[-2:]) != self.picture_size:
            picture = F.interpolate(picture, size=self.picture_size, mode="bilinear", align_corners=False)
        return torch.sigmoid(picture.float())


Builder = Callable[[int, int], nn.Module]  # (channels, doublings) -> body


def _adversary(channels: int, doublings: int) -> nn.Module:
    """1x1 adapter, 3x3 convolutions at feature size, then thinner ones; the last doubling is a pixel shuffle."""
    width = ADVERSARY_WIDTH
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
    for _ in range(max(doublings - 1, 0)):
        thinner = max(width * 2 // 3, 32)
        layers += [nn.Upsample(scale_factor=2, mode="nearest")]
        layers += [nn.Conv2d(width, thinner, 3, padding=1), nn.ReLU(inplace=True)]
        width = thinner
    if doublings:
        return nn.Sequential(*layers, nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))


def _he_shallow(channels: int, doublings: int) -> nn.Module:
    """One transposed convolution per doubling (128 channels, 64 in the last), and one to three channels."""
    layers: list[nn.Module] = []
    width = channels
    for index in range(doublings):
        thinner = min(width, 64 if index == doublings - 1 else 128)
        up = nn.ConvTranspose2d(width, thinner, 3, stride=2, padding=1, output_padding=1)
        layers += [up, nn.ReLU(inplace=True)]
        width = thinner
    body = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 3, padding=1))
    for module in body:
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
    return body


def _trunk(width: int) -> Builder:
    def build(channels: int, doublings: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        stages = max(3, doublings)
        for index in range(stages):
            if index >= stages - doublings:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    return build


def _residual(blocks: int, width: int) -> Builder:
    def build(channels: int, doublings: int) -> nn.Module:
        layers: list[nn.Module] = [Residual(channels, width)]
        layers += [Residual(width, width) for _ in range(blocks)]
        for _ in range(doublings):
            up = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False)
            layers += [up, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, Residual(width, 16), nn.Conv2d(16, 3, 3, padding=1))

    return build


def _builder(name: str) -> Builder:
    fixed: dict[str, Builder] = {"adversary": _adversary, "he_shallow": _he_shallow, "trunk": _trunk(256)}
    if name in fixed:
        return fixed[name]
    if match := _TRUNK.fullmatch(name):
        return _trunk(int(match[1]))
    if match := _RESIDUAL.fullmatch(name):
        return _residual(int(match[1]), int(match[2]))
    raise ModelError(
        f"no decoder is called {name!r}; take adversary, he_shallow, trunk, trunk_c<width> or "
        "residual_n<blocks>c<width>, for example residual_n8c64"
    )


def check_decoder_name(name: str) -> str:
    """``name`` itself when :func:`build_decoder` knows it (for settings).

    Raises:
        ModelError: unknown name; the message lists what exists.
    """
    _builder(name)
    return name


def build_decoder(
    name: str, channels: int, height: int, width: int, picture_size: int | tuple[int, int]
) -> Decoder:
    """A decoder for features ``(N, channels, height, width)`` and pictures of ``picture_size`` (H, W or one side).

    The number of doublings is the least that reaches the picture in both directions; what is left over is a
    bilinear resize, so any pair of sizes works.

    Raises:
        ModelError: unknown name, or a size that is not positive.
    """
    size = (picture_size, picture_size) if isinstance(picture_size, int) else tuple(picture_size)
    if min(channels, height, width, *size) < 1:
        raise ModelError(
            f"a decoder needs positive sizes, not feature {channels}x{height}x{width}, picture {size}"
        )
    ratio = max(size[0] / height, size[1] / width)
    doublings = max(0, math.ceil(math.log2(ratio) - 1e-9))
    return Decoder(name, _builder(name)(channels, doublings), channels, (size[0], size[1]))


def parameter_count(module: nn.Module) -> int:
    """Trainable numbers in ``module``."""
    return sum(parameter.numel() for parameter in module.parameters())
