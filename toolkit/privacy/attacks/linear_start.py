"""A ridge regression from codes to pixels as the point from which a decoder starts to learn.

Colours and coarse shapes are nearly linear in the codes of an early cut. A decoder that adds to the linear
reconstruction has them from its first step, where one that starts from the mean picture first paints all vehicles
in the same colours. Only one value a code position is kept: the finer pixels of the regression are mostly noise,
which the decoder would have to take away again.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
from toolkit.privacy.pairs import Pairs

SAMPLES = 40_000
FEATURES = 1200
PENALTY = 1e-2
KEPT = 1  # values of the linear reconstruction that are kept, a code position and axis
LARGEST = 8_000_000  # weights; more than that is not a small start
VALIDATION_PAIRS = 64


class LinearStart(nn.Module):
    """Features ``(N, C, h, w)`` to pictures ``(N, 3, H, W)``, not clipped; fixed after it was fitted.

    Args:
        train: the attacker's pairs.
        seed: of the patches that are used.
    """

    mean_code: Tensor
    mean_picture: Tensor
    kernel: Tensor

    def __init__(self, train: Pairs, seed: int) -> None:
        super().__init__()
        ridge = Ridge(
            RidgeSettings(
                design="patch", seed=seed, samples=SAMPLES, features=FEATURES, penalties=(PENALTY,), label="start"
            )
        )
        known = train.unchanged()
        ridge.fit(known, known.head(VALIDATION_PAIRS))
        found = ridge.patch_map()
        self.reach, self.cell, self.picture_size = found.reach, found.cell, train.picture_size
        side = 2 * found.reach + 1
        kernel = found.weights.T.reshape(-1, train.code_shape[0], side, side)
        self.register_buffer("kernel", torch.from_numpy(np.ascontiguousarray(kernel)))
        self.register_buffer("mean_code", torch.from_numpy(found.mean_code)[None])
        self.register_buffer("mean_picture", torch.from_numpy(found.mean_picture).permute(2, 0, 1)[None])

    @staticmethod
    def fits(train: Pairs) -> bool:
        """Whether the regression is small beside a decoder."""
        channels, height, width = train.code_shape
        (rows, columns), cells = train.picture_size, height * width
        return channels * 9 * 3 * -(-rows * columns // cells) <= LARGEST

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        (a, b), count = self.cell, len(features)
        flat = F.conv2d(features.float() - self.mean_code, self.kernel, padding=self.reach)
        h, w = flat.shape[-2:]
        pictures = flat.view(count, a, b, 3, h, w).permute(0, 3, 4, 1, 5, 2).reshape(count, 3, h * a, w * b)
        if max(a, b) > KEPT:
            pictures = F.adaptive_avg_pool2d(pictures, (min(h * a, h * KEPT), min(w * b, w * KEPT)))
        pictures = _resize(pictures, (h * a, w * b)) + self.mean_picture
        return _resize(pictures, self.picture_size)


def _resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(pictures.shape[-2:]) == size:
        return pictures
    return F.interpolate(pictures, size, mode="bilinear", align_corners=False)
