import inspect

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from tests.unit.privacy.toys import blobs
from toolkit.errors import AttackError
from toolkit.privacy.similarity import compare, mse, psnr, ssim, ssim_tensor, unit, worst_picture


def test_identical_pictures_are_one_and_infinite():
    pictures = blobs(3)
    score = compare(pictures, pictures)
    assert (score.mse == 0).all()
    assert np.isinf(score.psnr).all()
    assert score.ssim == pytest.approx(1.0, abs=1e-12)


def test_constant_offset_has_the_psnr_computed_by_hand():
    a = np.full((1, 16, 16, 3), 100, np.uint8)
    b = a + 51  # 0.2 of the range: MSE 0.04, PSNR 10 log10(25) = 13.9794 dB
    score = compare(a, b)
    assert score.mse[0] == pytest.approx(0.04, abs=1e-12)
    assert score.psnr[0] == pytest.approx(13.979400, abs=1e-5)
    # flat pictures: the structure term is 1, SSIM is the luminance term alone
    x, y, c = 100 / 255, 151 / 255, 1e-4
    assert score.ssim[0] == pytest.approx((2 * x * y + c) / (x * x + y * y + c), abs=1e-9)


def test_range_of_255_and_of_1_agree_and_mixing_them_is_refused():
    a, b = unit(blobs(2, 0)), unit(blobs(2, 1))
    assert psnr(a, b, data_range=1.0) == pytest.approx(psnr(a * 255, b * 255, data_range=255.0), abs=1e-9)
    trap = psnr(a, b, data_range=255.0) - psnr(a, b, data_range=1.0)
    assert trap == pytest.approx(20 * np.log10(255), abs=1e-9)  # 48.13 dB: why the range must be named
    with pytest.raises(AttackError, match="clip"):
        psnr(a * 255, b * 255, data_range=1.0)


@pytest.mark.parametrize("function", [mse, psnr, ssim])
def test_no_call_without_a_data_range(function):
    parameter = inspect.signature(function).parameters["data_range"]
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.default is inspect.Parameter.empty
    with pytest.raises(TypeError):
        function(unit(blobs(1)), unit(blobs(1)))


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (11, 11)])
def test_agrees_with_torchmetrics(size):
    random = np.random.default_rng(1)
    a = random.integers(0, 256, (4, *size, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + random.integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    score = compare(a, b)
    x, y = (torch.from_numpy(unit(v)).permute(0, 3, 1, 2) for v in (a, b))
    theirs = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert score.ssim == pytest.approx(theirs.numpy(), abs=1e-9)
    noise = peak_signal_noise_ratio(x, y, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert score.psnr == pytest.approx(noise.numpy(), abs=1e-5)


def test_values_do_not_depend_on_the_reconstructions_own_range():
    original = blobs(1)
    faint = (original // 8).astype(np.uint8)
    x, y = (torch.from_numpy(unit(v)).permute(0, 3, 1, 2) for v in (faint, original))
    expected = structural_similarity_index_measure(x, y, data_range=1.0)
    assert compare(faint, original).ssim[0] == pytest.approx(float(expected), abs=1e-9)


def test_gradient_of_ssim_is_right():
    torch.manual_seed(0)
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    y = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: ssim_tensor(v, y, data_range=1.0), (x,))


def test_the_95th_percentile_picture():
    values = np.arange(100, dtype=float)
    assert worst_picture(values, leak_is_high=True) == (94, 94.0)
    assert worst_picture(values, leak_is_high=False) == (5, 5.0)
    assert worst_picture(np.array([0.5]), leak_is_high=True) == (0, 0.5)


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8), "at least 11"),
        (np.zeros((1, 16, 16, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8), "shape"),
        (np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 16, 16, 3), np.float32), "uint8"),
    ],
)
def test_bad_pictures_are_named(a, b, match):
    with pytest.raises(AttackError, match=match):
        compare(a, b)


@pytest.mark.parametrize("data_range", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_ranges_are_refused(data_range):
    with pytest.raises(AttackError, match="data_range"):
        mse(unit(blobs(1)), unit(blobs(1)), data_range=data_range)
