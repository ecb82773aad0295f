"""The one-cycle schedule as a function of the step, so that a resumed phase needs no memory of it."""

from __future__ import annotations

import math

import torch
from torch import nn

START_DIVISOR, END_DIVISOR = 25.0, 1e4
MOMENTUM = (0.95, 0.85)


def one_cycle(step: int, steps: int, peak: float, warm_fraction: float) -> tuple[float, float]:
    """Learning rate and first-moment momentum of ``step`` (0-based) out of ``steps``.

    Smith, Topin 2018 (arXiv:1708.07120), with cosine halves: the rate rises from peak/25 to the peak within the
    warm fraction and falls to peak/1e4 of its start; momentum goes the other way between 0.95 and 0.85.
    """
    turn = max(warm_fraction * steps - 1, 1e-9)
    low, end = peak / START_DIVISOR, peak / START_DIVISOR / END_DIVISOR
    if step <= turn:
        way = step / turn
        return _cosine(low, peak, way), _cosine(MOMENTUM[0], MOMENTUM[1], way)
    way = min((step - turn) / max(steps - 1 - turn, 1e-9), 1.0)
    return _cosine(peak, end, way), _cosine(MOMENTUM[1], MOMENTUM[0], way)


def _cosine(start: float, end: float, way: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2


def make_optimizer(net: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay on kernels and matrices only; parameters that need no gradient are left out."""
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)


def set_schedule(optimizer: torch.optim.AdamW, rate: float, momentum: float) -> None:
    """Put rate and momentum into every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["betas"] = (momentum, group["betas"][1])
