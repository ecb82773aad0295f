"""MSE, PSNR and SSIM between pictures, one value a picture, with a data range the caller must name.

The range is never read from a picture: taking it from the reconstruction, or 255 for pictures in [0, 1], shifts
PSNR by up to 48.13 dB (20 log10 255) and makes SSIM meaningless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from toolkit.errors import AttackError
from toolkit.privacy.codes import Pictures

WINDOW = 11
SIGMA = 1.5
CHUNK = 32
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """One value a picture: ``mse`` and ``ssim`` on pictures in [0, 1], ``psnr`` in dB (infinite if identical)."""

    mse: Values
    psnr: Values
    ssim: Values


def unit(pictures: Pictures) -> Values:
    """uint8 pictures as float64 in [0, 1].

    Raises:
        AttackError: the pictures are not uint8, so their range is unknown.
    """
    if pictures.dtype != np.uint8:
        raise AttackError(f"pictures to compare are uint8, not {pictures.dtype}")
    return pictures.astype(np.float64) / 255.0


def mse(a: Values, b: Values, *, data_range: float) -> Values:
    """Mean squared error of each picture, ``(N, H, W, 3)`` in [0, data_range], scaled to a range of 1."""
    a, b = _checked(a, b, data_range)
    difference: Values = ((a - b) ** 2).reshape(len(a), -1).mean(axis=1)
    return difference


def psnr(a: Values, b: Values, *, data_range: float) -> Values:
    """``10 log10(data_range^2 / MSE)`` of each picture in dB; infinite for identical pictures."""
    return psnr_of_mse(mse(a, b, data_range=data_range))


def psnr_of_mse(error: Values) -> Values:
    """PSNR in dB of mean squared errors on a range of 1."""
    with np.errstate(divide="ignore"):
        result: Values = -10.0 * np.log10(np.asarray(error, dtype=np.float64))
    return result


def ssim(a: Values, b: Values, *, data_range: float) -> Values:
    """Structural similarity of each picture (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5, K 0.01 and 0.03).

    Mean over the three channels and all positions; borders are reflected, as torchmetrics does.

    Raises:
        AttackError: a side is shorter than the window.
    """
    a, b = _checked(a, b, data_range)
    out = np.empty(len(a))
    for start in range(0, len(a), CHUNK):
        x, y = (torch.from_numpy(v[start : start + CHUNK]).permute(0, 3, 1, 2) for v in (a, b))
        out[start : start + CHUNK] = ssim_tensor(x, y, data_range=1.0).numpy()
    return out


def ssim_tensor(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    """Differentiable SSIM ``(N,)`` of ``(N, C, H, W)`` tensors; computed in the tensors' own precision."""
    return ssim_map(x, y, data_range=data_range).flatten(1).mean(1)


def ssim_map(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    """SSIM of every channel and position ``(N, C, H, W)``; see :func:`ssim`."""
    luminance, structure = ssim_parts(x, y, data_range=data_range)
    return luminance * structure


def ssim_parts(x: Tensor, y: Tensor, *, data_range: float) -> tuple[Tensor, Tensor]:
    """Its two factors, luminance and contrast with structure, ``(N, C, H, W)`` each."""
    height, width = x.shape[-2:]
    if min(height, width) < WINDOW:
        raise AttackError(f"SSIM needs pictures of at least {WINDOW} x {WINDOW} pixels, not {height} x {width}")
    rows, columns = (_window(n, x.dtype, x.device) for n in (height, width))
    stacked = torch.stack((x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = rows @ stacked @ columns.T
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    squares = mean_x * mean_x + mean_y * mean_y
    product = mean_x * mean_y
    luminance = (2 * product + c1) / (squares + c1)
    structure = (2 * (xy - product) + c2) / ((xx + yy - squares).clamp_min(0) + c2)
    return luminance, structure


@lru_cache(maxsize=16)
def _window(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Gaussian blur with reflected borders as a banded matrix ``(size, size)``."""
    taps = torch.exp(-0.5 * ((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) / SIGMA) ** 2)
    taps = taps / taps.sum()
    places = torch.arange(size)[:, None] + torch.arange(WINDOW)[None, :] - WINDOW // 2
    places = places.abs()
    places = torch.where(places >= size, 2 * (size - 1) - places, places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, places, taps.expand(size, WINDOW).contiguous())
    return matrix.to(device=device, dtype=dtype)


def compare(reconstructed: Pictures, original: Pictures) -> Similarity:
    """All three metrics of uint8 pictures ``(N, H, W, 3)``, a few pictures in memory at a time."""
    if reconstructed.shape != original.shape:
        raise AttackError(f"pictures of shape {reconstructed.shape} do not compare with {original.shape}")
    errors, structures = np.empty(len(original)), np.empty(len(original))
    for start in range(0, len(original), CHUNK):
        a, b = unit(reconstructed[start : start + CHUNK]), unit(original[start : start + CHUNK])
        errors[start : start + CHUNK] = mse(a, b, data_range=1.0)
        structures[start : start + CHUNK] = ssim(a, b, data_range=1.0)
    return Similarity(errors, psnr_of_mse(errors), structures)


def worst_picture(values: Values, leak_is_high: bool) -> tuple[int, float]:
    """The 95th-percentile picture: its position and value, counted towards more leakage.

    For SSIM and PSNR a leak is a high value, for MSE a low one.
    """
    order = np.argsort(values if leak_is_high else -values, kind="stable")
    position = int(order[min(len(order) - 1, math.ceil(0.95 * len(order)) - 1)])
    return position, float(values[position])


def _checked(a: Values, b: Values, data_range: float) -> tuple[Values, Values]:
    if not (math.isfinite(data_range) and data_range > 0):
        raise AttackError(f"data_range is the width of the pictures' scale (1 or 255), not {data_range}")
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 4:
        raise AttackError(f"pictures (N, H, W, C) of one shape are compared, not {a.shape} with {b.shape}")
    for name, values in (("first", a), ("second", b)):
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if not (low >= 0 and high <= data_range):
            raise AttackError(
                f"the {name} pictures span [{low:g}, {high:g}], outside [0, {data_range:g}]: clip them"
            )
    return a / data_range, b / data_range
