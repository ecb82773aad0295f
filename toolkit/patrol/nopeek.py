"""NoPeek: distance correlation between pictures and what is sent, as a loss.

Vepakomma, Singh, Gupta, Raskar, "NoPeek: Information leakage reduction to share activations in distributed deep
learning", ICDM Workshops 2020. Distance correlation: Szekely, Rizzo, Bakirov, Annals of Statistics 35 (2007).
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-9


def distance_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Sample distance correlation of two batches, in [0, 1]; 0 only where they are independent in the limit.

    Args:
        a: (N, ...), flattened.
        b: (N, ...).
    """
    first, second = _centred(a), _centred(b)
    covariance = (first * second).mean()
    scale = (first.square().mean() * second.square().mean()).clamp_min(EPSILON**2).sqrt()
    return (covariance.clamp_min(0) / scale + EPSILON).sqrt()


def _centred(values: Tensor) -> Tensor:
    """(N, N): Euclidean distances, doubly centred."""
    flat = values.float().flatten(1)
    squares = flat.square().sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * flat @ flat.T
    # the root's gradient is infinite at 0, which the diagonal is
    distances = torch.where(squared > EPSILON, squared.clamp_min(EPSILON).sqrt(), torch.zeros_like(squared))
    return distances - distances.mean(0, keepdim=True) - distances.mean(1, keepdim=True) + distances.mean()
