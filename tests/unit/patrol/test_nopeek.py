import numpy as np
import pytest
import torch

from tests.unit.patrol.small import FMT, patrol_settings, small_data, small_net, train_settings
from toolkit.patrol.data import Batches
from toolkit.patrol.nopeek import distance_correlation
from toolkit.patrol.objective import Objective, disturb, edge_gradients
from toolkit.patrol.settings import DefenceSettings, NoPeekSettings
from toolkit.patrol.training import finetune
from toolkit.wire.tensors import encode_tensor


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_definition(a, b):
    """Szekely et al. 2007, equations 2.8 to 2.10, in float64."""

    def centred(x):
        d = np.linalg.norm(x[:, None] - x[None, :], axis=-1)
        return d - d.mean(0) - d.mean(1)[:, None] + d.mean()

    a, b = centred(a.double().numpy()), centred(b.double().numpy())
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def test_distance_correlation_is_the_published_one():
    a, b = draw(20, 7), draw(20, 3, seed=1)
    b = b + a[:, :3]
    assert float(distance_correlation(a, b)) == pytest.approx(by_definition(a, b), abs=1e-4)


def test_it_is_one_for_similar_batches_and_small_for_independent_ones():
    a = draw(200, 2)
    assert float(distance_correlation(a, 3 * a + 5)) == pytest.approx(1.0, abs=1e-4)
    assert float(distance_correlation(a, draw(200, 2, seed=1))) < 0.25


def test_its_gradient_is_finite_where_two_pictures_are_equal():
    a = torch.ones(4, 3, requires_grad=True)
    distance_correlation(a, draw(4, 3)).backward()
    assert torch.isfinite(a.grad).all()


def test_the_term_reaches_the_edge_half_and_is_logged():
    net, data, train = small_net(), small_data(), train_settings()
    objective = Objective(net, train, FMT, nopeek=NoPeekSettings(weight=2.0), data=data)
    terms = objective.terms(Batches(data, train, (0.5, 0.5, 0.5)).make(np.arange(6), 0, 0))
    assert float(terms.losses["nopeek"].detach()) == pytest.approx(2 * terms.facts["nopeek.correlation"])
    assert edge_gradients(net, {"nopeek": terms.losses["nopeek"]})["nopeek"] > 0


def test_minimizing_it_makes_a_map_forget():
    a = draw(64, 6)
    weight = torch.eye(6).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        distance_correlation(a, a @ weight).backward()
        optimizer.step()
    assert float(distance_correlation(a, a @ weight.detach())) < 0.7


def test_a_phase_trains_with_all_baselines_and_resumes(tmp_path):
    settings = DefenceSettings(
        train=train_settings(epochs=2),
        lipschitz=None,
        adversary=None,
        noise=0.5,
        dropout=0.2,
        nopeek=NoPeekSettings(weight=1.0),
    )
    history = finetune(small_net(), small_data(), FMT, settings, tmp_path)
    assert {"loss.nopeek", "nopeek.correlation"} <= set(history.curves)
    again = finetune(small_net(), small_data(), FMT, settings, tmp_path)
    assert again.curves == history.curves


def test_dropout_sends_zeros_and_keeps_the_mean():
    feature = torch.full((4, 50, 10, 10), 2.0)
    sent = disturb(feature, 0.0, 0.25, torch.Generator().manual_seed(0))
    assert float((sent == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(sent.mean()) == pytest.approx(2.0, abs=0.03)
    assert torch.equal(sent, disturb(feature, 0.0, 0.25, torch.Generator().manual_seed(0)))


def test_noise_has_the_size_asked_for_and_changes_codes():
    feature = torch.full((4, 50, 10, 10), 1.0)
    noisy = disturb(feature, 2 * FMT.step, 0.0, torch.Generator().manual_seed(0))
    assert float((noisy - feature).std()) == pytest.approx(2 * FMT.step, rel=0.05)
    codes = encode_tensor(noisy, FMT)
    assert float(codes.float().std()) == pytest.approx(2.0, rel=0.05)
    assert disturb(feature, 0.0, 0.0, torch.Generator()) is feature


def test_settings_without_baselines_keep_their_hash():
    plain = patrol_settings().model_dump(mode="json")
    assert "dropout" not in plain and "nopeek" not in plain
    chosen = DefenceSettings(dropout=0.5, nopeek=NoPeekSettings()).model_dump(mode="json")
    assert chosen["dropout"] == 0.5 and chosen["nopeek"] == {"weight": 1.0}
    assert DefenceSettings.model_validate(chosen).dropout == 0.5
