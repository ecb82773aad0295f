"""Small pictures and edge halves with known properties."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from toolkit.privacy.codes import WireCodes
from toolkit.privacy.pairs import Pairs, Part
from toolkit.privacy.suite import AttackData

SIDE = 32


def blobs(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Pictures ``(count, side, side, 3)`` of two coloured rectangles each, slightly blurred."""
    random = np.random.default_rng(seed)
    out = np.empty((count, side, side, 3), np.uint8)
    for i in range(count):
        picture = np.full((side, side, 3), random.integers(60, 200, 3), np.uint8)
        for _ in range(2):
            a, b = random.integers(0, side - 8, 2), random.integers(6, side // 2, 2)
            colour = tuple(int(c) for c in random.integers(0, 256, 3))
            cv2.rectangle(picture, tuple(int(v) for v in a), tuple(int(v) for v in a + b), colour, -1)
        out[i] = cv2.GaussianBlur(picture, (3, 3), 0)
    return out


def fold(pictures: np.ndarray, cell: int = 4) -> np.ndarray:
    """A lossless edge half: pixels folded into channels, int8 codes of half the pixel value (step 2/255)."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    return (torch.nn.functional.pixel_unshuffle(x, cell).numpy() // 2).astype(np.int8)


STEP = 2 / 255


def data(count: int = 160, seed: int = 0, encode=fold, step: float = STEP) -> AttackData:
    """Pairs of ``encode``; two pictures an identity; half to train, a quarter each to validate and test."""
    pictures = blobs(count, seed)
    rows = np.arange(count)
    return AttackData(
        codes=WireCodes(encode(pictures), step),
        pictures=pictures,
        identities=[f"id{i // 2}" for i in rows],
        train=rows[: count // 2],
        validation=rows[count // 2 : 3 * count // 4],
        test=rows[3 * count // 4 :],
        encode=encode,
    )


def pairs(count: int, seed: int = 0) -> Pairs:
    pictures = blobs(count, seed)
    return Pairs([Part(WireCodes(fold(pictures), STEP), pictures, np.arange(count))])
