"""The two losses of the strong re-ID baseline (Luo et al. 2019, arXiv:1903.07071)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from toolkit.errors import TrainingError
from toolkit.models.network import Heads


class LossSettings(BaseModel):
    """How the task loss is put together.

    Attributes:
        smoothing: label smoothing of the ID loss.
        margin: of the triplet loss; None takes the soft margin.
        triplet_weight: factor of the triplet loss; 0 leaves it out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    margin: float | None = Field(default=None, ge=0.0)
    triplet_weight: float = Field(default=1.0, ge=0.0)


class TaskLoss(NamedTuple):
    """Scalars: ``total = identity + triplet_weight * triplet``."""

    total: Tensor
    identity: Tensor
    triplet: Tensor


def label_smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy against ``(1 - e)`` on the label plus ``e / K`` on every class (Szegedy et al. 2016).

    Args:
        logits: ``(N, K)``, any float type; computed in float32.
        labels: ``(N,)`` int64 in 0..K-1.
        smoothing: e in [0, 1).
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances ``(N, N)`` of float32 rows, with a finite gradient at distance 0."""
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp(min=1e-12).sqrt()


def batch_hard_triplet(features: Tensor, labels: Tensor, margin: float | None = None) -> Tensor:
    """Triplet loss on each anchor's farthest positive and nearest negative (Hermans et al. 2017,
    arXiv:1703.07737), averaged over the anchors that have both.

    Args:
        features: ``(N, D)``, before the neck; computed in float32.
        labels: ``(N,)``.
        margin: ``max(0, margin + d_positive - d_negative)``; None takes the soft margin
            ``log(1 + exp(d_positive - d_negative))``.

    Raises:
        TrainingError: no anchor has a positive and a negative.
    """
    with torch.autocast(features.device.type, enabled=False):
        distances = pairwise_distances(features.float())
    same = labels[:, None] == labels[None, :]
    positives = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    usable = positives.any(1) & (~same).any(1)
    if not bool(usable.any()):
        raise TrainingError(
            "a triplet needs two identities in a batch, one of them twice; raise identities or pictures per batch"
        )
    hardest_positive = distances.masked_fill(~positives, 0.0).amax(1)[usable]
    hardest_negative = distances.masked_fill(same, torch.inf).amin(1)[usable]
    gap = hardest_positive - hardest_negative
    return (F.softplus(gap) if margin is None else F.relu(gap + margin)).mean()


def task_loss(heads: Heads, labels: Tensor, settings: LossSettings) -> TaskLoss:
    """ID loss on the logits and triplet loss on the feature before the neck.

    Args:
        heads: of ``ReidNet.heads``.
        labels: ``(N,)`` int64.
        settings: weights and margins.

    Raises:
        TrainingError: see :func:`batch_hard_triplet`.
    """
    identity = label_smoothed_cross_entropy(heads.logits, labels, settings.smoothing)
    if settings.triplet_weight == 0:
        return TaskLoss(identity, identity, torch.zeros_like(identity))
    triplet = batch_hard_triplet(heads.pooled, labels, settings.margin)
    return TaskLoss(identity + settings.triplet_weight * triplet, identity, triplet)
