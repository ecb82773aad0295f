"""The calibration set: a balanced choice, its list and hash, and a refusal of data that is not pictures.

Where the limits come from. Of 1,014 real road pictures of vehicles (two cameras) at 64 and 128 px the smallest
contrast is 28 grey levels, the smallest neighbour correlation 0.76, the smallest colour correlation 0.71 and the
smallest distance between the block means of two pictures 60 levels; of 3,140 rendered ones at 64 to 256 px
contrast 10, neighbours 0.74, colours 0.25 (painted vehicles on grey roads). Independent noise reaches 0.04 in both
correlations, blurred coloured noise 0.95 and 0.15.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.errors import (
    ConstantPictureError,
    DuplicatePictureError,
    NoisePictureError,
    PictureError,
)

logger = logging.getLogger(__name__)
BLOCKS = 16


@dataclass(frozen=True)
class PictureLimits:
    """When pictures are refused.

    Attributes:
        contrast: least standard deviation of grey levels (0 to 255) of a picture that shows something.
        neighbours: least correlation of a pixel with its right and lower neighbour.
        colours: least mean correlation of the colour channels (grey pictures have 1).
        bad_share: share of noise or constant pictures from which on the set is refused; below it they are logged.
        same: two pictures whose 16x16 block means differ by at most this many levels are one picture.
        duplicate_share: share of repeated pictures above which the set is refused.
    """

    contrast: float = 2.0
    neighbours: float = 0.4
    colours: float = 0.2
    bad_share: float = 0.05
    same: float = 2.0
    duplicate_share: float = 0.01


def choose_pictures(identities: Sequence[str], cameras: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Choose pictures evenly over identities, and within them over cameras.

    Identities take turns in a shuffled order; each gives a picture of the camera chosen least so far. So every
    prefix of the result is balanced too.

    Args:
        identities, cameras: one per picture, of the training split.
        count: how many; all of them, shuffled, when there are no more.
        seed: of the shuffle.

    Returns:
        int64 indices, in the order of choice.

    Raises:
        PictureError: no pictures, lists of different lengths, or a count below 1.
    """
    if len(identities) != len(cameras):
        raise PictureError(
            f"{len(identities)} identities but {len(cameras)} cameras; give one of each per picture"
        )
    if not len(identities) or count < 1:
        raise PictureError(f"cannot choose {count} of {len(identities)} pictures; check the training split")
    order = np.random.default_rng(seed).permutation(len(identities))
    left: dict[str, dict[str, list[int]]] = {}
    for index in order.tolist():
        left.setdefault(identities[index], {}).setdefault(cameras[index], []).append(index)
    taken = dict.fromkeys(cameras, 0)
    chosen: list[int] = []
    while left and len(chosen) < count:
        for identity in list(left):
            if len(chosen) == count:
                break
            camera = min(left[identity], key=lambda name: taken[name])
            chosen.append(left[identity][camera].pop())
            taken[camera] += 1
            if not left[identity][camera]:
                del left[identity][camera]
            if not left[identity]:
                del left[identity]
    return np.asarray(chosen, dtype=np.int64)


