"""From a file to a network's input: the one implementation for training, calibration, attack and device.

Everything here needs numpy, OpenCV and pydantic only, so a device preprocesses exactly as the host did.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.errors import DataError

FILE_NAME = "preprocess.json"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # a marker: not stuffing, not a restart, not fill


class Preprocess(BaseModel):
    """How a picture becomes an input; travels with every checkpoint, ONNX file and bundle.

    ``mean`` and ``std`` are per channel (RGB) in [0, 1] and belong to the edge half, which normalizes inside
    the network: ``to_input`` does not apply them. A picture with a side under ``min_side`` pixels is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(default=128, ge=8, le=2048)
    width: int = Field(default=128, ge=8, le=2048)
    interpolation: Literal["area", "linear"] = "area"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    min_side: int = Field(default=16, ge=2)

    def save(self, folder: str | Path) -> Path:
        """Write ``preprocess.json`` into ``folder`` (atomically) and return its path."""
        path = Path(folder) / FILE_NAME
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Preprocess:
        """Read ``preprocess.json`` from ``folder`` (or the file itself).

        Raises:
            DataError: the file is missing or does not describe a preprocessing.
        """
        path = Path(folder)
        path = path / FILE_NAME if path.is_dir() else path
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}; it is written with the checkpoint") from error
        except (ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} does not describe a preprocessing: {_first_line(error)}") from error


def decode(path: str | Path) -> np.ndarray:
    """Decode a picture file.

    Returns:
        uint8 (h, w, 3), RGB, upright (the EXIF orientation is applied).

    Raises:
        DataError: the file is missing, empty, no picture, damaged or cut off. Many OpenCV versions fill the
            missing part of a cut JPEG with grey and say nothing, so the file's structure is read to its end first.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read picture {path}: {error.strerror or error}") from error
    return decode_bytes(data, str(path))


def decode_bytes(data: bytes, name: str = "picture") -> np.ndarray:
    """Decode an encoded picture held in memory; ``name`` is used in errors. See ``decode``."""
    if not data:
        raise DataError(f"picture {name} is empty (0 bytes); fetch it again or remove it")
    reason = _damage(data)
    if reason:
        raise DataError(f"picture {name} is {reason}; fetch it again or remove it")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"picture {name} cannot be decoded: {error.err}") from error
    if picture is None:
        raise DataError(f"{name} is not a picture that OpenCV can decode; remove it or convert it to JPEG")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def resize(picture: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Resize to ``preprocess.height`` x ``preprocess.width`` (the aspect ratio is not kept).

    With ``area`` an axis that shrinks is averaged over its footprint (no aliasing) and an axis that grows is
    interpolated linearly.

    Args:
        picture: uint8 (h, w, 3).

    Returns:
        uint8 (H, W, 3), contiguous.

    Raises:
        DataError: not uint8 (h, w, 3), or a side is shorter than ``preprocess.min_side``.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise DataError(f"a picture is uint8 (h, w, 3), this is {picture.dtype} {picture.shape}")
    h, w = picture.shape[:2]
    if min(h, w) < preprocess.min_side:
        raise DataError(
            f"picture of {w}x{h} pixels is too small to use (shortest side allowed: {preprocess.min_side}); "
            "remove it or lower preprocess.min_side"
        )
    height, width = preprocess.height, preprocess.width
    if preprocess.interpolation == "area" and (h > height or w > width):
        picture = cv2.resize(picture, (min(w, width), min(h, height)), interpolation=cv2.INTER_AREA)
    if picture.shape[:2] != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(picture)


def read_picture(path: str | Path, preprocess: Preprocess) -> np.ndarray:
    """``decode`` and ``resize`` in one; every error names the file.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    picture = decode(path)
    try:
        return resize(picture, preprocess)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def to_input(pictures: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [0, 1]; normalization is left to the network."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise DataError(f"pictures are uint8 (N, H, W, 3), these are {pictures.dtype} {pictures.shape}")
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    return planes.astype(np.float32) / np.float32(255.0)


def from_input(batch: np.ndarray) -> np.ndarray:
    """float32 (N, 3, H, W) to uint8 (N, H, W, 3), clipped to [0, 1] and rounded; NaN becomes 0."""
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise DataError(f"a batch is (N, 3, H, W), this is {batch.shape}")
    scaled = np.nan_to_num(np.clip(batch.astype(np.float32), 0.0, 1.0)) * np.float32(255.0)
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1))


def _damage(data: bytes) -> str | None:
    """What is structurally wrong with the file, or None; formats other than JPEG and PNG are not looked into."""
    if data.startswith(_JPEG_START):
        return None if _jpeg_is_whole(data) else "a truncated or damaged JPEG"
    if data.startswith(_PNG_START):
        return None if _png_is_whole(data) else "a truncated or damaged PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return None if int.from_bytes(data[4:8], "little") + 8 <= len(data) else "a truncated WebP"
    if data[:2] == b"BM" and len(data) >= 6:
        return None if int.from_bytes(data[2:6], "little") <= len(data) else "a truncated BMP"
    return None


def _jpeg_is_whole(data: bytes) -> bool:
    """Walk the segments (ITU-T T.81, annex B) to the end-of-image marker, skipping embedded thumbnails."""
    position = len(_JPEG_START)
    scans = 0
    while True:
        marker = data[position : position + 2]
        if len(marker) < 2 or marker[0] != 0xFF:
            return False
        if marker[1] == 0xFF:  # fill byte before a marker
            position += 1
            continue
        if marker == _JPEG_END:
            return scans > 0
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            return False
        position += 2 + length
        if marker[1] == 0xDA:  # start of scan: entropy-coded data follows, up to the next marker
            scans += 1
            following = _AFTER_SCAN.search(data, position)
            if following is None:
                return False
            position = following.start()


def _png_is_whole(data: bytes) -> bool:
    """Walk the chunks, with their checksums, to IEND."""
    position = len(_PNG_START)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            return False
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if kind == b"IEND":
            return True
        position = end + 4
    return False


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3]) if len(lines) > 1 else "".join(lines)
