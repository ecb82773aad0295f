import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import WireError
from toolkit.wire import bounds, pack, packed_size, unpack


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(2, 8), signed=st.booleans(), count=st.integers(0, 50), seed=st.integers(0, 1000))
def test_round_trip(bits, signed, count, seed):
    low, high = bounds(bits, signed)
    codes = np.random.default_rng(seed).integers(low, high + 1, count).astype(np.int8)
    data = pack(codes, bits)
    assert len(data) == packed_size(count, bits)
    assert np.array_equal(unpack(data, bits, (count,), signed), codes)


def test_known_bytes():
    assert pack(np.array([1, 2, 3, 0], np.int8), 2) == bytes([0b01101100])
    assert pack(np.array([5, 1, 7], np.int8), 3) == bytes([0b10100111, 0b10000000])
    assert pack(np.array([-1, 7], np.int8), 4) == bytes([0xF7])
    assert pack(np.array([-128, 127], np.int8), 8) == bytes([0x80, 0x7F])


def test_codes_in_a_transposed_array_are_packed_in_their_logical_order():
    codes = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert pack(codes.T, 4) == pack(np.ascontiguousarray(codes.T), 4)


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(WireError, match="do not fit"):
        pack(np.array([8], np.int8), 3)
    with pytest.raises(WireError, match="do not fit"):
        pack(np.array([-1, 5], np.int8), 3)
    with pytest.raises(WireError, match="int8"):
        pack(np.array([1]), 3)  # type: ignore[arg-type]


def test_wrong_bytes_are_refused():
    with pytest.raises(WireError, match="take 2 bytes"):
        unpack(b"\0", 3, (3,), signed=False)
    for bits in (3, 4):
        with pytest.raises(WireError, match="padding"):
            unpack(b"\x01" if bits == 4 else b"\0\1", bits, (1,) if bits == 4 else (3,), signed=False)
