import pytest
import torch
from pydantic import ValidationError

from toolkit.patrol.adversary import Adversary
from toolkit.patrol.settings import AdversarySettings
from toolkit.patrol.similarity import ReconstructionError

SHAPE, SIZE = (6, 4, 4), (8, 8)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def data():
    torch.manual_seed(0)
    pictures = torch.rand(12, 3, 8, 8)
    mix = torch.randn(6, 3)
    feature = torch.einsum("cd,ndhw->nchw", mix, torch.nn.functional.avg_pool2d(pictures, 2))
    return feature, pictures


def make(pictures, **options):
    options.setdefault("decoders", ("residual_n1c8",))
    return Adversary(SHAPE, SIZE, AdversarySettings(**options), ReconstructionError("mse", pictures), seed=5)


def test_shared_pass_gives_the_gradient_of_the_capped_reward(data):
    """Against plain autograd through the decoder as it stood before its step."""
    feature, pictures = data
    # no batch normalization: pictures are independent, so the shared gradient is exact
    twin = make(pictures, decoders=("adversary",))
    ceiling = float(twin.measure(twin.decoders[0](feature), pictures).detach().quantile(0.45))
    ours = make(pictures, decoders=("adversary",), beta=3.0, ceiling=ceiling)
    leaf = feature.clone().requires_grad_()
    reward = ours.play(leaf, pictures, step=0)
    reward.term.backward()

    plain = feature.clone().requires_grad_()
    errors = twin.measure(twin.decoders[0](plain), pictures)
    expected = -3.0 * errors.clamp(max=ceiling).mean()
    expected.backward()
    assert float(reward.term.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert torch.allclose(leaf.grad, plain.grad, atol=1e-6)
    assert float(leaf.grad.abs().sum()) > 0
    assert 0.3 < reward.capped < 0.7
    assert reward.error == pytest.approx(float(errors.detach().mean()), rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "ssim", "mixed"])
def test_its_opinion_is_the_r2_of_the_better_decoder_whatever_the_loss(data, loss):
    feature, pictures = data
    names = ("adversary", "residual_n1c8")
    ours, twin = (
        Adversary(
            SHAPE, SIZE, AdversarySettings(decoders=names, loss=loss), ReconstructionError(loss, pictures), 5
        )
        for _ in range(2)
    )
    reward = ours.play(feature, pictures, step=0)
    with torch.no_grad():
        found = [
            1 - float((decoder(feature) - pictures).square().mean()) / twin.measure.mse_of_mean
            for decoder in twin.decoders
        ]
    assert reward.r2 == pytest.approx(max(found), abs=1e-4)


def test_nothing_is_rewarded_past_the_ceiling(data):
    feature, pictures = data
    adversary = make(pictures, ceiling=1e-4, beta=2.0)
    leaf = feature.clone().requires_grad_()
    reward = adversary.play(leaf, pictures, step=0)
    reward.term.backward()
    assert reward.capped == 1.0
    assert float(leaf.grad.abs().max()) == 0.0
    assert float(reward.term.detach()) == pytest.approx(-2.0 * 1e-4, rel=1e-4)


def test_decoders_learn_and_more_inner_steps_learn_faster(data):
    feature, pictures = data
    errors = {}
    for steps in (1, 3):
        adversary = make(pictures, inner_steps=steps)
        errors[steps] = [adversary.play(feature, pictures, step).error for step in range(15)]
    assert errors[1][-1] < 0.8 * errors[1][0]
    assert errors[3][-1] < errors[1][-1]


def test_the_edge_does_not_train_the_decoder(data):
    """The decoder minimizes the error; the edge's backward pass leaves no gradient in it."""
    feature, pictures = data
    adversary = make(pictures)
    leaf = feature.clone().requires_grad_()
    reward = adversary.play(leaf, pictures, step=0)
    before = [p.grad.clone() for p in adversary.parameters()]
    reward.term.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(before, adversary.parameters(), strict=True))


def test_worst_of_an_ensemble_is_the_best_reconstruction(data):
    feature, pictures = data
    adversary = make(pictures, decoders=("residual_n1c8", "residual_n1c12"), ensemble="worst")
    errors = torch.stack([adversary.measure(d(feature), pictures) for d in adversary.decoders]).detach()
    adversary = make(pictures, decoders=("residual_n1c8", "residual_n1c12"), ensemble="worst")
    reward = adversary.play(feature.clone().requires_grad_(), pictures, 0)
    assert reward.error == pytest.approx(float(errors.min(0).values.mean()), rel=1e-4)
    mean = make(pictures, decoders=("residual_n1c8", "residual_n1c12"), ensemble="mean")
    assert mean.play(feature, pictures, 0).error == pytest.approx(float(errors.mean()), rel=1e-4)


def test_turns_train_one_decoder_a_step(data):
    feature, pictures = data
    adversary = make(pictures, decoders=("residual_n1c8", "residual_n1c8"), ensemble="turns")
    before = [p.clone() for p in adversary.decoders[1].parameters()]
    adversary.play(feature, pictures, step=0)
    assert all(torch.equal(a, b) for a, b in zip(before, adversary.decoders[1].parameters(), strict=True))
    adversary.play(feature, pictures, step=1)
    assert not all(torch.equal(a, b) for a, b in zip(before, adversary.decoders[1].parameters(), strict=True))


def test_reinitialization_is_fresh_seeded_and_takes_turns(data):
    feature, pictures = data
    adversary = make(pictures, decoders=("residual_n1c8", "residual_n1c8"), reset_every=3)
    assert [adversary.due_for_reset(epoch) for epoch in range(10)] == [
        None, None, None, 0, None, None, 1, None, None, 0,
    ]  # fmt: skip
    first = adversary.decoders[0].body[0].body[0].weight.clone()
    adversary.play(feature, pictures, 0)
    adversary.reinitialize(0, generation=3)
    fresh = adversary.decoders[0].body[0].body[0].weight
    assert not torch.equal(first, fresh)
    assert adversary.optimizers[0].state == {}
    again = make(pictures, decoders=("residual_n1c8", "residual_n1c8"))
    again.reinitialize(0, generation=3)
    assert torch.equal(fresh, again.decoders[0].body[0].body[0].weight)


def test_seed_does_not_disturb_the_callers_generator(data):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    make(data[1])
    assert torch.equal(expected, torch.rand(1))


@pytest.mark.parametrize("options", [{"decoders": ()}, {"decoders": ("nonsense",)}, {"inner_steps": 0}, {"x": 1}])
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValidationError):
        AdversarySettings(**options)
