import pytest
import torch

from toolkit.errors import ModelError
from toolkit.models.decoders import (
    Standardize,
    build_decoder,
    check_decoder_name,
    parameter_count,
)

NAMES = ("adversary", "he_shallow", "trunk_c16", "residual_n1c8", "residual_n2c12")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("feature", "picture"),
    [((5, 4, 4), 16), ((3, 8, 8), 8), ((7, 3, 5), (17, 23)), ((4, 1, 1), (9, 2)), ((2, 9, 9), (4, 4))],
)
def test_any_feature_shape_reaches_any_picture_size(name, feature, picture):
    decoder = build_decoder(name, *feature, picture)
    decoded = decoder(torch.randn(2, *feature) * 50)
    height, width = (picture, picture) if isinstance(picture, int) else picture
    assert decoded.shape == (2, 3, height, width)
    assert decoded.dtype == torch.float32
    assert float(decoded.detach().min()) >= 0.0 and float(decoded.detach().max()) <= 1.0


@pytest.mark.parametrize("name", [*NAMES, "trunk"])
def test_every_parameter_gets_a_gradient(name):
    decoder = build_decoder(name, 6, 4, 4, 8)
    feature = torch.randn(3, 6, 4, 4, requires_grad=True)
    (decoder(feature) - torch.rand(3, 3, 8, 8)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())
    assert float(feature.grad.abs().sum()) > 0


def test_the_sizes_that_the_sources_give():
    assert 0.2e6 < parameter_count(build_decoder("adversary", 128, 8, 8, 64)) < 0.35e6
    trunk = build_decoder("trunk", 1, 8, 8, 64)
    convolutions = 3 * 256 * 256 * 9
    assert abs(parameter_count(trunk) - convolutions) < 0.02 * convolutions  # 1.78 M in the paper
    assert parameter_count(build_decoder("residual_n8c64", 128, 8, 8, 64)) > parameter_count(
        build_decoder("residual_n4c64", 128, 8, 8, 64)
    )


def test_scaling_the_feature_hides_nothing():
    """A decoder in its first training batch gives the same picture for a feature and for 0.01 of it."""
    torch.manual_seed(1)
    plain = build_decoder("adversary", 4, 4, 4, 16)
    torch.manual_seed(1)
    scaled = build_decoder("adversary", 4, 4, 4, 16)
    feature = torch.randn(8, 4, 4, 4) + 3
    assert torch.allclose(plain(feature), scaled(feature * 0.1), atol=1e-3)


def test_standardize_freezes_in_evaluation_and_sets_on_first_batch():
    layer = Standardize(2)
    feature = torch.stack([torch.full((4, 4), 5.0), torch.arange(16.0).view(4, 4)]).unsqueeze(0)
    out = layer(feature)
    assert torch.allclose(layer.mean, torch.tensor([5.0, 7.5]))
    assert float(out[0, 1].std(unbiased=False)) == pytest.approx(1.0, abs=1e-5)
    layer.eval()
    before = layer.mean.clone()
    layer(feature + 100)
    assert torch.equal(before, layer.mean)


def test_pictures_of_a_batch_do_not_touch_each_other():
    decoder = build_decoder("adversary", 4, 4, 4, 8).eval()
    feature = torch.randn(4, 4, 4, 4)
    assert torch.allclose(decoder(feature)[:1], decoder(feature[:1]), atol=1e-6)


@pytest.mark.parametrize("name", ["", "resnet", "residual_n0c8", "residual_n4c", "trunk_c0", "Trunk"])
def test_unknown_names_are_refused_with_the_list(name):
    with pytest.raises(ModelError, match="residual_n8c64"):
        check_decoder_name(name)


def test_wrong_sizes_are_refused():
    with pytest.raises(ModelError, match="positive"):
        build_decoder("trunk", 4, 0, 4, 8)
    with pytest.raises(ModelError, match=r"takes \(N, 4, h, w\)"):
        build_decoder("adversary", 4, 4, 4, 8)(torch.zeros(1, 5, 4, 4))
