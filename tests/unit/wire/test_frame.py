import struct
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import wire
from toolkit.errors import WireError
from toolkit.wire import WireFormat, frame_size, read_frame, write_frame
from toolkit.wire.frame import HEADER

HASH = "ab" * 32
FMT = WireFormat(4, 3, 5, bits=4, step=0.25, signed=False)


def codes_of(fmt: WireFormat, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(fmt.low, fmt.high + 1, fmt.shape).astype(np.int8)


def seal(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize("compress", ["none", "zstd"])
@pytest.mark.parametrize(("bits", "signed"), [(2, True), (4, False), (5, True), (8, False), (8, True)])
def test_round_trip(bits, signed, compress):
    fmt = WireFormat(4, 3, 5, bits=bits, step=0.3, signed=signed)
    data = write_frame(codes_of(fmt), fmt, HASH, 2**64 - 1, compress)
    frame = read_frame(data, fmt, HASH)
    assert np.array_equal(frame.codes, codes_of(fmt))
    assert (frame.sequence, frame.size) == (2**64 - 1, len(data))


def test_header_is_as_documented():
    data = write_frame(codes_of(FMT), FMT, HASH, 7)
    assert HEADER.size == 52
    assert data[:8] == b"PEWF\x01\x00\x04\x00"
    assert data[8:24] == bytes.fromhex(HASH)[:16]
    assert struct.unpack_from("<HHHHfQII", data, 24) == (4, 3, 5, 0, 0.25, 7, 30, 30)
    assert len(data) == frame_size(FMT) == 52 + 30 + 4


def test_uncompressed_and_padded_frames_have_one_length():
    flat, rough = np.zeros(FMT.shape, np.int8), codes_of(FMT)
    assert len(write_frame(flat, FMT, HASH, 0)) == len(write_frame(rough, FMT, HASH, 0))
    assert len(write_frame(flat, FMT, HASH, 0, "zstd")) < len(write_frame(rough, FMT, HASH, 0, "zstd"))
    padded = [write_frame(codes, FMT, HASH, 0, "zstd", pad_to=64) for codes in (flat, rough)]
    assert len(padded[0]) == len(padded[1])
    assert np.array_equal(read_frame(padded[1], FMT, HASH).codes, rough)
    with pytest.raises(WireError, match="pad_to"):
        write_frame(rough, FMT, HASH, 0, pad_to=8)
    with pytest.raises(WireError, match="pad_to"):
        write_frame(rough, FMT, HASH, 0, pad_to=1 << 30)


def test_a_batch_of_one_is_a_picture():
    assert write_frame(codes_of(FMT)[None], FMT, HASH, 0) == write_frame(codes_of(FMT), FMT, HASH, 0)
    with pytest.raises(WireError, match="one picture"):
        write_frame(np.stack([codes_of(FMT)] * 2), FMT, HASH, 0)


def test_every_truncation_is_named():
    data = write_frame(codes_of(FMT), FMT, HASH, 1)
    for length in range(len(data)):
        with pytest.raises(wire.FrameTruncatedError):
            read_frame(data[:length], FMT, HASH)


def test_every_flipped_bit_is_refused():
    data = write_frame(codes_of(FMT), FMT, HASH, 1, "zstd")
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(WireError):
            read_frame(bytes(damaged), FMT, HASH)


@pytest.mark.parametrize(
    ("fmt", "model", "error"),
    [
        (FMT, "cd" * 32, wire.FrameModelError),
        (WireFormat(4, 3, 5, bits=5, step=0.25, signed=False), HASH, wire.FrameFormatError),
        (WireFormat(4, 5, 3, bits=4, step=0.25, signed=False), HASH, wire.FrameFormatError),
        (WireFormat(4, 3, 5, bits=4, step=0.26, signed=False), HASH, wire.FrameFormatError),
        (WireFormat(4, 3, 5, bits=4, step=0.25, signed=True), HASH, wire.FrameFormatError),
    ],
)
def test_frames_of_another_side_are_named(fmt, model, error):
    with pytest.raises(error):
        read_frame(write_frame(codes_of(FMT), FMT, HASH, 1), fmt, model)


def test_magic_version_checksum_and_trailing_bytes_are_named():
    data = write_frame(codes_of(FMT), FMT, HASH, 1)
    with pytest.raises(wire.FrameMagicError):
        read_frame(b"JUNK" + data[4:], FMT, HASH)
    with pytest.raises(wire.FrameMagicError):
        read_frame(b"GET / HTTP/1.1", FMT, HASH)
    with pytest.raises(wire.FrameVersionError, match="version 2"):
        read_frame(data[:4] + b"\x02" + data[5:], FMT, HASH)
    with pytest.raises(wire.FrameChecksumError):
        read_frame(data[:-1] + bytes([data[-1] ^ 1]), FMT, HASH)
    with pytest.raises(wire.FrameFormatError, match="follow"):
        read_frame(data + b"\0", FMT, HASH)


def test_huge_announced_lengths_are_refused_before_anything_is_read():
    head = bytearray(write_frame(codes_of(FMT), FMT, HASH, 1)[: HEADER.size])
    struct.pack_into("<II", head, 44, 0xFFFFFFFF, 0xFFFFFFFF)
    with pytest.raises(wire.FrameFormatError, match="at most"):
        read_frame(bytes(head), FMT, HASH)


def test_a_compression_bomb_is_refused_before_it_is_unpacked():
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    head = bytearray(write_frame(codes_of(FMT), FMT, HASH, 1, "zstd")[: HEADER.size])
    struct.pack_into("<II", head, 44, len(bomb), len(bomb))
    with pytest.raises(wire.FrameFormatError, match="announces 67108864"):
        read_frame(seal(bytes(head) + bomb), FMT, HASH)


def test_codes_outside_the_range_in_a_valid_frame_are_refused():
    fmt = WireFormat(1, 1, 4, bits=8, step=1.0, signed=False)
    data = bytearray(write_frame(np.zeros(fmt.shape, np.int8), fmt, HASH, 0))[:-4]
    data[52] = 0xFF
    with pytest.raises(wire.FrameFormatError):
        read_frame(seal(bytes(data)), fmt, HASH)


def test_bad_arguments():
    with pytest.raises(WireError, match="sequence"):
        write_frame(codes_of(FMT), FMT, HASH, -1)
    with pytest.raises(WireError, match="hexadecimal"):
        write_frame(codes_of(FMT), FMT, "xyz", 0)
    with pytest.raises(WireError, match="32"):
        write_frame(codes_of(FMT), FMT, "ab", 0)
    with pytest.raises(WireError, match="compression"):
        write_frame(codes_of(FMT), FMT, HASH, 0, "gzip")  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_is_always_a_wire_error(data):
    for candidate in (data, b"PEWF\x01" + data):
        with pytest.raises(WireError):
            read_frame(candidate, FMT, HASH)
