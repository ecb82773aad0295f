"""Augmentation: each part alone, and that only (seed, epoch, step) decides."""

import numpy as np
import pytest
import torch

from toolkit.errors import DataError
from toolkit.reid.augmentation import AugmentSettings, augment

OFF = AugmentSettings(flip=0, shift=0, zoom=0, brightness=0, contrast=0, saturation=0, tint=0, erase=0)
PICTURES = np.random.default_rng(0).integers(0, 256, (16, 20, 30, 3), dtype=np.uint8)
PLAIN = torch.from_numpy(PICTURES).permute(0, 3, 1, 2).float() / 255


def _only(**parts: object) -> AugmentSettings:
    return OFF.model_copy(update=parts)


def test_everything_off_is_the_plain_input() -> None:
    out = augment(PICTURES, OFF, 0, 0, 0)
    torch.testing.assert_close(out, PLAIN, rtol=0, atol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_flip_mirrors_all_or_some() -> None:
    torch.testing.assert_close(augment(PICTURES, _only(flip=1.0), 0, 0, 0), PLAIN.flip(-1), rtol=0, atol=0)
    some = augment(PICTURES, _only(flip=0.5), 0, 0, 0)
    mirrored = [torch.equal(some[i], PLAIN[i].flip(-1)) for i in range(16)]
    kept = [torch.equal(some[i], PLAIN[i]) for i in range(16)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 0 < sum(mirrored) < 16


def test_shift_moves_within_its_reach_and_repeats_the_edge() -> None:
    ramp = np.broadcast_to(np.arange(30, dtype=np.uint8)[None, None, :, None], (64, 20, 30, 3)).copy()
    out = (augment(ramp, _only(shift=0.1), 0, 0, 0) * 255).round().numpy()
    moves = set()
    for picture in out:
        row = picture[0, 0]
        move = int(row[15]) - 15
        np.testing.assert_array_equal(row, np.clip(np.arange(30) + move, 0, 29))
        moves.add(move)
    assert moves == {-3, -2, -1, 0, 1, 2, 3}


def test_zoom_magnifies_each_axis_around_the_middle() -> None:
    ramp = np.broadcast_to(np.arange(31, dtype=np.uint8)[None, None, :, None] * 8, (64, 21, 31, 3)).copy()
    out = (augment(ramp, _only(zoom=0.5), 0, 0, 0) * 255).round().numpy() / 8
    spans = [float(row[20] - row[10]) for row in out[:, 0, 0]]
    assert (out[:, 0, 0, 15] == 15).all()
    assert min(spans) >= 6
    assert max(spans) <= 15
    assert min(spans) < 9 < 11 < max(spans)


def test_tint_scales_the_colours_apart() -> None:
    grey = np.full((8, 4, 4, 3), 100, np.uint8)
    out = augment(grey, _only(tint=0.2), 0, 0, 0)[:, :, 0, 0] * 255
    assert out.std(1).min() > 0
    assert out.min() >= 79.9
    assert out.max() <= 120.1


def test_jitter_changes_what_it_names_and_stays_in_range() -> None:
    bright = augment(PICTURES, _only(brightness=0.5), 0, 0, 0)
    ratio = (bright / PLAIN.clamp(min=0.1))[:, :, 0, 0]
    assert (bright - PLAIN).abs().max() > 0.05
    assert ratio.std() > 0
    grey = np.repeat(PICTURES[..., :1], 3, axis=3)
    unchanged = augment(grey, _only(saturation=0.9), 0, 0, 0)
    torch.testing.assert_close(unchanged[:, 0], torch.from_numpy(grey[..., 0]) / 255, atol=1e-5, rtol=0)
    flat = np.full_like(PICTURES, 90)
    torch.testing.assert_close(
        augment(flat, _only(contrast=0.9), 0, 0, 0), torch.full_like(PLAIN, 90 / 255), atol=1e-5, rtol=0
    )
    wild = augment(PICTURES, _only(brightness=0.9, contrast=0.9, saturation=0.9), 0, 0, 0)
    assert wild.min() >= 0
    assert wild.max() <= 1


def test_erasing_fills_one_rectangle_of_the_asked_area() -> None:
    white = np.full((200, 40, 40, 3), 255, dtype=np.uint8)
    out = augment(white, _only(erase=1.0, erase_area=(0.1, 0.2)), 0, 0, 0, fill=(0.25, 0.5, 0.75))
    erased = (out[:, 0] == 0.25) & (out[:, 1] == 0.5) & (out[:, 2] == 0.75)
    assert (out[:, 0][~erased] == 1).all()
    for mask in erased:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns
        assert 0.08 <= mask.float().mean() <= 0.22
    share = (augment(white, _only(erase=0.5), 0, 0, 0) != 1).flatten(1).any(1).float().mean()
    assert 0.35 < share < 0.65


def test_seed_epoch_and_step_alone_decide() -> None:
    settings = AugmentSettings()
    base = augment(PICTURES, settings, 1, 2, 3)
    assert torch.equal(base, augment(PICTURES, settings, 1, 2, 3))
    torch.manual_seed(99)
    np.random.default_rng(99)
    assert torch.equal(base, augment(PICTURES, settings, 1, 2, 3))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(base, augment(PICTURES, settings, *other))


def test_repeats_within_a_batch_differ() -> None:
    out = augment(np.repeat(PICTURES[:1], 4, axis=0), AugmentSettings(), 0, 0, 0)
    assert len({row.numpy().tobytes() for row in out}) == 4


@pytest.mark.parametrize("pictures", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)])
def test_other_arrays_are_refused(pictures: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8"):
        augment(pictures, OFF, 0, 0, 0)


@pytest.mark.parametrize("wrong", [{"flip": 2}, {"brightness": 1}, {"erase_area": (0.5, 0.1)}, {"hue": 1}])
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        AugmentSettings(**wrong)
