"""Codes of 2 to 8 bits, side by side in bytes.

Each code is its lowest ``bits`` bits in two's complement, most significant bit first, in C order; the last
byte is filled with zero bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import WireError
from toolkit.wire.codes import bounds


def packed_size(count: int, bits: int) -> int:
    """Bytes that ``count`` codes take."""
    bounds(bits, signed=False)
    return (count * bits + 7) // 8


def pack(codes: NDArray[np.int8], bits: int) -> bytes:
    """Pack codes of any shape.

    Raises:
        WireError: not int8, or a code that fits ``bits`` neither as signed nor as non-negative.
    """
    if codes.dtype != np.int8:
        raise WireError(f"codes must be int8, not {codes.dtype}")
    flat = np.ascontiguousarray(codes).ravel()
    if flat.size:
        low, high = bounds(bits, signed=bool(flat.min() < 0))
        if int(flat.min()) < low or int(flat.max()) > high:
            raise WireError(f"codes {int(flat.min())}..{int(flat.max())} do not fit {bits} bits")
    unsigned = flat.view(np.uint8)
    if bits == 8:
        return unsigned.tobytes()
    unsigned = unsigned & np.uint8((1 << bits) - 1)
    if bits in (2, 4):
        return _pack_aligned(unsigned, bits)
    return np.packbits(np.unpackbits(unsigned[:, None], axis=1)[:, 8 - bits :]).tobytes()


def _pack_aligned(unsigned: NDArray[np.uint8], bits: int) -> bytes:
    per_byte = 8 // bits
    padded = np.zeros(packed_size(unsigned.size, bits) * per_byte, dtype=np.uint8)
    padded[: unsigned.size] = unsigned
    rows = padded.reshape(-1, per_byte)
    result = np.zeros(len(rows), dtype=np.uint8)
    for position in range(per_byte):
        result |= rows[:, position] << np.uint8(8 - bits * (position + 1))
    return result.tobytes()


def unpack(data: bytes, bits: int, shape: tuple[int, ...], signed: bool) -> NDArray[np.int8]:
    """What :func:`pack` packed.

    Args:
        data: exactly the packed bytes.
        bits: per code.
        shape: of the codes.
        signed: whether the codes are two's complement.

    Raises:
        WireError: another length than ``shape`` needs, or padding bits that are not zero.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) != packed_size(count, bits):
        raise WireError(f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes, got {len(data)}")
    raw = np.frombuffer(data, dtype=np.uint8)
    if bits == 8:
        return raw.view(np.int8).reshape(shape).copy()
    values = _unpack_aligned(raw, bits) if bits in (2, 4) else _unpack_any(raw, bits)
    padding = values[count:] if bits in (2, 4) else np.unpackbits(raw)[count * bits :]
    if padding.any():
        raise WireError("padding bits are not zero: these are not packed codes of this format")
    values = values[:count]
    if signed:
        shift = np.int8(8 - bits)
        return ((values << np.uint8(shift)).view(np.int8) >> shift).reshape(shape)
    return values.view(np.int8).reshape(shape)


def _unpack_aligned(raw: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    mask = np.uint8((1 << bits) - 1)
    columns = [(raw >> np.uint8(8 - bits * (position + 1))) & mask for position in range(8 // bits)]
    return np.stack(columns, axis=1).ravel()


def _unpack_any(raw: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    stream = np.unpackbits(raw)
    rows = stream[: stream.size // bits * bits].reshape(-1, bits)
    result: NDArray[Any] = np.packbits(rows, axis=1)[:, 0] >> np.uint8(8 - bits)
    return result
