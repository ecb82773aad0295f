"""Deep image prior (Ulyanov et al., CVPR 2018): a picture as the output of an untrained convolutional network.

The network's shape favours natural pictures, so the search explains the codes without painting noise. Attacks on
split inference use it instead of a total variation (LM, in the evaluation of DISCO, Singh et al., CVPR 2021).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSEST = 8
SLOPE = 0.1


class DeepPriors(nn.Module):
    """One small generator a picture, all in grouped convolutions, so that pictures do not influence one another.

    Args:
        count: pictures.
        size: ``(H, W)``.
        width: channels of each generator.
        seed: of weights and of the fixed input noise. Every picture gets the same ones, so that a picture's result
            does not depend on its place in the batch.
    """

    noise: Tensor

    def __init__(self, count: int, size: tuple[int, int], width: int, seed: int) -> None:
        super().__init__()
        self.count, self.size = count, size
        stages = max(1, math.ceil(math.log2(max(size) / COARSEST)))
        coarse = [math.ceil(side / 2**stages) for side in size]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.register_buffer("noise", torch.randn(1, width, *coarse).repeat(1, count, 1, 1))
            self.layers = nn.ModuleList(_same_conv(count, width, width) for _ in range(2 * stages))
            self.last = _same_conv(count, width, 3)
        self.norms = nn.ModuleList(nn.GroupNorm(count * width, count * width) for _ in range(2 * stages))

    def forward(self) -> Tensor:
        """Pictures ``(count, 3, H, W)`` in (0, 1)."""
        x = self.noise
        for place, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if place % 2 == 0:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(norm(layer(x)), SLOPE)
        x = torch.sigmoid(self.last(x)).view(self.count, 3, *x.shape[-2:])
        return x[..., : self.size[0], : self.size[1]]


def _same_conv(count: int, before: int, after: int) -> nn.Conv2d:
    """A grouped 3x3 convolution whose groups start with the same weights."""
    one = nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")
    with torch.random.fork_rng(devices=[]):  # its own weights are thrown away and must not use up the seed
        many = nn.Conv2d(count * before, count * after, 3, padding=1, padding_mode="reflect", groups=count)
    with torch.no_grad():
        many.weight.copy_(one.weight.repeat(count, 1, 1, 1))
        assert many.bias is not None and one.bias is not None
        many.bias.copy_(one.bias.repeat(count))
    return many
