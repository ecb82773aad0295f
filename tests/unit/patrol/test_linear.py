import numpy as np
import pytest
import torch

from tests.unit.patrol.small import FMT, small_data, small_net, train_settings
from toolkit.patrol.data import Batches
from toolkit.patrol.linear import linear_error
from toolkit.patrol.objective import Objective, edge_gradients
from toolkit.patrol.settings import DefenceSettings, LinearSettings


def pictures_and(count=64, channels=12, seed=0):
    """Pictures of 2 x 2 coarse patches of 2 x 2 values, and a feature that is linear in them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    patches = coarse.reshape(count, 3, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(count, 4, 12)
    mixing = torch.randn(12, channels, generator=generator)
    feature = (patches @ mixing).transpose(1, 2).reshape(count, channels, 2, 2)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3), feature


def test_a_linear_feature_is_read_exactly_and_noise_not_at_all():
    pictures, feature = pictures_and()
    assert float(linear_error(feature, pictures, 2, 1e-6).mean()) < 1e-3
    noise = torch.randn(feature.shape, generator=torch.Generator().manual_seed(1))
    assert float(linear_error(noise, pictures, 2, 1e-2).mean()) > 0.95


def test_half_of_the_channels_tell_half():
    pictures, feature = pictures_and(count=256)
    found = float(linear_error(feature[:, :6], pictures, 2, 1e-6).mean())
    assert found == pytest.approx(0.5, abs=0.1)


def test_rescaled_channels_tell_as_much():
    pictures, feature = pictures_and(channels=6)
    scale = torch.logspace(-3, 3, 6).view(1, -1, 1, 1)
    plain, scaled = (linear_error(one, pictures, 2, 1e-2) for one in (feature, feature * scale))
    assert torch.allclose(plain, scaled, atol=1e-2)


def test_errors_belong_to_their_pictures():
    pictures, feature = pictures_and()
    spoiled = feature.clone()
    spoiled[5] = feature[6]
    errors = linear_error(spoiled, pictures, 2, 1e-3)
    assert int(errors.argmax()) == 5


def test_the_edge_learns_to_forget_through_the_solution():
    pictures, feature = pictures_and()
    weight = torch.eye(12).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        sent = torch.einsum("nchw,cd->ndhw", feature, weight) + 0.1 * torch.randn(feature.shape)
        (-linear_error(sent, pictures, 2, 1e-2).mean()).backward()
        optimizer.step()
    sent = torch.einsum("nchw,cd->ndhw", feature, weight.detach()) + 0.1 * torch.randn(feature.shape)
    assert float(linear_error(sent, pictures, 2, 1e-2).mean()) > 0.5


def test_the_term_is_declared_capped_and_reaches_the_edge_half():
    net, data, train = small_net(), small_data(pictures=6), train_settings(identities=6)
    batch = Batches(data, train, (0.5, 0.5, 0.5)).make(np.arange(36), 0, 0)
    terms = Objective(net, train, FMT, linear=LinearSettings(beta=3.0)).terms(batch)
    assert -3.0 <= float(terms.losses["linear"].detach()) < 0
    assert terms.facts["linear.error"] > 0
    assert edge_gradients(net, {"linear": terms.losses["linear"]})["linear"] > 0
    assert "linear" not in DefenceSettings().model_dump()
