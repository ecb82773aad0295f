import pytest
import torch
from torch import nn

from toolkit.errors import TrainingError
from toolkit.patrol.cost import EdgeCost, PartCost
from toolkit.patrol.settings import MaskSettings
from toolkit.patrol.sparsity import ProximalMasks, Steering

ISTA = {"method": "ista", "weighting": "uniform"}


def masks(**sizes):
    return {name: nn.Parameter(torch.ones(size)) for name, size in sizes.items()}


def cost(align=1, **sizes):
    a, b = (("a", 1.0),), (("b", 1.0),)
    parts = [PartCost("first", 100.0, (a,)), PartCost("second", 300.0, (a, b)), PartCost("fixed", 20.0, ())]
    return EdgeCost(parts, sizes or {"a": 8, "b": 16}, align)


def test_cost_is_the_product_of_both_sides():
    edge = cost()
    assert edge.full == 420.0
    assert edge({"a": 8, "b": 16}) == 420.0
    assert edge({"a": 4, "b": 4}) == 50.0 + 300.0 / 2 / 4 + 20.0


def test_cost_of_a_shared_dimension_and_of_a_block_that_goes():
    side = (("a", 0.25), ("b", 0.5))  # a quarter of the dimension is nobody's
    edge = EdgeCost([PartCost("x", 80.0, (side, (("block:r", 1.0),)))], {"a": 2, "b": 4, "block:r": 0})
    assert edge({"a": 1, "b": 0, "block:r": 1}) == 80.0 * (0.25 + 0.125)
    assert edge({"a": 2, "b": 4, "block:r": 0}) == 0.0
    assert (edge.least("a", 1), edge.least("block:r", 1)) == (1, 0)


def test_alignment_is_charged():
    edge = cost(align=8, a=8, b=20)
    assert edge.charged("b", 1) == 8
    assert edge.charged("b", 17) == 20  # never more than there are
    assert edge({"a": 1, "b": 20}) == edge({"a": 8, "b": 20})


def test_soft_threshold_is_exact():
    """Without a gradient an ISTA step is max(m - t, 0)."""
    parameters = masks(a=3)
    parameters["a"].data = torch.tensor([1.0, 0.3, 0.05])
    proximal = ProximalMasks(parameters, MaskSettings(**ISTA))
    proximal.step(0.1)
    assert torch.allclose(parameters["a"].detach(), torch.tensor([0.9, 0.2, 0.0]))
    assert parameters["a"][2].item() == 0.0
    proximal.step(0.1)
    assert torch.allclose(parameters["a"].detach(), torch.tensor([0.8, 0.1, 0.0]))
    assert proximal.norm() == pytest.approx(0.9)


@pytest.mark.parametrize("method", ["ista", "fista"])
def test_converges_to_the_lasso_solution(method):
    """min 0.5 |m - b|^2 + lambda |m|_1 on [0, 1] has m = clamp(b - lambda, 0, 1); relative steps end near it."""
    target = torch.tensor([0.9, 0.5, 0.15, 0.02, 2.0])
    parameters = masks(a=5)
    proximal = ProximalMasks(parameters, MaskSettings(method=method, weighting="uniform", learning_rate=0.004))
    for _ in range(800):
        gradient = parameters["a"].detach() - target
        parameters["a"].grad = gradient
        # the prox threshold of a step that is relative to the gradient's root mean square
        proximal.step(0.2 * 0.004 / float(gradient.square().mean().sqrt()))
    solution = (target - 0.2).clamp(0, 1)
    assert torch.allclose(parameters["a"].detach(), solution, atol=0.03)
    assert parameters["a"][2].item() == 0.0 and parameters["a"][3].item() == 0.0


def test_fista_is_ahead_of_ista():
    distances = {}
    for method in ("ista", "fista"):
        parameters = masks(a=2)
        proximal = ProximalMasks(parameters, MaskSettings(method=method, weighting="uniform", learning_rate=0.002))
        for _ in range(40):
            parameters["a"].grad = parameters["a"].detach() - torch.tensor([0.2, 0.4])
            proximal.step(0.0)
        distances[method] = float((parameters["a"].detach() - torch.tensor([0.2, 0.4])).norm())
    assert distances["fista"] < distances["ista"]


