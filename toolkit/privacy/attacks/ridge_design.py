"""How codes become the inputs of a linear regression and its outputs become pictures."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import cv2
import numpy as np
import numpy.typing as npt

from toolkit.privacy.codes import Floats, Pictures

Values = npt.NDArray[np.float64]


class Design(ABC):
    """Inputs and targets of one regression.

    Attributes:
        name: in reports.
        size: ``(H, W)`` at which pictures are regressed.
    """

    name: str
    size: tuple[int, int]

    def __init__(self, shape: tuple[int, int, int], picture: tuple[int, int]) -> None:
        self.shape, self.picture = shape, picture

    def shrink(self, pictures: Pictures) -> Floats:
        """uint8 pictures to float32 in [0, 1] at ``size``."""
        values = pictures.astype(np.float32) / np.float32(255)
        return values if self.size == self.picture else _resize(values, self.size, cv2.INTER_AREA)

    def enlarge(self, values: Floats) -> Floats:
        """Pictures at ``size`` to the size of the originals."""
        return values if self.size == self.picture else _resize(values, self.picture, cv2.INTER_CUBIC)

    @abstractmethod
    def inputs(self, features: Floats) -> Floats:
        """Centred codes ``(n, C, h, w)`` to rows ``(m, inputs)``."""

    @abstractmethod
    def targets(self, values: Floats) -> Floats:
        """Centred pictures ``(n, *size, 3)`` to rows ``(m, outputs)``."""

    @abstractmethod
    def assemble(self, rows: Floats, count: int) -> Floats:
        """The inverse of :meth:`targets` for ``count`` pictures."""

    def sample(self, x: Floats, y: Floats, salt: int) -> tuple[Floats, Floats]:
        """The rows that the regression uses."""
        return x, y


class PictureDesign(Design):
    """One row a picture."""

    name = "picture"

    def __init__(self, shape: tuple[int, int, int], picture: tuple[int, int], side: int) -> None:
        super().__init__(shape, picture)
        scale = min(1.0, side / max(picture))
        self.size = (max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale)))

    def inputs(self, features: Floats) -> Floats:
        return features.reshape(len(features), -1)

    def targets(self, values: Floats) -> Floats:
        return values.reshape(len(values), -1)

    def assemble(self, rows: Floats, count: int) -> Floats:
        return rows.reshape(count, *self.size, 3)


class PatchDesign(Design):
    """One row a code position: the codes around it against the pixels under it."""

    name = "patch"

    def __init__(
        self, shape: tuple[int, int, int], picture: tuple[int, int], features: int, share: float, seed: int
    ) -> None:
        super().__init__(shape, picture)
        self.cell = (math.ceil(picture[0] / shape[1]), math.ceil(picture[1] / shape[2]))
        self.size = (self.cell[0] * shape[1], self.cell[1] * shape[2])
        sides = [k for k in (5, 3, 1) if shape[0] * k * k <= features and k <= 2 * min(shape[1:]) - 1]
        self.reach = (sides[0] if sides else 1) // 2
        self.share, self.seed = share, seed

    def inputs(self, features: Floats) -> Floats:
        n, (c, h, w), r = len(features), self.shape, self.reach
        padded = np.pad(features, ((0, 0), (0, 0), (r, r), (r, r)))
        k = 2 * r + 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
        return np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(n * h * w, c * k * k)

    def targets(self, values: Floats) -> Floats:
        n, (_, h, w), (a, b) = len(values), self.shape, self.cell
        return values.reshape(n, h, a, w, b, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n * h * w, a * b * 3)

    def assemble(self, rows: Floats, count: int) -> Floats:
        (_, h, w), (a, b) = self.shape, self.cell
        return rows.reshape(count, h, w, a, b, 3).transpose(0, 1, 3, 2, 4, 5).reshape(count, *self.size, 3)

    def sample(self, x: Floats, y: Floats, salt: int) -> tuple[Floats, Floats]:
        if self.share >= 1.0:
            return x, y
        keep = np.random.default_rng((self.seed, salt)).random(len(x)) < self.share
        return x[keep], y[keep]


def _resize(values: Floats, size: tuple[int, int], interpolation: int) -> Floats:
    return np.stack([cv2.resize(v, (size[1], size[0]), interpolation=interpolation) for v in values])
