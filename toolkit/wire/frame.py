"""Frame v1: the codes of one picture on the wire.

Little-endian, 52 bytes of header, then the payload, then 4 bytes of checksum:

    offset  size  field
    0       4     magic "PEWF"
    4       1     version, 1
    5       1     flags: bit 0 zstd, bit 1 signed codes
    6       1     bits per code
    7       1     reserved, 0
    8       16    model hash: the first 16 bytes of the edge half's sha256
    24      6     channels, height, width (uint16 each)
    30      2     reserved, 0
    32      4     step (float32)
    36      8     sequence number
    44      4     bytes of payload in use
    48      4     bytes of payload stored (with padding)
    52      n     payload: packed codes, zstd when flagged, zero padding
    52+n    4     CRC-32 of everything before it

A frame without zstd has one length for every picture; compressed lengths depend on the picture and tell
something about it, unless they are padded. The checksum finds accidents, not forgery: authenticity is the
transport's (TLS).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import WireError
from toolkit.optional import require
from toolkit.wire.codes import WireFormat, check_codes
from toolkit.wire.errors import (
    FrameChecksumError,
    FrameFormatError,
    FrameMagicError,
    FrameModelError,
    FrameTruncatedError,
    FrameVersionError,
)
from toolkit.wire.packing import pack, packed_size, unpack

MAGIC = b"PEWF"
VERSION = 1
HEADER = struct.Struct("<4sBBBB16sHHHHfQII")
CHECKSUM = struct.Struct("<I")
HASH_BYTES = 16
ZSTD_LEVEL = 3
_ZSTD, _SIGNED = 1, 2
MAX_PADDING = 1 << 20

Compression = Literal["none", "zstd"]


@dataclass(frozen=True)
class Frame:
    """A frame that was read and checked.

    Attributes:
        codes: int8 ``(C, h, w)``.
        sequence: the sender's number.
        size: bytes of the whole frame.
    """

    codes: NDArray[np.int8]
    sequence: int
    size: int


def frame_size(fmt: WireFormat) -> int:
    """Bytes of an uncompressed frame, which is the same for every picture."""
    return HEADER.size + packed_size(fmt.elements, fmt.bits) + CHECKSUM.size


def write_frame(
    codes: NDArray[np.int8],
    fmt: WireFormat,
    model_hash: str,
    sequence: int,
    compress: Compression = "none",
    pad_to: int = 0,
) -> bytes:
    """One picture's codes as a frame.

    Args:
        codes: int8 ``(C, h, w)`` or ``(1, C, h, w)``.
        fmt: the wire format.
        model_hash: sha256 of the edge half, hexadecimal (at least 32 digits; the first 32 are sent).
        sequence: 0 to 2^64-1.
        compress: ``zstd`` makes frames shorter, of a length that depends on the picture.
        pad_to: zero bytes are added until the payload has this length, so that compressed frames have one
            length too; 0 adds none.

    Raises:
        WireError: codes that do not fit, a bad hash or sequence number, or a payload longer than ``pad_to``.
    """
    check_codes(codes, fmt)
    if codes.ndim == 4 and len(codes) != 1:
        raise WireError(f"a frame carries one picture, not {len(codes)}")
    if not 0 <= sequence < 1 << 64:
        raise WireError(f"the sequence number must be 0 to 2^64-1, not {sequence}")
    payload = pack(codes, fmt.bits)
    if compress == "zstd":
        zstandard = require("zstandard", "host")
        payload = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress(payload)
    elif compress != "none":
        raise WireError(f"unknown compression {compress!r}; use none or zstd")
    if pad_to and len(payload) > pad_to:
        raise WireError(f"the payload has {len(payload)} bytes, more than pad_to {pad_to}; raise pad_to")
    if pad_to > _most_stored(fmt):
        raise WireError(f"pad_to {pad_to} is more than a reader accepts ({_most_stored(fmt)})")
    stored = max(len(payload), pad_to)
    flags = (_ZSTD if compress == "zstd" else 0) | (_SIGNED if fmt.signed else 0)
    head = HEADER.pack(
        *(MAGIC, VERSION, flags, fmt.bits, 0, hash_bytes(model_hash), *fmt.shape, 0),
        *(fmt.step, sequence, len(payload), stored),
    )
    body = head + payload.ljust(stored, b"\0")
    return body + CHECKSUM.pack(zlib.crc32(body))


def read_frame(data: bytes, fmt: WireFormat, model_hash: str) -> Frame:
    """Check and decode one frame.

    Every length is compared with what ``fmt`` allows before anything is allocated or decompressed.

    Raises:
        FrameTruncatedError, FrameMagicError, FrameVersionError, FrameModelError, FrameFormatError,
        FrameChecksumError: what is wrong with it.
    """
    head = _Head.read(data)
    size = head.check_lengths(len(data), fmt)
    if zlib.crc32(data[: size - CHECKSUM.size]) != CHECKSUM.unpack_from(data, size - CHECKSUM.size)[0]:
        raise FrameChecksumError("frame checksum differs: it was damaged on the way; ask for it again")
    head.check_agreement(fmt, model_hash)
    if any(data[HEADER.size + head.used : size - CHECKSUM.size]):
        raise FrameFormatError("the padding is not zero; the frame was written by something else")
    payload = bytes(data[HEADER.size : HEADER.size + head.used])
    if head.flags & _ZSTD:
        payload = _decompress(payload, packed_size(fmt.elements, fmt.bits))
    return Frame(_unpack(payload, fmt), head.sequence, size)


@dataclass(frozen=True)
class _Head:
    flags: int
    bits: int
    reserved: tuple[int, int]
    digest: bytes
    shape: tuple[int, int, int]
    step: float
    sequence: int
    used: int
    stored: int

    @classmethod
    def read(cls, data: bytes) -> _Head:
        if data[:4] != MAGIC[: len(data)]:
            raise FrameMagicError("not a PATROL Edge frame")
        if len(data) < HEADER.size:
            raise FrameTruncatedError(f"frame truncated: {len(data)} bytes, its header alone has {HEADER.size}")
        fields = HEADER.unpack_from(data)
        _, version, flags, bits, reserved, digest, channels, height, width, zero, *rest = fields
        if version != VERSION:
            raise FrameVersionError(f"frame version {version}, this side reads {VERSION}; update the older side")
        return cls(flags, bits, (reserved, zero), digest, (channels, height, width), *rest)

    def check_lengths(self, length: int, fmt: WireFormat) -> int:
        """Size of the whole frame; refused before anything is allocated for it."""
        most = _most_stored(fmt)
        if self.stored > most or self.used > self.stored:
            raise FrameFormatError(
                f"the frame announces {self.used} of {self.stored} bytes, at most {most} are possible"
            )
        size = HEADER.size + self.stored + CHECKSUM.size
        if length < size:
            raise FrameTruncatedError(f"frame truncated: {length} of {size} bytes")
        if length > size:
            raise FrameFormatError(f"{length - size} bytes follow the frame")
        return size

    def check_agreement(self, fmt: WireFormat, model_hash: str) -> None:
        expected = hash_bytes(model_hash)
        if self.digest != expected:
            raise FrameModelError(
                f"frame of model {self.digest.hex()}, this cloud half belongs to {expected.hex()}; "
                "deploy both halves of one run"
            )
        signed = bool(self.flags & _SIGNED)
        if (self.shape, self.bits, signed, self.step) != (fmt.shape, fmt.bits, fmt.signed, fmt.step):
            raise FrameFormatError(
                f"frame of {self.shape} codes, {self.bits} bits, step {self.step:g}; "
                f"expected {fmt.shape}, {fmt.bits} bits, step {fmt.step:g}"
            )
        if any(self.reserved) or self.flags & ~(_ZSTD | _SIGNED):
            raise FrameFormatError("the frame uses reserved fields; it was written by a newer version")


def _unpack(payload: bytes, fmt: WireFormat) -> NDArray[np.int8]:
    try:
        codes = unpack(payload, fmt.bits, fmt.shape, fmt.signed)
        check_codes(codes, fmt)
    except WireError as error:
        raise FrameFormatError(str(error)) from error
    return codes


def _decompress(payload: bytes, expected: int) -> bytes:
    zstandard = require("zstandard", "host")
    try:
        # The size in zstd's own header decides what it allocates, so it is looked at first.
        announced = zstandard.frame_content_size(payload)
        if announced != expected:
            raise FrameFormatError(f"compressed payload announces {announced} bytes, expected {expected}")
        result: bytes = zstandard.ZstdDecompressor().decompress(
            payload, max_output_size=expected, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise FrameFormatError(f"compressed payload cannot be read: {error}") from error
    if len(result) != expected:
        raise FrameFormatError(f"compressed payload holds {len(result)} bytes, expected {expected}")
    return result


def _most_stored(fmt: WireFormat) -> int:
    plain = packed_size(fmt.elements, fmt.bits)
    return plain + plain // 128 + 1024 + MAX_PADDING


def hash_bytes(model_hash: str) -> bytes:
    """The 16 bytes of a model's sha256 that a frame carries.

    Raises:
        WireError: not at least 32 hexadecimal digits.
    """
    try:
        digest = bytes.fromhex(model_hash)
    except ValueError as error:
        raise WireError(f"the model hash must be hexadecimal: {model_hash!r}") from error
    if len(digest) < HASH_BYTES:
        raise WireError(f"the model hash needs at least {2 * HASH_BYTES} hexadecimal digits")
    return digest[:HASH_BYTES]
