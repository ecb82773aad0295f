import pytest
import torch

from tests.unit.patrol.small import FMT, SIDE, patrol_settings, small_data, small_net
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol.data import Batches
from toolkit.patrol.objective import Objective, edge_gradients
from toolkit.patrol.settings import AdversarySettings, LipschitzSettings
from toolkit.patrol.training import make_adversary
from toolkit.wire import decode, encode


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make(settings, net=None, data=None, fmt=FMT):
    net, data = net or small_net(), data or small_data()
    net.train()
    batches = Batches(data, settings.train, (0.5, 0.5, 0.5))
    adversary = make_adversary((FMT.channels, FMT.height, FMT.width), batches, settings, torch.device("cpu"))
    objective = Objective(
        net,
        settings.train,
        fmt,
        lipschitz=settings.lipschitz,
        adversary=adversary,
        noise=settings.noise,
        data=data,
    )
    return net, objective, next(batches.epoch(0))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("form", ["raw", "scale_free"])
@pytest.mark.parametrize("perturbation", ["gaussian", "counterfactual"])
def test_every_declared_term_moves_the_edge(precision, form, perturbation):
    settings = patrol_settings(
        {"precision": precision},
        lipschitz=LipschitzSettings(form=form, perturbation=perturbation, share=1.0),
        adversary=AdversarySettings(decoders=("adversary",), loss="mixed", ceiling=10.0),
    )
    net, objective, batch = make(settings, data=small_data(counterfactuals=True))
    terms = objective.terms(batch)
    assert set(terms.losses) == {"identity", "triplet", "lipschitz", "adversary"}
    norms = edge_gradients(net, terms.losses)
    assert all(norm > 1e-6 for norm in norms.values()), norms


def test_every_term_but_the_wire_free_ones_moves_the_masks():
    net = small_net()
    masks = MaskSet(find_groups(net, torch.zeros(1, 3, SIDE, SIDE)))
    masks.attach(net)
    settings = patrol_settings(adversary=AdversarySettings(decoders=("adversary",), ceiling=10.0))
    net, objective, batch = make(settings, net)
    for name, term in objective.terms(batch).losses.items():
        gradients = torch.autograd.grad(term, list(masks.parameters()), retain_graph=True, allow_unused=True)
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0, name


def test_total_is_the_sum_and_the_adversary_term_is_negative():
    settings = patrol_settings()
    _, objective, batch = make(settings)
    terms = objective.terms(batch)
    values = terms.values()
    assert float(terms.total().detach()) == pytest.approx(sum(float(v.detach()) for v in terms.losses.values()))
    assert values["loss.adversary"] < 0
    assert values["loss.lipschitz"] == pytest.approx(
        settings.lipschitz.alpha * sum(v for k, v in values.items() if k.startswith("lipschitz.")), rel=1e-5
    )


def test_a_term_with_weight_zero_has_no_gradient():
    """What the check is for: a term that is declared and does nothing is seen."""
    settings = patrol_settings(lipschitz=LipschitzSettings(alpha=0.0))
    net, objective, batch = make(settings)
    assert edge_gradients(net, objective.terms(batch).losses)["lipschitz"] == 0.0


def test_the_cloud_sees_the_codes_of_the_wire():
    settings = patrol_settings()
    _, objective, _ = make(settings)
    feature = torch.rand(2, FMT.channels, FMT.height, FMT.width) * 3
    sent = objective.wire(feature, torch.Generator())
    assert torch.equal(sent, torch.from_numpy(decode(encode(feature.numpy(), FMT), FMT)))


def test_private_noise_is_in_steps_and_before_the_quantizer():
    settings = patrol_settings(noise=2.0)
    _, objective, _ = make(settings)
    feature = torch.full((8, FMT.channels, FMT.height, FMT.width), 2.5)
    sent = objective.wire(feature, torch.Generator().manual_seed(0))
    codes = sent / FMT.step
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert float((sent - feature).std()) == pytest.approx(2.0 * FMT.step, rel=0.1)


def test_the_lipschitz_pass_leaves_running_statistics_alone():
    with_term, without = [], []
    for target, lipschitz in ((with_term, LipschitzSettings(share=1.0)), (without, None)):
        net, objective, batch = make(patrol_settings(lipschitz=lipschitz, adversary=None))
        objective.terms(batch)
        target.extend(value for name, value in net.state_dict().items() if "running" in name)
    assert all(torch.equal(a, b) for a, b in zip(with_term, without, strict=True))
