import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import WireError
from toolkit.wire import WireFormat, bounds, choose_step, decode, encode, entropy_bits


def make(bits=8, step=0.1, signed=False, shape=(2, 3, 4)) -> WireFormat:
    return WireFormat(*shape, bits=bits, step=step, signed=signed)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [(8, False, (0, 127)), (7, False, (0, 127)), (4, False, (0, 15)), (2, False, (0, 3)), (8, True, (-128, 127)),
     (2, True, (-2, 1))],
)  # fmt: skip
def test_bounds(bits, signed, expected):
    assert bounds(bits, signed) == expected


@pytest.mark.parametrize("bits", [0, 1, 9, 32])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(WireError, match="2 to 8 bits"):
        make(bits=bits)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan"), float("inf"), 1e-60])
def test_step_must_be_positive(step):
    with pytest.raises(WireError, match="step"):
        make(step=step)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, -1, 4), (2, 3, 70000), (True, 3, 4), (60000, 60000, 1)])
def test_shape_is_bounded(shape):
    with pytest.raises(WireError, match="wire"):
        make(shape=shape)


def test_known_codes_round_half_to_even_and_clip():
    fmt = make(bits=4, step=0.5, shape=(1, 1, 8))
    features = np.array([[[[0.0, 0.25, 0.75, 1.25, 7.5, 7.76, 99.0, np.inf]]]], dtype=np.float32)
    assert encode(features, fmt).ravel().tolist() == [0, 0, 2, 2, 15, 15, 15, 15]
    assert decode(encode(features, fmt), fmt).ravel().tolist() == [0, 0, 1, 1, 7.5, 7.5, 7.5, 7.5]


def test_signed_codes_reach_both_ends():
    fmt = make(bits=3, step=1.0, signed=True, shape=(1, 1, 4))
    features = np.array([[[-9.0, -3.5, 2.5, 9.0]]], dtype=np.float32)
    assert encode(features, fmt).ravel().tolist() == [-4, -4, 2, 3]


@settings(max_examples=30, deadline=None)
@given(
    bits=st.integers(2, 8),
    signed=st.booleans(),
    step=st.floats(0.001, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_decoding_is_within_half_a_step_inside_the_range(bits, signed, step, seed):
    fmt = make(bits=bits, step=step, signed=signed)
    low, high = fmt.clip
    features = np.random.default_rng(seed).uniform(low, high, (5, 2, 3, 4)).astype(np.float32)
    restored = decode(encode(features, fmt), fmt)
    assert np.abs(restored - features).max() <= fmt.step * 0.5000001
    assert np.array_equal(encode(restored, fmt), encode(features, fmt))


def test_wrong_features_are_refused():
    fmt = make()
    with pytest.raises(WireError, match="NaN"):
        encode(np.full((1, 2, 3, 4), np.nan, np.float32), fmt)
    with pytest.raises(WireError, match="expected"):
        encode(np.zeros((1, 2, 4, 3), np.float32), fmt)
    with pytest.raises(WireError, match="floats"):
        encode(np.zeros((1, 2, 3, 4), np.int32), fmt)
    with pytest.raises(WireError, match="int8"):
        decode(np.zeros((1, 2, 3, 4), np.uint8), fmt)  # type: ignore[arg-type]
    with pytest.raises(WireError, match="another wire"):
        decode(np.full((1, 2, 3, 4), 9, np.int8), make(bits=3))


def test_json_round_trip_keeps_the_step_exactly():
    fmt = make(step=0.1)
    assert WireFormat.from_json(fmt.to_json()) == fmt
    assert fmt.step == float(np.float32(0.1))


@pytest.mark.parametrize("change", [{"schema": 2}, {"extra": 1}, {"bits": "x"}, {"step": None}])
def test_wrong_json_is_refused(change):
    with pytest.raises(WireError):
        WireFormat.from_json(json.dumps({**json.loads(make().to_json()), **change}))
    with pytest.raises(WireError):
        WireFormat.from_json("[]")
    with pytest.raises(WireError):
        WireFormat.from_json("{")


def test_step_of_a_gaussian_is_the_textbook_one():
    # Max (1960), table II: the optimum uniform quantizer of a unit Gaussian with 16 levels has step 0.3352.
    # Ours has a level at zero and one level more below than above, which moves the optimum a little.
    values = np.random.default_rng(0).normal(size=400_000).astype(np.float32)
    assert choose_step(values, 4, signed=True) == pytest.approx(0.3352, rel=0.06)


def test_step_beats_its_neighbours_and_clipping_nothing():
    values = np.abs(np.random.default_rng(1).standard_t(3, size=50_000)).astype(np.float32)
    for bits in (3, 4, 6, 8):
        best = choose_step(values, bits, signed=False)
        _low, high = bounds(bits, False)

        def error(step: float, high: int = high) -> float:
            return float(np.mean((values - np.clip(np.rint(values / step), 0, high) * step) ** 2))

        assert error(best) <= min(error(best * 0.9), error(best * 1.1), error(float(values.max()) / high))


def test_step_ignores_order_and_added_zeros():
    values = np.random.default_rng(2).gamma(1.0, 1.0, 5000).astype(np.float32)
    shuffled = np.concatenate([values[::-1], np.zeros(777, np.float32)])
    assert choose_step(values, 5, False) == choose_step(shuffled, 5, False)


def test_step_from_unusable_features_is_refused():
    for values, match in (
        (np.zeros(10, np.float32), "dead"),
        (np.zeros(0, np.float32), "no features"),
        (np.array([np.nan], np.float32), "NaN"),
        (np.array([-1.0, 2.0], np.float32), "signed"),
    ):
        with pytest.raises(WireError, match=match):
            choose_step(values, 8, signed=False)


def test_entropy_known_answers():
    codes = np.zeros((2, 2, 4, 4), np.int8)
    assert entropy_bits(codes) == 0.0
    codes[:, 1] = 5
    assert entropy_bits(codes) == pytest.approx(32.0)
    assert entropy_bits(codes, "channel") == 0.0
    codes = np.tile(np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4), (3, 2, 1, 1))
    assert entropy_bits(codes) == pytest.approx(4 * 32)
    with pytest.raises(WireError):
        entropy_bits(np.zeros((0, 1, 1, 1), np.int8))