def picture_list_hash(names: Sequence[str]) -> str:
    """sha256 of a list of pictures, in its order."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def write_picture_list(path: Path, names: Sequence[str]) -> str:
    """Store the list with its hash as JSON; returns the hash."""
    digest = picture_list_hash(names)
    path.write_text(json.dumps({"sha256": digest, "pictures": list(names)}, indent=1) + "\n", encoding="utf-8")
    return digest


def read_picture_list(path: Path) -> tuple[str, ...]:
    """Read a stored list.

    Raises:
        PictureError: it is missing, not such a list, or was changed.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names, digest = tuple(data["pictures"]), data["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PictureError(f"{path} is no list of calibration pictures; run the quantize stage again") from error
    if picture_list_hash(names) != digest:
        raise PictureError(f"{path} was changed after it was written; run the quantize stage again")
    return names


def refuse_unreal(
    pictures: np.ndarray, limits: PictureLimits | None = None, rows: np.ndarray | None = None
) -> None:
    """Refuse random, constant and repeated data.

    Args:
        pictures: uint8 (N, H, W, 3), or float32 (N, 3, H, W) in [0, 1]; may be a memory map.
        limits: None takes the defaults.
        rows: which of them are meant; None for all. They are read one after the other.

    Raises:
        PictureError: not pictures at all.
        NoisePictureError, ConstantPictureError, DuplicatePictureError: by what they are.
    """
    limits = limits or PictureLimits()
    images = _Images(_as_uint8(pictures), np.arange(len(pictures)) if rows is None else rows)
    if not len(images):
        raise PictureError("there are no calibration pictures; choose some with choose_pictures")
    flat = [i for i, image in enumerate(images) if _grey(image).std() < limits.contrast]
    _judge(flat, len(images), limits.bad_share, "show nothing (no contrast)", ConstantPictureError)
    shown = sorted(set(range(len(images))) - set(flat))
    noisy = [i for i in shown if neighbour_correlation(images[i]) < limits.neighbours]
    noisy = sorted({*noisy, *(i for i in shown if colour_correlation(images[i]) < limits.colours)})
    _judge(noisy, len(images), limits.bad_share, "are random numbers", NoisePictureError)
    repeated = _repeated(images, limits.same)
    _judge(repeated, len(images), limits.duplicate_share, "repeat another picture", DuplicatePictureError)


def _judge(bad: list[int], count: int, share: float, what: str, error: type[PictureError]) -> None:
    if not bad:
        return
    text = f"{len(bad)} of {count} calibration pictures {what} (first: number {bad[0]})"
    if len(bad) > share * count:
        raise error(f"{text}; calibrate on real pictures of the training split")
    logger.warning("%s", text)


def _as_uint8(pictures: np.ndarray) -> np.ndarray:
    if pictures.ndim != 4 or not len(pictures):
        raise PictureError(
            f"pictures have shape {pictures.shape}; give (N, H, W, 3) uint8 or (N, 3, H, W) float32"
        )
    if pictures.dtype == np.uint8 and pictures.shape[3] == 3:
        return pictures
    if pictures.dtype != np.float32 or pictures.shape[1] != 3:
        raise PictureError(
            f"pictures are {pictures.dtype} {pictures.shape}; give (N, H, W, 3) uint8 or (N, 3, H, W) float32"
        )
    if not np.isfinite(pictures).all() or pictures.min() < 0 or pictures.max() > 1:
        raise PictureError("pictures are not in [0, 1]; normalization belongs into the network")
    return np.rint(pictures.transpose(0, 2, 3, 1) * 255).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, dtype=np.float32).mean(axis=2)


def neighbour_correlation(image: np.ndarray) -> float:
    """Mean correlation of pixels with their right and lower neighbours, of a uint8 (H, W, 3) picture in grey."""
    grey = _grey(image)
    pairs = ((grey[:, :-1], grey[:, 1:]), (grey[:-1], grey[1:]))
    return float(np.mean([_correlation(a, b) for a, b in pairs if a.size]))


def colour_correlation(image: np.ndarray) -> float:
    """Mean correlation of the three pairs of colour channels; channels without contrast count as correlated."""
    channels = [image[..., index].astype(np.float32) for index in range(3)]
    return float(np.mean([_correlation(channels[a], channels[b]) for a, b in ((0, 1), (1, 2), (0, 2))]))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(), second - second.mean()
    power = float(np.sqrt(np.square(a).mean() * np.square(b).mean()))
    return float((a * b).mean()) / power if power > 1e-6 else 1.0


def duplicates(images: np.ndarray, same: float) -> list[int]:
    """Numbers of the pictures that repeat an earlier one, by the means of 16x16 blocks of every channel."""
    return _repeated(_Images(images, np.arange(len(images))), same)


class _Images(Sequence[np.ndarray]):
    """Some of many pictures, each read when it is needed."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self._images[self._rows[index]])


def _repeated(images: _Images, same: float) -> list[int]:
    means = np.stack([_block_means(image) for image in images])
    level = means.mean(axis=1)  # pictures whose overall level differs by more cannot be the same
    order = np.argsort(level, kind="stable")
    ends = np.searchsorted(level[order], level[order] + same, side="right")
    found: set[int] = set()
    for place, index in enumerate(order.tolist()):
        near = order[place + 1 : ends[place]]
        equal = near[np.abs(means[near] - means[index]).max(axis=1) <= same] if near.size else near
        found.update(max(index, other) for other in equal.tolist())
    return sorted(found)


def _block_means(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    rows = np.linspace(0, height, min(BLOCKS, height) + 1).astype(int)[:-1]
    columns = np.linspace(0, width, min(BLOCKS, width) + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float32), rows, axis=0), columns, axis=1)
    sizes = np.outer(np.diff(np.append(rows, height)), np.diff(np.append(columns, width)))
    return np.asarray((sums / sizes[:, :, None]).reshape(-1))
