import numpy as np
import pytest
import torch
from torch import nn

from toolkit.errors import AttackError
from toolkit.privacy.bounds import (
    frame_lengths,
    largest_stretch,
    null_space_bound,
    singular_values,
    size_entropy_bits,
)
from toolkit.wire import WireFormat


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def linear(matrix: torch.Tensor):
    """An edge half that is a matrix on the flattened picture."""
    return lambda x: x.flatten(1) @ matrix.T


def test_fixed_length_frames_tell_nothing_and_four_equal_lengths_tell_two_bits():
    assert str(size_entropy_bits([100] * 9)) == "0.0"
    assert size_entropy_bits([1, 2, 3, 4] * 5) == pytest.approx(2.0)
    assert size_entropy_bits([1, 1, 1, 2]) == pytest.approx(0.8112781)
    with pytest.raises(AttackError, match="no frame"):
        size_entropy_bits([])


def test_lengths_of_frames_tell_something_only_where_they_are_compressed():
    random = np.random.default_rng(0)
    codes = np.zeros((6, 4, 8, 8), np.int8)
    for number, one in enumerate(codes):  # from an empty picture to one that is full of detail
        one.ravel()[: 40 * number] = random.integers(0, 127, 40 * number)
    fmt = WireFormat(4, 8, 8, 8, 0.1, False)
    assert size_entropy_bits(frame_lengths(codes, fmt, "none")) == 0
    assert size_entropy_bits(frame_lengths(codes, fmt, "zstd")) == pytest.approx(np.log2(6))


def test_stretch_and_spectrum_of_a_matrix():
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, n))[0] for n in (20, 12))
    values = torch.linspace(5, 0.5, 12)
    matrix = left[:, :12] @ torch.diag(values) @ right.T
    pictures = torch.rand(3, 3, 2, 2)
    assert largest_stretch(linear(matrix), pictures, 100) == pytest.approx([5.0] * 3, rel=1e-3)
    assert singular_values(linear(matrix), pictures[:1], 4) == pytest.approx(values[:4].tolist(), rel=1e-2)
    with pytest.raises(AttackError, match="singular values"):
        singular_values(linear(matrix), pictures[:1], 13)


def test_stretch_is_local():
    edge = nn.Sequential(nn.Flatten(), nn.ReLU())
    pictures = torch.stack([torch.ones(3, 2, 2), -torch.ones(3, 2, 2)])
    assert largest_stretch(edge, pictures).tolist() == pytest.approx([1.0, 0.0])


def test_null_space_bound_of_a_dropped_colour_is_its_variance():
    """An edge that drops one of three independent channels: nothing tells it, so its variance is left."""
    random = torch.Generator().manual_seed(0)
    pictures = 0.5 + 0.1 * torch.randn(4000, 3, 2, 2, generator=random)
    found = null_space_bound(lambda x: x[:, :2], pictures, 2, gram_pictures=2)
    assert (found.dropped, found.directions) == (4, 12)
    assert found.mse == pytest.approx(0.01 / 3, rel=0.1)
    assert found.variance == pytest.approx(0.01, rel=0.1)
    assert "Gaussian" in found.assumptions


def test_no_bound_where_nothing_is_dropped_and_the_whole_variance_where_all_is():
    random = torch.Generator().manual_seed(1)
    pictures = torch.rand(500, 3, 2, 2, generator=random)
    assert null_space_bound(lambda x: x, pictures, 2, gram_pictures=1).mse == 0
    with pytest.raises(AttackError, match="two pictures"):
        null_space_bound(lambda x: x, pictures[:1], 2)
    # what depends on the dropped channel can be inferred from the others, and the bound knows it
    twins = pictures.clone()
    twins[:, 2] = twins[:, 1]
    assert null_space_bound(lambda x: x[:, :2], twins, 2, gram_pictures=1).mse < 1e-3


def test_the_bound_holds_for_a_regression():
    random = np.random.default_rng(0)
    values = np.clip(0.5 + 0.15 * random.standard_normal((1200, 4, 4, 3)), 0, 1)
    pictures = np.rint(values * 255).astype(np.uint8)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    sent = x[:, :2].numpy()
    bound = null_space_bound(lambda p: p[:, :2], x[:800], 4, gram_pictures=1)
    weights = np.linalg.lstsq(sent[:800].reshape(800, -1), x[:800].flatten(1).numpy(), rcond=None)[0]
    error = float(((sent[800:].reshape(400, -1) @ weights - x[800:].flatten(1).numpy()) ** 2).mean())
    assert 0.9 * bound.mse < error
    assert bound.mse > 0.2 * bound.variance
