"""TensorRT's calibration cache and the key beside it."""

import struct

import pytest

from calibration.cache import (
    CalibrationCache,
    cache_key,
    format_cache,
    parse_cache,
    read_cache,
    write_cache,
)
from calibration.errors import CacheMismatchError

DOCUMENTED = "TRT-8203-EntropyCalibration2\n167: 3c009976\n"


def test_the_documented_line_is_read_and_written():
    cache = parse_cache(DOCUMENTED)
    assert cache.scales["167"] == struct.unpack(">f", bytes.fromhex("3c009976"))[0]
    assert cache.scales["167"] == pytest.approx(0.00785, abs=5e-6)
    assert format_cache(cache) == DOCUMENTED


def test_names_with_colons_survive():
    cache = CalibrationCache({"net/layer1: conv:0": 0.5, "x": 2.0**-20}, "k")
    assert parse_cache(format_cache(cache)).scales == cache.scales


def test_leading_zeros_may_be_missing():
    assert parse_cache("TRT-8203-EntropyCalibration2\na: 800000\n").scales["a"] == 2.0**-126


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense\n1: 3c009976\n",
        "TRT-8-E\nx 3c009976\n",
        "TRT-8-E\nx: zz\n",
        "TRT-8-E\nx: 00000000\n",
        "TRT-8-E\nx: 7fc00000\n",
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(CacheMismatchError):
        parse_cache(text)


def test_every_part_of_the_key_counts(tmp_path):
    parts = [b"model", "data", "list", "preprocess", "method"]
    key = cache_key(*parts)
    cache = CalibrationCache({"a": 0.25}, key)
    path = tmp_path / "calibration.cache"
    write_cache(path, cache)
    assert read_cache(path, key) == cache
    for index in range(5):
        changed = list(parts)
        changed[index] = b"other" if index == 0 else "other"
        with pytest.raises(CacheMismatchError, match="belongs to another"):
            read_cache(path, cache_key(*changed))


def test_a_changed_or_missing_cache_is_refused(tmp_path):
    path = tmp_path / "calibration.cache"
    with pytest.raises(CacheMismatchError, match="missing"):
        read_cache(path, "k")
    write_cache(path, CalibrationCache({"a": 0.25}, "k"))
    path.write_text(path.read_text().replace("3e800000", "3f800000"))
    with pytest.raises(CacheMismatchError, match="changed"):
        read_cache(path, "k")
    (tmp_path / "calibration.cache.key.json").write_text("[]")
    with pytest.raises(CacheMismatchError, match="cannot be read"):
        read_cache(path, "k")