@pytest.mark.parametrize("minimum", [1, 3])
def test_a_layer_is_never_emptied(minimum):
    parameters = masks(a=6, tiny=2)
    parameters["a"].data = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    proximal = ProximalMasks(parameters, MaskSettings(minimum_channels=minimum, **ISTA))
    for _ in range(5):
        proximal.step(1.0)
    assert proximal.kept() == {"a": minimum, "tiny": min(minimum, 2)}
    assert parameters["a"].detach().nonzero().flatten().tolist() == list(range(6 - minimum, 6))


def test_steering_meets_the_budget_in_time_and_then_stops():
    torch.manual_seed(0)
    parameters = masks(a=8, b=16)
    proximal = ProximalMasks(parameters, MaskSettings(learning_rate=0.02))
    steering = Steering(cost(), ratio=0.5, steps=60, minimum=1)
    wanted = {name: torch.rand(len(mask)) for name, mask in parameters.items()}
    for step in range(60):
        for name, mask in parameters.items():
            mask.grad = 0.1 * (mask.detach() - 1) * wanted[name] + 0.01 * torch.randn(len(mask))
        proximal.steer(steering, step)
    proximal.settle(steering)
    edge = cost()
    assert edge(proximal.kept()) <= 0.5 * edge.full
    assert edge(proximal.kept()) >= 0.4 * edge.full  # and not far below


@pytest.mark.parametrize("method", ["ista", "fista"])
def test_a_short_phase_does_not_remove_more_than_it_must(method):
    """Momentum and noise may carry masks below zero; what the budget does not ask for stays above it."""
    generator = torch.Generator().manual_seed(2)
    parameters = masks(a=8, b=16)
    proximal = ProximalMasks(parameters, MaskSettings(method=method, learning_rate=0.2))
    steering = Steering(cost(), ratio=0.6, steps=6, minimum=1)
    for step in range(6):
        for mask in parameters.values():
            mask.grad = torch.rand(len(mask), generator=generator)
        proximal.steer(steering, step)
    proximal.settle(steering)
    edge = cost()
    assert 0.5 * edge.full < edge(proximal.kept()) <= 0.6 * edge.full


def test_zeros_stay_after_settling_and_kept_masks_do_not_die():
    parameters = masks(a=4)
    parameters["a"].data = torch.tensor([0.0, 0.01, 0.5, 1.0])
    proximal = ProximalMasks(parameters, MaskSettings(**ISTA))
    proximal.settle()
    for _ in range(5):
        parameters["a"].grad = torch.tensor([-1.0, 1.0, 1.0, -1.0])
        proximal.step(0.5)
    assert parameters["a"][0].item() == 0.0
    assert proximal.kept() == {"a": 3}


def test_saliency_pushes_the_channel_that_matters_less():
    parameters = masks(a=4)
    proximal = ProximalMasks(parameters, MaskSettings(method="ista", weighting="saliency", learning_rate=1e-6))
    for step in range(30):
        parameters["a"].grad = torch.tensor([0.001, 0.1, 1.0, 1.0]) * (-1) ** step
        proximal.step(0.02)
    values = parameters["a"].detach()
    assert values[0] < values[1] < values[2]


def test_block_masks_are_scalars_and_may_vanish():
    parameters = {"block:r": nn.Parameter(torch.ones(()))}
    proximal = ProximalMasks(parameters, MaskSettings())
    for _ in range(4):
        parameters["block:r"].grad = torch.tensor(0.01)
        proximal.step(0.3)
    assert parameters["block:r"].item() == 0.0
    assert proximal.kept() == {"block:r": 0}


def test_unreachable_budget_says_what_to_change():
    with pytest.raises(TrainingError, match=r"no mask can bring.*raise masks\.ratio"):
        Steering(cost(), ratio=0.01, steps=10, minimum=1)


def test_state_goes_on_exactly():
    def run(parameters, proximal, steps, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            parameters["a"].grad = torch.randn(5, generator=generator)
            proximal.step(0.01)

    unbroken = masks(a=5)
    first = ProximalMasks(unbroken, MaskSettings())
    run(unbroken, first, 6, 1)
    saved = {key: value.clone() for key, value in first.state_tensors().items()}
    resumed = {"a": nn.Parameter(unbroken["a"].detach().clone())}
    second = ProximalMasks(resumed, MaskSettings())
    second.load_state_tensors(saved)
    run(unbroken, first, 6, 2)
    run(resumed, second, 6, 2)
    assert torch.equal(unbroken["a"], resumed["a"])
    assert first.step_number == second.step_number == 12
