import numpy as np
import pytest
import torch

from tests.unit.patrol.small import FMT, small_data, small_net, train_settings
from toolkit.patrol.data import Batches
from toolkit.patrol.linear import LIMIT, LinearAdversary
from toolkit.patrol.objective import Objective, edge_gradients
from toolkit.patrol.settings import DefenceSettings, LinearSettings

SIZE = (16, 16)


def pictures_and(count=64, channels=12, seed=0, mixing_seed=7):
    """Pictures of 4 x 4 values, and a feature of 2 x 2 positions that is linear in each one's 2 x 2 values."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    patches = coarse.reshape(count, 3, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(count, 4, 12)
    mixing = torch.randn(12, channels, generator=torch.Generator().manual_seed(mixing_seed))
    feature = (patches @ mixing).transpose(1, 2).reshape(count, channels, 2, 2)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3), feature


def adversary(channels=12, **changes):
    options = {"coarse": 4, "ridge": 1e-4, "features": 0} | changes
    return LinearAdversary((channels, 2, 2), SIZE, LinearSettings.model_validate(options))


def believed(judge, change=lambda feature: feature, rounds=30, channels=12):
    """Mean error after so many batches of fresh pictures."""
    for seed in range(rounds):
        pictures, feature = pictures_and(channels=channels, seed=seed)
        error = judge.play(change(feature), pictures)
    return float(error.mean())


def test_a_linear_feature_is_read_exactly_and_noise_not_at_all():
    assert believed(adversary()) < 1e-2
    noise = torch.Generator().manual_seed(1)
    assert believed(adversary(), lambda feature: torch.randn(feature.shape, generator=noise)) > 0.97


def test_half_of_the_channels_tell_half():
    assert believed(adversary(6), lambda feature: feature[:, :6]) == pytest.approx(0.5, abs=0.1)


def test_what_one_position_knows_of_another_is_found():
    """A feature that is the same everywhere still tells the whole picture to one who looks at all of it."""
    moved = believed(adversary(), lambda feature: feature.roll(1, 3))
    assert moved < 1e-2, "each position holds its neighbour's patch"


def test_rescaled_and_dead_channels_change_nothing():
    scale = torch.logspace(-3, 3, 12).view(1, -1, 1, 1)
    plain, scaled = believed(adversary()), believed(adversary(), lambda feature: feature * scale)
    assert scaled == pytest.approx(plain, abs=1e-2)
    dead = torch.tensor([1.0] * 6 + [0.0] * 6).view(1, -1, 1, 1)
    assert believed(adversary(), lambda feature: feature * dead) == pytest.approx(
        believed(adversary(6), lambda feature: feature[:, :6]), abs=1e-3
    )


def test_many_batches_see_what_one_cannot():
    """48 values and 16 pictures a batch: alone they explain nothing of new pictures."""
    judges = {memory: adversary(memory=memory, ridge=0.01) for memory in (1, 40)}
    for seed in range(80):
        pictures, feature = pictures_and(count=16, seed=seed)
        errors = {memory: float(judge.play(feature, pictures).mean()) for memory, judge in judges.items()}
    assert errors[40] < 0.15 < errors[1]


def test_the_first_batch_is_judged_as_unknown_and_errors_belong_to_their_pictures():
    judge = adversary()
    pictures, feature = pictures_and()
    feature.requires_grad_()
    first = judge.play(feature, pictures)
    assert first.tolist() == [1.0] * 64
    first.sum().backward()
    assert not feature.grad.any()
    believed(judge)
    with torch.no_grad():
        feature[5] = feature[6]
        assert int(judge.play(feature, pictures).argmax()) == 5


def test_random_features_see_what_is_not_linear():
    """The square of a value around zero is nothing to ridge regression alone."""

    def judged(features):
        judge = adversary(3, ridge=0.01, features=features, memory=60)
        for seed in range(150):
            generator = torch.Generator().manual_seed(seed)
            hidden = 2 * torch.rand(256, 3, 2, 2, generator=generator) - 1
            pictures = (hidden.square()).repeat_interleave(8, 2).repeat_interleave(8, 3)
            error = judge.play(hidden, pictures)
        return float(error.mean())

    assert judged(0) > 0.9 and judged(256) < 0.3


def test_a_large_feature_is_averaged_and_small_pictures_are_not_stretched():
    judge = LinearAdversary((128, 16, 16), (8, 8), LinearSettings())
    assert judge.grid == (4, 4) and judge.x.numel() == LIMIT
    assert judge.coarse == (8, 8)
    assert judge.play(torch.rand(4, 128, 16, 16), torch.rand(4, 3, 8, 8)).shape == (4,)


def test_the_edge_learns_to_forget():
    judge, weight = adversary(ridge=0.01, memory=5), torch.eye(12).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.02)
    noise = torch.Generator().manual_seed(3)
    for seed in range(200):
        pictures, feature = pictures_and(seed=seed)
        sent = torch.einsum("nchw,cd->ndhw", feature, weight)
        sent = sent + 0.1 * torch.randn(sent.shape, generator=noise)
        optimizer.zero_grad()
        (-judge.play(sent, pictures).clamp(max=1.0).mean()).backward()
        optimizer.step()

    def learned(feature):
        return torch.einsum("nchw,cd->ndhw", feature, weight.detach()) + 0.1 * torch.randn(feature.shape)

    before = believed(adversary(ridge=0.01), lambda feature: feature + 0.1 * torch.randn(feature.shape))
    assert before < 0.05
    assert believed(adversary(ridge=0.01), learned) > 0.3, "a fresh attacker agrees"


def test_its_state_is_all_it_remembers():
    judge, other = adversary(), adversary()
    believed(judge, rounds=7)
    other.load_state_dict(judge.state_dict())
    pictures, feature = pictures_and(seed=99)
    assert torch.equal(judge.play(feature, pictures), other.play(feature, pictures))
    assert torch.equal(judge.weights, other.weights)


def test_the_term_is_declared_capped_and_reaches_the_edge_half():
    net, data, train = small_net(), small_data(pictures=6), train_settings(identities=6)
    batches = Batches(data, train, (0.5, 0.5, 0.5))
    linear = LinearAdversary(
        (FMT.channels, FMT.height, FMT.width), data.picture_size, LinearSettings(beta=3.0, features=64)
    )
    objective = Objective(net, train, FMT, linear=linear)
    for step in range(12):
        terms = objective.terms(batches.make(np.arange(36), 0, step))
    assert -3.0 <= float(terms.losses["linear"].detach()) < 0
    assert terms.facts["linear.error"] > 0
    assert edge_gradients(net, {"linear": terms.losses["linear"]})["linear"] > 0
    assert "linear" not in DefenceSettings().model_dump()
