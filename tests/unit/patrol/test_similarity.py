import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from toolkit.patrol.similarity import ReconstructionError, mse_per_picture, ssim_per_picture


def test_known_answers():
    a = torch.zeros(2, 3, 16, 16)
    b = torch.stack([torch.full((3, 16, 16), 0.5), torch.zeros(3, 16, 16)])
    assert mse_per_picture(a, b).tolist() == [0.25, 0.0]
    # two constant pictures: only the luminance term is left
    expected = 1e-4 / (0.25 + 1e-4)
    assert ssim_per_picture(a, b).tolist() == pytest.approx([expected, 1.0], abs=1e-6)


def test_ssim_agrees_with_torchmetrics():
    torch.manual_seed(0)
    a = torch.rand(3, 3, 32, 40)
    b = (a + 0.2 * torch.randn_like(a)).clamp(0, 1)
    theirs = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    assert torch.allclose(ssim_per_picture(a, b), theirs, atol=1e-5)


def test_pictures_smaller_than_the_window_work():
    a = torch.rand(2, 3, 4, 6)
    assert ssim_per_picture(a, a).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("name", ["mse", "ssim", "mixed"])
def test_mean_picture_scores_one_and_the_picture_itself_zero(name):
    torch.manual_seed(0)
    pictures = torch.rand(16, 3, 16, 16)
    measure = ReconstructionError(name, pictures)
    mean = pictures.mean(0, keepdim=True).expand_as(pictures)
    assert float(measure(mean, pictures).mean()) == pytest.approx(1.0, abs=1e-5)
    assert float(measure(pictures, pictures).abs().max()) == pytest.approx(0.0, abs=1e-5)


def test_constant_pictures_do_not_divide_by_zero():
    measure = ReconstructionError("mixed", torch.full((4, 3, 12, 12), 0.3))
    assert torch.isfinite(measure(torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12))).all()
