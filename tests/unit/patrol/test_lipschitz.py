import pytest
import torch
from torch import nn

from toolkit.errors import SettingsError
from toolkit.patrol.lipschitz import (
    Gains,
    block_gains,
    gaussian_perturbation,
    lipschitz_term,
    same_statistics,
)
from toolkit.patrol.settings import LipschitzSettings

RAW = LipschitzSettings(epsilon=1e-12)
FREE = LipschitzSettings(form="scale_free", epsilon=1e-12)


class Scaled(nn.Module):
    def __init__(self, body, factor, offset=0.0):
        super().__init__()
        self.body, self.factor, self.offset = body, factor, offset

    def forward(self, x):
        return self.body(x) * self.factor + self.offset


@pytest.fixture
def blocks():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(6, 4, 3, stride=2, padding=1), nn.Tanh())
    third = nn.Conv2d(4, 5, 1)
    return [("a", first.double()), ("b", second.double()), ("c", third.double())]


@pytest.fixture
def pair():
    torch.manual_seed(1)
    clean = torch.rand(6, 3, 8, 8, dtype=torch.float64)
    return clean, clean + 0.05 * torch.randn_like(clean)


def test_gains_telescope(blocks, pair):
    """The product over blocks is the gain of the whole edge half, pair by pair."""
    gains = block_gains(blocks, *pair, RAW)
    clean, perturbed = pair
    for _, block in blocks:
        clean, perturbed = block(clean), block(perturbed)
    whole = (perturbed - clean).flatten(1).norm(dim=1) / (pair[1] - pair[0]).flatten(1).norm(dim=1)
    assert gains.names == ("a", "b", "c")
    assert torch.allclose(gains.values.prod(0).double(), whole, rtol=1e-4)
    assert bool((gains.constants("max").prod() >= whole.max() * (1 - 1e-4)).item())


def test_linear_block_has_the_norm_ratio_of_its_matrix():
    matrix = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    layer = nn.Conv2d(3, 2, 1, bias=True)
    layer.weight.data = matrix.view(2, 3, 1, 1)
    clean = torch.rand(2, 3, 1, 1)
    shift = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).view(2, 3, 1, 1)
    gains = block_gains([("linear", layer)], clean, clean + shift, RAW)
    expected = torch.tensor([3.0, 5.0 / 2**0.5])
    assert torch.allclose(gains.values[0], expected, rtol=1e-4)
    value, constants = lipschitz_term(gains, LipschitzSettings(alpha=2.0))
    assert float(value.detach()) == pytest.approx(2 * 5 / 2**0.5, rel=1e-4)
    assert constants == {"linear": pytest.approx(5 / 2**0.5, rel=1e-4)}


def test_scale_loophole_of_the_raw_form_and_not_of_the_scale_free_one(blocks, pair):
    """Halving a block's output halves the paper's constant although nothing is hidden; scale-free stays."""
    halved = [blocks[0], ("b", Scaled(blocks[1][1], 0.5)), blocks[2]]
    assert torch.allclose(
        block_gains(halved, *pair, RAW).values[1], block_gains(blocks, *pair, RAW).values[1] / 2, rtol=1e-4
    )
    assert torch.allclose(
        block_gains(halved[:2], *pair, FREE).values, block_gains(blocks[:2], *pair, FREE).values, rtol=1e-4
    )


def test_scale_free_form_ignores_a_constant_added_to_the_feature(blocks, pair):
    shifted = [blocks[0], ("b", Scaled(blocks[1][1], 1.0, offset=100.0))]
    assert torch.allclose(
        block_gains(shifted, *pair, FREE).values, block_gains(blocks[:2], *pair, FREE).values, rtol=1e-3
    )


def test_mean_is_at_most_the_maximum_and_alpha_weighs_blocks(blocks, pair):
    gains = block_gains(blocks, *pair, RAW)
    assert bool((gains.constants("mean") <= gains.constants("max")).all())
    settings = LipschitzSettings(alpha=(1.0, 0.0, 10.0), reduction="mean")
    value, constants = lipschitz_term(gains, settings)
    assert float(value.detach()) == pytest.approx(constants["a"] + 10 * constants["c"], rel=1e-5)


def test_number_of_alphas_must_fit(blocks, pair):
    with pytest.raises(SettingsError, match="2 weights but the edge half has 3 blocks"):
        lipschitz_term(block_gains(blocks, *pair, RAW), LipschitzSettings(alpha=(1.0, 1.0)))


def test_pair_without_difference_counts_as_zero_and_has_a_finite_gradient(blocks, pair):
    clean, perturbed = pair
    perturbed = torch.cat([clean[:1], perturbed[1:]])
    gains = block_gains(blocks, clean, perturbed, LipschitzSettings())
    assert float(gains.values[0, 0].detach()) == 0.0
    gains.values.sum().backward()
    assert all(torch.isfinite(p.grad).all() for _, block in blocks for p in block.parameters())


@pytest.mark.parametrize("source", ["running", "batch"])
def test_both_passes_share_statistics_and_leave_them_alone(source):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    net.train()
    net(torch.rand(4, 3, 8, 8))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    clean = torch.rand(4, 3, 8, 8)
    with same_statistics(net, source):
        gains = block_gains([("f", net)], clean, clean.clone(), LipschitzSettings())
        assert float(gains.values.detach().abs().max()) == 0.0  # the same picture twice gives the same feature
        gains = block_gains([("f", net)], clean, clean + 0.1, LipschitzSettings())
        gains.values.sum().backward()
    assert net[0].weight.grad is not None and float(net[1].weight.grad.abs().sum()) > 0
    assert net[1].training and net[1].track_running_stats
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gaussian_perturbation_repeats_with_its_generator():
    perturb = gaussian_perturbation(0.5)
    clean = torch.zeros(4, 3, 16, 16)
    first = perturb(clean, torch.Generator().manual_seed(3))
    second = perturb(clean, torch.Generator().manual_seed(3))
    assert torch.equal(first, second)
    assert float(first.std()) == pytest.approx(0.5, rel=0.05)


def test_gains_are_a_plain_record():
    gains = Gains(("a",), torch.tensor([[1.0, 3.0]]))
    assert gains.constants("max").item() == 3.0
    assert gains.constants("mean").item() == 2.0
