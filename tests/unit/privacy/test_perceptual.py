import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from tests.unit.privacy.toys import blobs
from toolkit.errors import AttackError
from toolkit.privacy.perceptual import ALEXNET_LAYERS, Lpips, fits_ms_ssim, ms_ssim


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    found = {}
    for place, (at, before, after, kernel, *_) in enumerate(ALEXNET_LAYERS):
        found[f"features.{at}.weight"] = 0.05 * torch.randn(after, before, kernel, kernel, generator=random)
        found[f"features.{at}.bias"] = torch.zeros(after)
        found[f"lin{place}.model.1.weight"] = torch.rand(1, after, 1, 1, generator=random)
    return found


@pytest.fixture
def lpips(tmp_path):
    torch.set_num_threads(1)
    save_file(weights(), tmp_path / "alex.safetensors")
    return Lpips.load(tmp_path / "alex.safetensors")


def test_ms_ssim_agrees_with_torchmetrics_and_is_one_for_identical_pictures():
    a, b = blobs(3, 0, 176), blobs(3, 1, 176)
    b = (0.6 * a + 0.4 * b).astype(np.uint8)
    x, y = (torch.from_numpy(v).permute(0, 3, 1, 2).double() / 255 for v in (a, b))
    expected = multiscale_structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert ms_ssim(a, b) == pytest.approx(expected.numpy(), abs=1e-5)
    assert ms_ssim(a, a) == pytest.approx([1.0] * 3)


def test_ms_ssim_is_refused_where_five_scales_do_not_fit():
    assert not fits_ms_ssim(160, 300)
    assert fits_ms_ssim(161, 161)
    with pytest.raises(AttackError, match="at least 161"):
        ms_ssim(blobs(1), blobs(1))
    with pytest.raises(AttackError, match="do not compare"):
        ms_ssim(blobs(1), blobs(2))


def test_lpips_is_zero_for_identical_pictures_symmetric_and_grows_with_blur(lpips):
    a, b = blobs(2, 0, 64), blobs(2, 1, 64)
    assert lpips.distance(a, a) == pytest.approx([0.0, 0.0])
    assert lpips.distance(a, b) == pytest.approx(lpips.distance(b, a))
    near = (0.9 * a + 0.1 * b).astype(np.uint8)
    assert (lpips.distance(a, near) < lpips.distance(a, b)).all()


def test_lpips_of_one_layer_by_hand(tmp_path):
    """All heads but the first are zero: squared distance of unit channel vectors, weighted, mean over places."""
    tensors = weights(1)
    for place in range(1, 5):
        tensors[f"lin{place}.model.1.weight"].zero_()
    save_file(tensors, tmp_path / "w.safetensors")
    model = Lpips.load(tmp_path / "w.safetensors")
    a, b = blobs(1, 2, 40), blobs(1, 3, 40)
    features = []
    for picture in (a, b):
        x = torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255 * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).view(1, 3, 1, 1)
        x = torch.conv2d(x, tensors["features.0.weight"], stride=4, padding=2).clamp_min(0)
        features.append(x / x.norm(dim=1, keepdim=True).clamp_min(1e-10))
    gap = (features[0] - features[1]) ** 2 * tensors["lin0.model.1.weight"]
    assert model.distance(a, b)[0] == pytest.approx(float(gap.sum(1).mean()), rel=1e-4)


def test_weights_that_are_absent_or_do_not_fit_are_named(tmp_path):
    with pytest.raises(AttackError, match="cannot be read"):
        Lpips.load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"xx")
    with pytest.raises(AttackError, match="cannot be read"):
        Lpips.load(tmp_path / "broken.safetensors")
    tensors = weights()
    del tensors["features.6.bias"]
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(AttackError, match="do not fit"):
        Lpips.load(tmp_path / "part.safetensors")
