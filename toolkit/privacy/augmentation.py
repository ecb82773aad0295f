"""More pairs from the attacker's own pictures: changed before they are encoded, as an attacker would do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from toolkit.arrays import create_array
from toolkit.privacy.codes import Array, Indices, Pictures, WireCodes
from toolkit.privacy.pairs import LivePart, Part
from toolkit.progress import track

if TYPE_CHECKING:
    from toolkit.privacy.suite import AttackData

BATCH = 64
ZOOM, STRETCH, SHIFT = 0.35, 0.15, 0.15  # logarithms, and parts of a side
TURN = 12.0  # degrees
LIGHT, CONTRAST, TINT = 0.2, 0.35, 0.15
SWAPPED = 0.25  # share of the pictures whose colours change places


def mirror(pictures: Pictures) -> Pictures:
    """Mirror images ``(n, H, W, 3)``."""
    return np.ascontiguousarray(pictures[:, :, ::-1])


@dataclass(frozen=True)
class Jitter:
    """Pictures zoomed, stretched, turned, moved, relit, recoloured and perhaps mirrored at random.

    The changes are large on purpose: what a decoder has to learn is mostly local, so a picture that no camera
    would give teaches it too, and an adversary that can ask for the codes of any picture makes as many as it
    likes. Small changes would leave it with what it knows by heart.

    Attributes:
        seed: of all changes.
    """

    seed: int

    def __call__(self, pictures: Pictures, numbers: Indices, changes: Indices) -> Pictures:
        """Pictures ``(n, H, W, 3)``; their numbers and those of the changes decide what each becomes."""
        named = zip(pictures, numbers, changes, strict=True)
        return np.stack([self._one(picture, int(number), int(change)) for picture, number, change in named])

    def _one(self, picture: Pictures, number: int, change: int) -> Pictures:
        random = np.random.default_rng((self.seed, change, number))
        moved = _moved(picture, random)
        gain = 1 + random.uniform(-CONTRAST, CONTRAST) + random.uniform(-TINT, TINT, 3)
        values = (moved / 255.0 - 0.5) * gain + 0.5 + random.uniform(-LIGHT, LIGHT)
        changed = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        if random.random() < SWAPPED:
            changed = changed[..., random.permutation(3)]
        return changed[:, ::-1] if random.random() < 0.5 else changed


def _moved(picture: Pictures, random: np.random.Generator) -> Pictures:
    """Zoomed, stretched, turned and moved; what comes in from outside is reflected."""
    height, width = picture.shape[:2]
    zoom, stretch = np.exp(random.uniform(-ZOOM, ZOOM)), np.exp(random.uniform(-STRETCH, STRETCH))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-TURN, TURN), zoom)
    matrix[0, :2] *= stretch
    matrix[0, 2] += (1 - stretch) * width / 2 + random.uniform(-SHIFT, SHIFT) * width
    matrix[1, 2] += random.uniform(-SHIFT, SHIFT) * height
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def changed_part(
    data: AttackData,
    encode: Callable[[Pictures], Array],
    change: Callable[[Pictures], Pictures],
    path: Path,
    tag: str,
) -> Part:
    """The training pictures of ``data``, changed and encoded; both are kept on disk and read as memory maps.

    Args:
        data: whose training pictures.
        encode: the variant's edge half.
        change: pictures to changed pictures.
        path: start of the files' names.
        tag: what stored files must have been made from.
    """
    files = [path.with_name(f"{path.name}_{kind}.npy") for kind in ("codes", "pictures")]
    key = path.with_name(f"{path.name}.key")
    rows = data.train
    if not (key.exists() and key.read_text(encoding="utf-8") == tag and all(file.exists() for file in files)):
        key.unlink(missing_ok=True)
        codes: np.memmap | None = None
        pictures = create_array(files[1], np.uint8, (len(rows), *data.pictures.shape[1:]))
        for start in track(range(0, len(rows), BATCH), f"encoding {path.name} pictures"):
            made = change(data.pictures[rows[start : start + BATCH]])
            sent = np.asarray(encode(made))
            if codes is None:
                codes = create_array(files[0], sent.dtype, (len(rows), *sent.shape[1:]))
            codes[start : start + len(made)], pictures[start : start + len(made)] = sent, made
        pictures.flush()
        if codes is not None:
            codes.flush()
        key.write_text(tag, encoding="utf-8")
    stored, shown = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
    return Part(WireCodes(stored, data.codes.step), shown, np.arange(len(stored)))


def live_part(data: AttackData, encode: Callable[[Pictures], Array], seed: int, copies: int) -> LivePart:
    """The training pictures of ``data`` so many times, changed anew at every look.

    Args:
        data: whose training pictures.
        encode: the variant's edge half.
        seed: of the changes.
        copies: of every picture.
    """
    numbers = np.tile(np.asarray(data.train, np.int64), copies)
    which = np.repeat(np.arange(copies), len(data.train))
    codes = data.codes
    return LivePart(codes.shape, codes.step, data.pictures, numbers, which, Jitter(seed), encode, copies)
