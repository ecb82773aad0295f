"""Training augmentation on whole batches. Never used for features, calibration or privacy measurements."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from toolkit.errors import DataError

LUMA = (0.299, 0.587, 0.114)


class AugmentSettings(BaseModel):
    """Strength of each augmentation; 0 switches one off. The defaults suit short trainings from random weights;
    they were chosen on identities held out of a training split, not on a test split.

    Attributes:
        flip: probability of a horizontal flip.
        shift: largest shift as a share of the picture's side; uncovered borders repeat the edge (pad and crop).
        zoom: each axis is magnified by a factor drawn from ``1 / (1 + z) .. 1 + z`` (nearest neighbour), as a
            detector's boxes are now tight, now loose.
        brightness, contrast, saturation: factor drawn from ``1 - s .. 1 + s`` for each picture.
        tint: likewise, for each of red, green and blue (white balance differs between cameras).
        erase: probability of random erasing (Zhong et al. 2020, arXiv:1708.04896).
        erase_area: smallest and largest share of the picture that is erased.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(default=0.5, ge=0, le=1)
    shift: float = Field(default=0.12, ge=0, le=0.5)
    zoom: float = Field(default=0.2, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.15, ge=0, lt=1)
    saturation: float = Field(default=0.15, ge=0, lt=1)
    tint: float = Field(default=0.05, ge=0, lt=1)
    erase: float = Field(default=0.0, ge=0, le=1)
    erase_area: tuple[float, float] = (0.02, 0.2)

    @field_validator("erase_area")
    @classmethod
    def _ordered(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"erase_area is (smallest, largest) within (0, 1], not {area}")
        return area


def augment(
    pictures: np.ndarray,
    settings: AugmentSettings,
    seed: int,
    epoch: int,
    step: int,
    fill: tuple[float, float, float] = (0.485, 0.456, 0.406),
) -> Tensor:
    """Augment a batch; each random value depends on (seed, epoch, step) and the place in the batch alone.

    Args:
        pictures: uint8 ``(N, H, W, 3)``, RGB.
        settings: strengths.
        seed, epoch, step: not negative.
        fill: RGB in [0, 1] of erased areas (the normalization's mean, so that they become zeros).

    Returns:
        float32 ``(N, 3, H, W)`` in [0, 1], channels-last in memory.

    Raises:
        DataError: not uint8 ``(N, H, W, 3)``.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise DataError(f"pictures are uint8 (N, H, W, 3), these are {pictures.dtype} {pictures.shape}")
    generator = np.random.default_rng((seed, epoch, step))
    moved = _move(pictures, settings, generator)
    batch = torch.from_numpy(moved).permute(0, 3, 1, 2).float().div_(255.0)
    batch = _jitter(batch, settings, generator)
    if settings.erase:
        area = _erased(batch.shape, settings, generator)
        batch = torch.where(area[:, None], torch.tensor(fill).view(1, 3, 1, 1), batch)
    return batch.contiguous(memory_format=torch.channels_last)


def _move(pictures: np.ndarray, settings: AugmentSettings, generator: np.random.Generator) -> np.ndarray:
    """Flip, zoom and shift in one gather."""
    count, height, width, _ = pictures.shape
    flipped = np.less(generator.random(count), settings.flip)
    reach = np.floor(np.array([height, width]) * settings.shift)
    shifts = np.rint(generator.uniform(-1, 1, size=(count, 2)) * (reach + 0.49))
    steps = np.exp(generator.uniform(-1, 1, size=(count, 2)) * math.log1p(settings.zoom))
    rows = _sources(height, steps[:, :1], shifts[:, :1])
    columns = _sources(width, steps[:, 1:], shifts[:, 1:])
    columns = np.where(flipped[:, None], columns[:, ::-1], columns)
    return pictures[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _sources(side: int, step: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Where each of ``side`` places is read from: ``(N, side)``."""
    middle = (side - 1) / 2
    places = (np.arange(side)[None] - middle) * step + middle + shift
    return np.clip(np.rint(places), 0, side - 1).astype(np.int64)


def _jitter(batch: Tensor, settings: AugmentSettings, generator: np.random.Generator) -> Tensor:
    strengths = np.array([settings.brightness, settings.contrast, settings.saturation, *[settings.tint] * 3])
    factors = 1 + strengths * generator.uniform(-1, 1, size=(len(batch), 6))
    if not strengths.any():
        return batch
    tables = torch.from_numpy(factors).float()
    contrast, saturation = tables[:, 1, None, None, None], tables[:, 2, None, None, None]
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)
    batch = batch * (tables[:, :1] * tables[:, 3:])[:, :, None, None]
    mean = (batch * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    batch = mean + (batch - mean) * contrast
    grey = (batch * luma).sum(1, keepdim=True)
    return (grey + (batch - grey) * saturation).clamp_(0.0, 1.0)


def _erased(shape: torch.Size, settings: AugmentSettings, generator: np.random.Generator) -> Tensor:
    """Mask ``(N, H, W)`` of one rectangle per picture (none where the coin says so)."""
    count, _, height, width = shape
    hit = generator.random(count) < settings.erase
    area = generator.uniform(*settings.erase_area, size=count) * height * width
    ratio = np.exp(generator.uniform(math.log(0.3), math.log(1 / 0.3), size=count))
    tall = np.clip(np.rint(np.sqrt(area * ratio)), 1, height).astype(np.int64)
    wide = np.clip(np.rint(np.sqrt(area / ratio)), 1, width).astype(np.int64)
    top = np.floor(generator.random(count) * (height - tall + 1)).astype(np.int64)
    left = np.floor(generator.random(count) * (width - wide + 1)).astype(np.int64)
    rows, columns = np.arange(height)[None], np.arange(width)[None]
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None]) & hit[:, None]
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return torch.from_numpy(in_rows[:, :, None] & in_columns[:, None, :])
