"""Decoding, resizing and the round trip to a network's input."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import DataError
from toolkit.preprocess import Preprocess, decode, decode_bytes, from_input, read_picture, resize, to_input


def noise(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encode(picture, suffix=".jpg", *options):
    done, data = cv2.imencode(suffix, picture[..., ::-1], list(options))
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_order_is_rgb(tmp_path, suffix):
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[...] = (200, 100, 20)
    path = tmp_path / f"red{suffix}"
    path.write_bytes(encode(picture, suffix))
    assert np.abs(decode(path)[16, 16].astype(int) - [200, 100, 20]).max() <= 4


def test_png_is_exact_and_grey_becomes_three_channels(tmp_path):
    assert np.array_equal(decode_bytes(encode(noise(), ".png")), noise())
    done, data = cv2.imencode(".png", noise()[..., 0])
    assert done and decode_bytes(data.tobytes()).shape == (60, 80, 3)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("kept", [0.999, 0.9, 0.5, 0.2, 0.02])
def test_truncated_jpeg_is_named(tmp_path, kept, progressive):
    data = encode(noise(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=r"cut\.jpg is a truncated or damaged JPEG"):
        decode(path)


def test_thumbnail_does_not_hide_the_cut():
    whole, thumbnail = encode(noise()), encode(noise(16, 16))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert decode_bytes(with_thumbnail).shape == (60, 80, 3)
    with pytest.raises(DataError, match="truncated"):
        decode_bytes(with_thumbnail[:-40])


def test_bytes_after_the_end_are_harmless():
    assert decode_bytes(encode(noise()) + b"\0" * 100).shape == (60, 80, 3)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 0.9999), st.sampled_from([".jpg", ".png"]))
def test_no_cut_file_is_accepted(part, suffix):
    data = encode(noise(24, 24), suffix)
    with pytest.raises(DataError):
        decode_bytes(data[: int(len(data) * part)])


def test_flipped_byte_in_png_is_refused():
    data = bytearray(encode(noise(), ".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(DataError, match="damaged PNG"):
        decode_bytes(bytes(data))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"hello, this is text", "not a picture"), (b"\xff\xd8\xff\xd9", "damaged JPEG")],
)
def test_useless_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        decode(path)
    assert "bad.jpg" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jpg"):
        decode(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="cannot read"):
        decode(tmp_path)


def test_shrinking_averages():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize(stripes, Preprocess(height=32, width=32))
    assert small.shape == (32, 32, 3) and np.all(small == 100)
    sampled = resize(stripes, Preprocess(height=21, width=21, interpolation="linear"))
    assert sampled.std() > resize(stripes, Preprocess(height=21, width=21)).std()


def test_one_axis_shrinks_while_the_other_grows():
    stripes = np.zeros((20, 128, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.all(resize(stripes, Preprocess(height=64, width=64)) == 100)


def test_same_size_is_untouched():
    assert np.array_equal(resize(noise(32, 48), Preprocess(height=32, width=48)), noise(32, 48))


def test_tiny_picture_is_refused_with_its_name(tmp_path):
    path = tmp_path / "dot.png"
    path.write_bytes(encode(noise(1, 1), ".png"))
    with pytest.raises(DataError, match=r"dot\.png: picture of 1x1 pixels is too small"):
        read_picture(path, Preprocess())
    assert read_picture_size(tmp_path, 2) == (128, 128, 3)


def read_picture_size(folder, side):
    path = folder / "small.png"
    path.write_bytes(encode(noise(side, side), ".png"))
    return read_picture(path, Preprocess(min_side=side)).shape


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((40, 40, 3), np.float32)])
def test_wrong_arrays_are_refused(bad):
    with pytest.raises(DataError, match="uint8"):
        resize(bad, Preprocess())
    with pytest.raises(DataError, match="uint8"):
        to_input(bad[None])


def test_input_layout_and_round_trip():
    pictures = np.stack([noise(), 255 - noise()])
    batch = to_input(pictures)
    assert batch.dtype == np.float32 and batch.shape == (2, 3, 60, 80)
    assert batch.min() >= 0 and batch.max() <= 1
    assert batch[0, 2, 5, 7] == np.float32(noise()[5, 7, 2]) / np.float32(255)
    assert np.array_equal(from_input(batch), pictures)


def test_from_input_clips():
    batch = np.array([-1.0, 2.0, np.nan], np.float32).reshape(1, 3, 1, 1)
    assert from_input(batch).tolist() == [[[[0, 255, 0]]]]
    with pytest.raises(DataError):
        from_input(np.zeros((2, 4, 8, 8), np.float32))


def test_saved_and_loaded(tmp_path):
    preprocess = Preprocess(height=64, width=96, interpolation="linear", mean=(0.5, 0.5, 0.5))
    path = preprocess.save(tmp_path)
    assert path.name == "preprocess.json"
    assert Preprocess.load(tmp_path) == preprocess == Preprocess.load(path)


@pytest.mark.parametrize("content", ["{", '{"height": 64, "depth": 3}', '{"height": -1}', "[]"])
def test_bad_preprocess_file_is_named(tmp_path, content):
    (tmp_path / "preprocess.json").write_text(content)
    with pytest.raises(DataError, match=r"preprocess\.json") as caught:
        Preprocess.load(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot read"):
        Preprocess.load(tmp_path / "nowhere")
