import itertools

import pytest
import torch

from toolkit.patrol.configuration import choose_counts
from toolkit.patrol.cost import EdgeCost, PartCost


def edge(align=1, **sizes):
    """Two convolutions: the first is paid by its outputs, the second by outputs times inputs."""
    parts = [
        PartCost("a.weight", 100.0, ((("a", 1.0),),)),
        PartCost("b.weight", 400.0, ((("b", 1.0),), (("a", 1.0),))),
    ]
    return EdgeCost(parts, sizes or {"a": 32, "b": 64}, align)


def random_keys(seed, dead=0.3, **sizes):
    generator = torch.Generator().manual_seed(seed)
    keys = {name: torch.rand(size, generator=generator) for name, size in (sizes or {"a": 32, "b": 64}).items()}
    return {name: torch.where(key < dead, torch.zeros_like(key), key) for name, key in keys.items()}


def score(keys, counts):
    return sum(float(key.sort(descending=True).values[: counts[name]].sum()) for name, key in keys.items())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_never_over_the_budget_and_aligned(seed, ratio):
    cost, keys = edge(16), random_keys(seed)
    counts = choose_counts(cost, keys, ratio * cost.full, 1)
    assert cost(counts) <= ratio * cost.full
    assert all(counts[name] % 16 == 0 and counts[name] >= 16 for name in counts)


@pytest.mark.parametrize("seed", range(6))
def test_close_to_the_best_of_all_configurations(seed):
    cost, keys = edge(8), random_keys(seed, dead=0.0)
    target = 0.5 * cost.full
    best = max(
        score(keys, {"a": a, "b": b})
        for a, b in itertools.product(range(8, 33, 8), range(8, 65, 8))
        if cost({"a": a, "b": b}) <= target
    )
    assert score(keys, choose_counts(cost, keys, target, 1)) >= 0.85 * best


def test_living_channels_are_rounded_up_where_the_budget_allows_it():
    keys = {"a": torch.tensor([1.0] * 17 + [0.0] * 15), "b": torch.tensor([1.0] * 64)}
    assert choose_counts(edge(16), keys, edge(16).full, 1) == {"a": 32, "b": 64}
    assert choose_counts(edge(1), keys, edge(1)({"a": 17, "b": 64}), 1) == {"a": 17, "b": 64}


def test_what_the_masks_left_of_the_budget_is_used():
    keys = {"a": torch.tensor([1.0] * 8 + [0.0] * 24), "b": torch.tensor([1.0] * 32 + [0.0] * 32)}
    cost = edge(8)
    assert choose_counts(cost, keys, cost.full, 1) == {"a": 32, "b": 64}
    # a has lost three quarters, b half: a comes first, as long as what it makes b cost still fits
    assert choose_counts(cost, keys, cost({"a": 16, "b": 32}), 1) == {"a": 16, "b": 32}
    for ratio in (0.3, 0.5, 0.7):
        counts = choose_counts(cost, keys, ratio * cost.full, 1)
        more = [{**counts, name: counts[name] + 8} for name in counts]
        assert cost(counts) <= ratio * cost.full
        assert all(cost(one) > ratio * cost.full for one in more if one["a"] <= 32 and one["b"] <= 64)


def test_a_whole_block_may_go():
    parts = [PartCost("x.weight", 100.0, ((("block/x", 1.0),),)), PartCost("a.weight", 50.0, ((("a", 1.0),),))]
    cost = EdgeCost(parts, {"block/x": 0, "a": 8}, 1)
    keys = {"block/x": torch.tensor(0.01), "a": torch.ones(8)}
    assert choose_counts(cost, keys, 60.0, 1) == {"block/x": 0, "a": 8}
    assert choose_counts(cost, keys, 150.0, 1) == {"block/x": 1, "a": 8}
    gone = {"block/x": torch.tensor(0.0), "a": torch.ones(8)}
    assert choose_counts(cost, gone, 150.0, 1) == {"block/x": 0, "a": 8}  # its score is zero: it stays away
