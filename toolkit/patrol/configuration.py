"""How many channels each group ends with: aligned, never over the budget, and as much of the scores as fits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toolkit.patrol.cost import EdgeCost

TINY = 1e-12


def choose_counts(cost: EdgeCost, keys: Mapping[str, Tensor], target: float, minimum: int) -> dict[str, int]:
    """Kept channels of each group, a greedy knapsack over the scores.

    Every group starts with its living channels, rounded up to the alignment, since those are paid for. While the
    cost is above the target, the group whose next step down loses the least score for the cost it saves takes that
    step; at the end, steps come back where they fit: those with the most score first, and then, where the masks
    have let go of more than the budget asks for, steps of channels without any score, first in the group that has
    lost the largest share. A block that is gone stays so.

    Args:
        cost: of the edge half; charges aligned channels.
        keys: scores by group, (channels,) or a scalar for a block; 0 for what is gone.
        target: largest cost.
        minimum: channels that a group keeps.

    Returns:
        Counts by group; 0 or 1 for a block. The cost is above the target only where no counts can meet it.
    """
    steps = {name: _steps(cost, name, len(key.reshape(-1)), minimum) for name, key in keys.items()}
    best = {name: _best_sums(key) for name, key in keys.items()}
    place = {name: _start(steps[name], int((key > 0).sum())) for name, key in keys.items()}
    while cost(_counts(steps, place)) > target:
        down = [name for name in place if place[name] + 1 < len(steps[name])]
        if not down:
            break
        name = min(down, key=lambda one: _price(cost, steps, best, place, one))
        place[name] += 1
    _refill(cost, steps, best, place, target)
    return _counts(steps, place)


def _steps(cost: EdgeCost, name: str, size: int, minimum: int) -> list[int]:
    """Counts that a group may have, falling."""
    if not cost.sizes[name]:
        return [1, 0]
    least = cost.charged(name, cost.least(name, minimum))
    counts = {cost.charged(name, number) for number in range(1, size + 1)}
    return sorted({count for count in counts if count >= least}, reverse=True)


def _best_sums(key: Tensor) -> list[float]:
    """Score of the best n channels, n = 0, 1, ..."""
    falling = key.reshape(-1).double().clamp(min=0).sort(descending=True).values
    return [0.0, *torch.cumsum(falling, 0).tolist()]


def _start(steps: list[int], alive: int) -> int:
    """The smallest count that holds all living channels."""
    return max((place for place, count in enumerate(steps) if count >= alive), default=0)


def _counts(steps: Mapping[str, list[int]], place: Mapping[str, int]) -> dict[str, int]:
    return {name: steps[name][index] for name, index in place.items()}


def _price(
    cost: EdgeCost,
    steps: Mapping[str, list[int]],
    best: Mapping[str, list[float]],
    place: Mapping[str, int],
    name: str,
) -> float:
    """Score that the next step down loses for each unit of cost that it saves."""
    now, then = steps[name][place[name]], steps[name][place[name] + 1]
    saved = cost(_counts(steps, place)) - cost(_counts(steps, {**place, name: place[name] + 1}))
    return (best[name][now] - best[name][then] + TINY) / max(saved, TINY)


def _refill(
    cost: EdgeCost,
    steps: Mapping[str, list[int]],
    best: Mapping[str, list[float]],
    place: dict[str, int],
    target: float,
) -> None:
    """Take steps back while the cost stays within the target, those with the most score first."""

    def worth(name: str) -> tuple[float, float]:
        now, then = steps[name][place[name]], steps[name][place[name] - 1]
        return best[name][then] - best[name][now], 1 - now / steps[name][0]

    def comes_back(name: str) -> bool:
        if not place[name] or not (cost.sizes[name] or worth(name)[0] > 0):
            return False
        return cost(_counts(steps, {**place, name: place[name] - 1})) <= target

    while True:
        up = [name for name in place if comes_back(name)]
        if not up:
            return
        place[max(up, key=worth)] -= 1
