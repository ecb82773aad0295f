"""The best linear attacker in closed form, as an adversary without a lag.

A trained decoder always trails the edge half that runs away from it: in tier 1 the training adversary believed in
an R2 of 0.17 where an independent attacker, and plain ridge regression already, reached 0.5. Ridge regression has
no such gap: its solution is a function of the batch, and the gradient goes through it. Each position of the
feature predicts its own patch of the picture, coarsened; weights are fitted on one half of the batch and judged on
the other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_error(feature: Tensor, pictures: Tensor, side: int, ridge: float) -> Tensor:
    """(N,): squared error of ridge regression relative to the mean picture's; 1 is no better than it, 0 exact.

    No rescaling of a channel changes it much: channels are standardized.

    Args:
        feature: (N, C, h, w), what is sent.
        pictures: (N, 3, H, W) in [0, 1].
        side: of a patch after coarsening, in values; a position predicts 3 * side^2 of them.
        ridge: of the standardized design, relative to the number of samples.
    """
    with torch.autocast(feature.device.type, enabled=False):
        design, target = _design(feature.float()), _patches(pictures.float(), feature.shape[2:], side)
        halves = torch.arange(len(feature), device=feature.device) % 2 == 0
        errors = torch.empty(0, device=feature.device)
        for fitted in (halves, ~halves):
            weights = _solve(design[fitted].flatten(0, 1), target[fitted].flatten(0, 1), ridge)
            rest = (target[~fitted] - design[~fitted] @ weights).square().sum((1, 2))
            errors = torch.cat([errors, rest])
        order = torch.cat([(~halves).nonzero().flatten(), halves.nonzero().flatten()])
        energy = target.square().sum((1, 2)).mean().clamp_min(1e-12)
        return errors[order.argsort()] / energy


def _design(feature: Tensor) -> Tensor:
    """(N, positions, C): centred at every position, standardized by channel."""
    values = feature.flatten(2).transpose(1, 2)
    values = values - values.mean(0, keepdim=True)
    return values / (values.square().mean((0, 1), keepdim=True) + 1e-8).sqrt()


def _patches(pictures: Tensor, grid: torch.Size, side: int) -> Tensor:
    """(N, positions, 3 * side^2): what each position stands for, centred over the batch."""
    height, width = int(grid[0]), int(grid[1])
    coarse = F.adaptive_avg_pool2d(pictures, (height * side, width * side))
    patches = coarse.reshape(len(pictures), 3, height, side, width, side).permute(0, 2, 4, 1, 3, 5)
    flat = patches.reshape(len(pictures), height * width, 3 * side * side)
    return flat - flat.mean(0, keepdim=True)


def _solve(design: Tensor, target: Tensor, ridge: float) -> Tensor:
    """(C, values): ridge regression."""
    identity = torch.eye(design.shape[1], device=design.device)
    gram = design.T @ design / len(design) + ridge * identity
    found: Tensor = torch.linalg.solve(gram, design.T @ target / len(design))
    return found
