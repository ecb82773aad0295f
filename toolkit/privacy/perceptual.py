"""MS-SSIM where the pictures are large enough, and LPIPS from weights that the user has on disk."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from toolkit.errors import AttackError
from toolkit.privacy.codes import Pictures
from toolkit.privacy.similarity import CHUNK, WINDOW, Values, ssim_parts, unit

SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003, table 1
BORDER = WINDOW // 2
LEAST_SIDE = (WINDOW - 1) * 2 ** (len(SCALES) - 1) + 1
ALEXNET = ((0, 3, 64, 11, 4, 2), (3, 64, 192, 5, 1, 2), (6, 192, 384, 3, 1, 1), (8, 384, 256, 3, 1, 1))
ALEXNET_LAYERS = (
    *ALEXNET,
    (10, 256, 256, 3, 1, 1),
)  # place in torchvision's AlexNet, in, out, kernel, stride, padding
POOLED_BEFORE = (3, 6)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in [-1, 1]; Zhang et al. 2018


def fits_ms_ssim(height: int, width: int) -> bool:
    """Five scales need at least 161 pixels a side; below that MS-SSIM is not defined and is left out."""
    return min(height, width) >= LEAST_SIDE


def ms_ssim(a: Pictures, b: Pictures) -> Values:
    """Multi-scale SSIM of each picture ``(N, H, W, 3)`` uint8 (Wang, Simoncelli, Bovik 2003), negative parts cut.

    Raises:
        AttackError: a side is below 161 pixels.
    """
    if a.shape != b.shape:
        raise AttackError(f"pictures of shape {a.shape} do not compare with {b.shape}")
    if not fits_ms_ssim(*a.shape[1:3]):
        raise AttackError(f"MS-SSIM needs sides of at least {LEAST_SIDE} pixels, not {a.shape[1]} x {a.shape[2]}")
    out = np.empty(len(a))
    for start in range(0, len(a), CHUNK):
        x, y = (torch.from_numpy(unit(v[start : start + CHUNK])).permute(0, 3, 1, 2) for v in (a, b))
        value = torch.ones(len(x), dtype=x.dtype)
        for place, weight in enumerate(SCALES):
            luminance, structure = ssim_parts(x, y, data_range=1.0)
            inner = structure[..., BORDER:-BORDER, BORDER:-BORDER]  # as in torchmetrics
            part = inner if place < len(SCALES) - 1 else luminance * structure
            value = value * part.flatten(1).mean(1).clamp_min(0) ** weight
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        out[start : start + CHUNK] = value.numpy()
    return out


class Lpips(nn.Module):
    """Learned perceptual distance (Zhang et al., CVPR 2018) on AlexNet features.

    The weights are never downloaded: a safetensors file with torchvision's names for AlexNet's convolutions
    (``features.0.weight`` ...) and the linear heads ``lin0.model.1.weight`` ... ``lin4.model.1.weight``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {str(at): nn.Conv2d(a, b, k, stride=s, padding=p) for at, a, b, k, s, p in ALEXNET_LAYERS}
        )
        for place, (_, _, channels, *_) in enumerate(ALEXNET_LAYERS):
            self.register_buffer(f"head{place}", torch.zeros(1, channels, 1, 1))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    @classmethod
    def load(cls, path: Path) -> Lpips:
        """Read local weights.

        Raises:
            AttackError: no such file, or a tensor is missing or has another shape.
        """
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise AttackError(f"LPIPS weights {path} cannot be read ({error}); give a safetensors file") from error
        model = cls()
        try:
            for place, (at, *_) in enumerate(ALEXNET_LAYERS):
                conv = model.features[str(at)]
                conv.load_state_dict({name: tensors[f"features.{at}.{name}"] for name in ("weight", "bias")})
                head = getattr(model, f"head{place}")
                head.copy_(tensors[f"lin{place}.model.1.weight"].reshape(head.shape))
        except (KeyError, RuntimeError) as error:
            raise AttackError(f"LPIPS weights {path} do not fit AlexNet: {error}") from error
        return model.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance ``(N,)`` of pictures ``(N, 3, H, W)`` in [0, 1]."""
        x, y = (((v * 2 - 1) - self.shift) / self.scale for v in (a, b))
        total = torch.zeros(len(a), dtype=x.dtype)
        for place, (at, *_) in enumerate(ALEXNET_LAYERS):
            if at in POOLED_BEFORE:
                x, y = (F.max_pool2d(v, 3, 2) for v in (x, y))
            x, y = (F.relu(self.features[str(at)](v)) for v in (x, y))
            gap = (F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)).square()
            total = total + (gap * getattr(self, f"head{place}")).sum(1).mean((1, 2))
        return total

    def distance(self, a: Pictures, b: Pictures) -> Values:
        """The same for uint8 pictures ``(N, H, W, 3)``; 0 for identical ones, higher is less alike.

        Raises:
            AttackError: a distance is not finite.
        """
        out = np.empty(len(a))
        for start in range(0, len(a), CHUNK):
            x, y = (torch.from_numpy(unit(v[start : start + CHUNK])).permute(0, 3, 1, 2).float() for v in (a, b))
            with torch.no_grad():
                out[start : start + CHUNK] = self(x, y).numpy()
        if not math.isfinite(float(out.sum())):
            raise AttackError("LPIPS is not finite; its weights are damaged")
        return out
