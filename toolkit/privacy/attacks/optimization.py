"""Search for the pictures whose features fall on observed codes: shared by white-box and shadow-model attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.privacy.attacks.deep_prior import DeepPriors
from toolkit.privacy.attacks.tools import Network
from toolkit.wire import WireFormat, quantize_ste

Distance = Literal["cell", "straight_through", "feature"]
EPSILON = 1e-8


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        iterations: Adam steps.
        learning_rate: at the start; falls to a tenth as a cosine.
        tv: weight of the total variation against the feature distance.
        distance: how far a feature is from the codes, see :func:`distance_to_codes`.
        prior_width: channels of a deep image prior that stands for each picture; 0 searches pixels.
        seed: of the priors.
    """

    iterations: int
    learning_rate: float
    tv: float
    distance: Distance
    prior_width: int = 0
    seed: int = 0


def search_pictures(
    network: Network, target: Tensor, start: Tensor, fmt: WireFormat | None, search: Search
) -> Tensor:
    """Pictures ``(N, 3, H, W)`` in [0, 1] whose features come near ``target``.

    Minimizes ``distance + tv * TV`` with Adam (AMSGrad), over pixels clipped to [0, 1] after each step or over the
    weights of deep image priors (which ignore ``start``). The pictures of a
    batch do not influence one another: the loss is a sum over pictures, Adam is elementwise.

    Args:
        network: differentiable edge half (or its shadow), in evaluation mode.
        target: dequantized codes ``(N, C, h, w)``.
        start: pictures to start from ``(N, 3, H, W)``.
        fmt: the wire format; None for float32 features (then ``distance`` is ``feature``).
        search: the schedule.
    """
    pixels = start.clone().requires_grad_(True)
    height, width = start.shape[-2:]
    priors = (
        DeepPriors(len(start), (height, width), search.prior_width, search.seed) if search.prior_width else None
    )
    scale = target.square().mean((1, 2, 3)).clamp_min(EPSILON)
    searched = list(priors.parameters()) if priors else [pixels]
    optimizer = torch.optim.Adam(searched, lr=search.learning_rate, amsgrad=True)
    for step in range(search.iterations):
        fall = 0.5 * (1 + math.cos(math.pi * step / search.iterations))
        optimizer.param_groups[0]["lr"] = search.learning_rate * (0.1 + 0.9 * fall)
        pictures = priors() if priors else pixels
        gap = distance_to_codes(network(pictures), target, fmt, search.distance)
        loss = (gap / scale).sum()
        if search.tv:
            loss = loss + search.tv * total_variation(pictures).sum()
        for one, slope in zip(searched, torch.autograd.grad(loss, searched), strict=True):
            one.grad = slope
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0.0, 1.0)
    return (priors() if priors else pixels).detach()


def distance_to_codes(feature: Tensor, target: Tensor, fmt: WireFormat | None, distance: Distance) -> Tensor:
    """Mean squared distance ``(N,)`` of features from what the codes allow.

    ``cell``: from the quantization cell, zero inside it; the outermost cells are open, because a code at either
    end stands for everything beyond. ``straight_through``: between quantized features, with the gradient passed
    through the rounding. ``feature``: from the middle of the cell, as if the codes were features.
    """
    if fmt is None or distance == "feature":
        return (feature - target).square().mean((1, 2, 3))
    if distance == "straight_through":
        return (quantize_ste(feature, fmt) - target).square().mean((1, 2, 3))
    half = fmt.step / 2
    codes = target / fmt.step
    below = F.relu(target - half - feature) * (codes > fmt.low + 0.5)
    above = F.relu(feature - target - half) * (codes < fmt.high - 0.5)
    return (below + above).square().mean((1, 2, 3))


def total_variation(pictures: Tensor) -> Tensor:
    """Mean over positions of ``sqrt(dx^2 + dy^2)``, ``(N,)`` (He, Zhang, Lee 2019, beta = 1)."""
    across = pictures[..., :-1, 1:] - pictures[..., :-1, :-1]
    down = pictures[..., 1:, :-1] - pictures[..., :-1, :-1]
    return (across.square() + down.square() + EPSILON).sqrt().mean((1, 2, 3))
