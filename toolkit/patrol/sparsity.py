"""Soft masks that become exactly zero: proximal steps on lambda * |m|_1, steered towards a budget.

The masks of PATROL (WACV 2024) multiply the output of prunable structures; the penalty and its solver are not
published. The wording follows GAL (Lin et al., CVPR 2019), which takes L1 and FISTA (Beck, Teboulle 2009), and so
do we. Ours: masks stay in [0, 1]; gradient steps are relative to a group's root mean square gradient, because the
task gradient of a mask shrinks while training converges; the weight of a channel may follow its saliency; and
lambda is steered (:class:`Steering`) so that a share of the edge's cost is met at the end of the pruning phase.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.patrol.configuration import choose_counts
from toolkit.patrol.cost import EdgeCost
from toolkit.patrol.settings import MaskSettings

MEMORY = 0.95  # of the running gradient statistics
WEIGHT_RANGE = (0.2, 5.0)
ALIVE = 1e-3  # least value of a mask that is kept
GONE = -1e9  # key of a mask that is zero and is not pushed back


class Steering:
    """Chooses the threshold of each proximal step.

    The key of a channel is its mask divided by its weight: the total threshold after which it is zero. The
    budget's quantile is the key up to which everything must go so that the cost is met. Dividing that quantile by
    the remaining steps gives the threshold with which the budget is met exactly in time: when the task holds masks
    up, the quantile falls more slowly and the threshold grows by itself; when the budget is met, it is zero.
    Nothing above the quantile becomes zero, so that no more goes than the budget asks for.

    On the way the budget is charged channel by channel, because whole multiples change nothing until many channels
    are gone, and then everywhere at once. The end is chosen in whole multiples (:func:`choose_counts`).
    """

    def __init__(self, cost: EdgeCost, ratio: float, steps: int, minimum: int) -> None:
        cost.check_reachable(ratio * cost.full, minimum)
        self.cost = cost
        self.smooth = cost.smooth()
        self.target = ratio * cost.full
        self.smooth_target = cost.smooth_target(self.target)
        self.steps = steps
        self.minimum = minimum

    def quantile(self, keys: Mapping[str, Tensor]) -> float:
        """The smallest key such that removing all channels up to it meets the target; -inf if nothing must go."""
        ordered = {name: key.reshape(-1).sort().values for name, key in keys.items()}
        if self.smooth(self._kept(ordered, -math.inf)) <= self.smooth_target:
            return -math.inf
        candidates = torch.cat(list(ordered.values())).unique()
        low, high = 0, len(candidates) - 1
        while low < high:
            middle = (low + high) // 2
            if self.smooth(self._kept(ordered, float(candidates[middle]))) <= self.smooth_target:
                high = middle
            else:
                low = middle + 1
        return float(candidates[low])

    def _kept(self, ordered: Mapping[str, Tensor], threshold: float) -> dict[str, int]:
        counts = {}
        for name, key in ordered.items():
            removed = int(torch.searchsorted(key, torch.tensor(threshold, dtype=key.dtype), right=True))
            counts[name] = max(len(key) - removed, self.cost.least(name, self.minimum))
        return counts

    def threshold(self, quantile: float, step: int) -> float:
        """Threshold of pruning step ``step`` (0-based)."""
        return max(quantile, 0.0) / max(self.steps - step, 1)


class ProximalMasks:
    """FISTA or ISTA on masks, with exact zeros, never emptying a group.

    Args:
        masks: name -> (channels,) parameter, or a scalar for a structure that may go as a whole; in [0, 1].
        settings: step length, method, weighting.
    """

    def __init__(self, masks: Mapping[str, nn.Parameter], settings: MaskSettings) -> None:
        self.masks = dict(masks)
        self.settings = settings
        self.step_number = 0
        self.settled = False
        self._tensors: dict[str, dict[str, Tensor]] = {
            name: {
                "iterate": mask.detach().clone(),
                "square": torch.zeros_like(mask.detach()),
                "energy": torch.zeros((), dtype=torch.float64),
                "momentum": torch.ones((), dtype=torch.float64),
            }
            for name, mask in self.masks.items()
        }

    def weights(self, name: str) -> Tensor:
        """(channels,): weight of each mask's L1, about 1 on average over the group."""
        state = self._tensors[name]
        if self.settings.weighting == "uniform" or not self.step_number:
            return torch.ones_like(state["iterate"])
        # Taylor saliency (m g)^2, Molchanov et al. 2019, relative to the group's mean
        saliency = state["square"]
        relative = saliency / saliency.mean().clamp(min=1e-30)
        weight = (relative + 0.1).rsqrt()
        return (weight / weight.mean()).clamp(*WEIGHT_RANGE)

    def step(self, threshold: float) -> None:
        """One proximal gradient step on every mask; ``threshold`` is lambda times the step length.

        Masks without a gradient are only thresholded. After :meth:`settle` zeros stay and nothing is thresholded.
        """
        self._advance({name: self._forward(name) for name in self.masks}, threshold, math.inf)

    def steer(self, steering: Steering, number: int) -> float:
        """One proximal gradient step towards a budget; returns the threshold that was taken."""
        forward = {name: self._forward(name) for name in self.masks}
        quantile = steering.quantile({name: self._keys(name, value) for name, value in forward.items()})
        threshold = steering.threshold(quantile, number)
        self._advance(forward, threshold, quantile)
        return threshold

    def _keys(self, name: str, value: Tensor) -> Tensor:
        """The threshold after which a mask is zero. What is zero and stays so comes before everything alive:
        when that alone meets the budget, nothing else has to go, however small it is."""
        gone = (self._tensors[name]["iterate"] == 0) & (value <= 0)
        return torch.where(gone, torch.full_like(value, GONE), value / self.weights(name))

    @torch.no_grad()
    def _forward(self, name: str) -> Tensor:
        """The gradient step, and the gradient's statistics."""
        mask, state = self.masks[name], self._tensors[name]
        point = mask.detach()
        gradient = torch.zeros_like(point) if mask.grad is None else mask.grad.float()
        state["square"] = MEMORY * state["square"] + (1 - MEMORY) * (gradient * point).square()
        state["energy"] = MEMORY * state["energy"] + (1 - MEMORY) * gradient.double().square().mean()
        scale = float(state["energy"] / (1 - MEMORY ** (self.step_number + 1))) ** 0.5
        return point - self.settings.learning_rate * gradient / max(scale, 1e-12)

    @torch.no_grad()
    def _advance(self, forward: Mapping[str, Tensor], threshold: float, limit: float) -> None:
        """Threshold, momentum; masks whose key is above ``limit`` do not become zero."""
        for name, mask in self.masks.items():
            state, value = self._tensors[name], forward[name]
            previous, weight = state["iterate"], self.weights(name)
            if self.settled:
                shrunk = torch.where(previous > 0, value.clamp(ALIVE, 1.0), torch.zeros_like(value))
            else:
                shrunk = (value - threshold * weight).clamp(0.0, 1.0)
                shrunk = torch.where(self._keys(name, value) > limit, shrunk.clamp(min=ALIVE), shrunk)
                shrunk = self._never_empty(shrunk, previous)
            state["iterate"] = shrunk
            mask.copy_(self._extrapolate(state, shrunk, previous, mask.detach()))
        self.step_number += 1

    def _never_empty(self, shrunk: Tensor, previous: Tensor) -> Tensor:
        """The largest ``minimum_channels`` masks of the step before stay above zero; a scalar mask may vanish."""
        if not shrunk.dim():
            return shrunk
        keep = min(self.settings.minimum_channels, len(shrunk))
        if int((shrunk > 0).sum()) >= keep:
            return shrunk
        best = torch.maximum(shrunk, previous).topk(keep).indices
        kept = shrunk.clone()
        kept[best] = torch.maximum(shrunk, previous)[best].clamp(min=ALIVE)
        return kept

    def _extrapolate(self, state: dict[str, Tensor], now: Tensor, before: Tensor, point: Tensor) -> Tensor:
        """FISTA's momentum with the restart of O'Donoghue and Candes 2015; exact zeros are not moved."""
        if self.settings.method == "ista" or self.settled:
            return now
        if float(((point - now) * (now - before)).sum()) > 0:
            state["momentum"] = torch.ones((), dtype=torch.float64)
        old = float(state["momentum"])
        new = (1 + math.sqrt(1 + 4 * old * old)) / 2
        state["momentum"] = torch.tensor(new, dtype=torch.float64)
        ahead = now + ((old - 1) / new) * (now - before)
        return torch.where(now > 0, ahead.clamp(0.0, 1.0), now)

    @torch.no_grad()
    def settle(self, steering: Steering | None = None) -> None:
        """End the pruning phase: set what is still above the budget to zero, then keep the zeros."""
        if steering is not None:
            self._project(steering)
        for name, mask in self.masks.items():
            mask.copy_(self._tensors[name]["iterate"])
        self.settled = True

    def _project(self, steering: Steering) -> None:
        """The best channels of each group stay, as many as the aligned budget allows.

        Where alignment pays for more than are alive, the dead ones next in weight come back just above zero: they
        cost nothing more, and the rest of the training can use them.
        """
        keys = {name: self._tensors[name]["iterate"] / self.weights(name) for name in self.masks}
        counts = choose_counts(steering.cost, keys, steering.target, steering.minimum)
        for name, key in keys.items():
            iterate = self._tensors[name]["iterate"].reshape(-1)
            order = torch.stack([key.reshape(-1), 1 / self.weights(name).reshape(-1)])
            best = sorted(range(len(iterate)), key=lambda place: tuple(order[:, place].tolist()), reverse=True)
            kept = torch.zeros_like(iterate)
            chosen = best[: counts[name]]
            kept[chosen] = iterate[chosen].clamp(min=ALIVE)
            self._tensors[name]["iterate"] = kept.reshape(key.shape)

    def kept(self) -> dict[str, int]:
        """Masks above zero, by group."""
        return {name: int((state["iterate"] > 0).sum()) for name, state in self._tensors.items()}

    def norm(self) -> float:
        """|m|_1 of all masks."""
        return float(sum(state["iterate"].sum() for state in self._tensors.values()))

    def state_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs to go on exactly, as flat tensors."""
        flat = {f"{name}/{key}": value for name, state in self._tensors.items() for key, value in state.items()}
        flat["/step_number"] = torch.tensor(self.step_number)
        flat["/settled"] = torch.tensor(int(self.settled))
        return flat

    def load_state_tensors(self, flat: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state_tensors` gave."""
        for name, state in self._tensors.items():
            for key in state:
                state[key] = flat[f"{name}/{key}"].clone()
        self.step_number = int(flat["/step_number"])
        self.settled = bool(flat["/settled"])


@dataclass
class MaskTraining:
    """The masks of a phase and how they are pruned.

    Attributes:
        proximal: the masks and their steps.
        steering: towards the budget; None for a constant lambda.
        steps: of the pruning phase.
    """

    proximal: ProximalMasks
    steering: Steering | None
    steps: int

    def step(self, number: int) -> dict[str, float]:
        """One mask step; returns what to log. ``sparsity`` is lambda |m|_1."""
        if number == self.steps:
            self.proximal.settle(self.steering)
        settings = self.proximal.settings
        threshold = settings.l1 * settings.learning_rate if number < self.steps else 0.0
        if self.steering is not None and number < self.steps:
            threshold = self.proximal.steer(self.steering, number)
        else:
            self.proximal.step(threshold)
        norm, kept = self.proximal.norm(), self.proximal.kept()
        facts = {
            "loss.sparsity": threshold / settings.learning_rate * norm,
            "masks.norm": norm,
            "masks.kept": float(sum(kept.values())),
        }
        if self.steering is not None:
            facts["masks.cost"] = self.steering.cost(kept) / self.steering.cost.full
        return facts
