import numpy as np
import pytest

from tests.unit.privacy.toys import STEP, blobs, fold, pairs
from toolkit.errors import AttackError
from toolkit.privacy.codes import WireCodes, encode_to_file
from toolkit.privacy.pairs import Pairs, Part
from toolkit.wire import WireFormat

CODES = np.zeros((4, 2, 3, 3), np.int8)


def test_dequantizes_as_the_cloud_does():
    codes = WireCodes(np.array([[[[3, -2]]]], np.int8), 0.25)
    assert codes.features().dtype == np.float32
    assert codes.features().tolist() == [[[[0.75, -0.5]]]]


@pytest.mark.parametrize(
    ("values", "step", "match"),
    [
        (np.zeros((4, 2), np.int8), 1.0, "N, C, h, w"),
        (CODES.astype(np.int32), 1.0, "int8"),
        (CODES, 0.0, "positive"),
        (CODES, float("nan"), "positive"),
        (CODES.astype(np.float32), 0.5, "step is 1"),
    ],
)
def test_bad_codes_are_refused(values, step, match):
    with pytest.raises(AttackError, match=match):
        WireCodes(values, step)


def test_nan_in_float_codes_is_named():
    values = np.full((1, 1, 2, 2), np.nan, np.float32)
    with pytest.raises(AttackError, match="NaN"):
        WireCodes(values).features()


def test_codes_must_fit_their_format():
    fmt = WireFormat(channels=2, height=3, width=3, bits=4, step=0.5, signed=False)
    assert WireCodes.from_format(CODES, fmt).step == 0.5
    with pytest.raises(AttackError, match="another model"):
        WireCodes.from_format(CODES[:, :1], fmt)
    with pytest.raises(AttackError, match=r"0\.\.15"):
        WireCodes.from_format(CODES + 16, fmt)
    with pytest.raises(AttackError, match="int8"):
        WireCodes.from_format(CODES.astype(np.float32), fmt)
    assert WireCodes.from_format(CODES.astype(np.float32), None).step == 1.0


def test_pairs_join_parts_and_keep_codes_with_their_pictures():
    pictures = blobs(6)
    codes = WireCodes(fold(pictures), STEP)
    both = Pairs([Part(codes, pictures, np.array([4, 1])), Part(codes, pictures, np.array([0, 5, 2]))])
    order = [4, 1, 0, 5, 2]
    rows = np.array([3, 0, 4])
    features, found = both.batch(rows)
    assert (found == pictures[[order[i] for i in rows]]).all()
    assert (features == codes.features(np.array([order[i] for i in rows]))).all()
    assert (both.at(rows).pictures(np.arange(3)) == pictures[[4, 5, 2]]).all()  # grouped by part


def test_mismatched_pairs_keep_both_sides_but_not_the_pairing():
    right = pairs(40)
    wrong = right.mismatched(seed=3)
    rows = np.arange(40)
    assert (wrong.features(rows) == right.features(rows)).all()
    a, b = right.pictures(rows).reshape(40, -1), wrong.pictures(rows).reshape(40, -1)
    assert sorted(map(bytes, a)) == sorted(map(bytes, b))
    assert (a == b).all(axis=1).mean() < 0.2


@pytest.mark.parametrize(
    ("part", "match"),
    [
        (Part(WireCodes(CODES), np.zeros((3, 8, 8, 3), np.uint8), np.arange(3)), "do not pair"),
        (Part(WireCodes(CODES), np.zeros((4, 8, 8, 3), np.uint8), np.array([4])), "outside"),
        (Part(WireCodes(CODES), np.zeros((4, 8, 8), np.uint8), np.arange(3)), "uint8"),
        (Part(WireCodes(CODES), np.zeros((4, 8, 8, 3), np.uint8), np.arange(0)), "empty"),
    ],
)
def test_bad_pairs_are_refused(part, match):
    with pytest.raises(AttackError, match=match):
        Pairs([part])


def test_nothing_to_encode(tmp_path):
    with pytest.raises(AttackError, match="no pictures"):
        encode_to_file(blobs(0), fold, tmp_path / "codes.npy")
    assert not list(tmp_path.iterdir())


def test_half_of_the_pictures_keeps_their_changed_copies_together():
    pictures = blobs(10)
    codes, flipped = WireCodes(fold(pictures), STEP), np.ascontiguousarray(pictures[:, :, ::-1])
    rows = np.array([9, 0, 3, 4, 7, 2])
    copies = Part(WireCodes(fold(flipped[rows]), STEP), flipped[rows], np.arange(6))
    half = Pairs([Part(codes, pictures, rows), copies]).half(seed=1)
    assert len(half) == 6
    first, second = half.parts
    assert (rows[second.indices] == first.indices).all()
    drawn = {tuple(Pairs([Part(codes, pictures, rows)]).half(seed).parts[0].indices) for seed in range(8)}
    assert len(drawn) > 1


def test_half_of_the_pictures_is_half_of_the_vehicles_where_they_are_known():
    made = pairs(12)
    names = [f"id{row // 3}" for row in range(12)]
    half = made.half(0, names)
    kept = {names[row] for row in half.parts[0].indices}
    assert len(half) == 6
    assert len(kept) == 2
    assert len(made.half(0, ["one"] * 12)) == 6  # a single vehicle: pictures are drawn
    uneven = ["a"] * 11 + ["b"]
    assert {len(made.half(seed, uneven)) for seed in range(8)} <= {1, 11}


def test_parts_without_a_half_are_refused():
    pictures = blobs(4)
    codes = WireCodes(fold(pictures), STEP)
    uneven = Pairs([Part(codes, pictures, np.arange(4)), Part(codes, pictures, np.arange(3))])
    for made in (uneven, Pairs([Part(codes, pictures, np.arange(1))])):
        with pytest.raises(AttackError, match="no half"):
            made.half(0)
    with pytest.raises(AttackError, match="3 identities"):
        pairs(4).half(0, ["a", "b", "c"])
