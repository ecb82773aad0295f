"""Block-wise local Lipschitz constants of the edge half.

Ding, Zhang, Miao, Yuan, "PATROL: Privacy-Oriented Pruning for Collaborative Inference Against Model Inversion
Attacks", WACV 2024, and the authors' README: for blocks f_1..f_N and a Gaussian perturbation d,

    k_1 = sup_x |f_1(x+d) - f_1(x)| / |d|
    k_i = sup_x |f_i..f_1(x+d) - f_i..f_1(x)| / |f_{i-1}..f_1(x+d) - f_{i-1}..f_1(x)|
    L_lip = sum_i alpha_i k_i

The norm, the size of d, alpha_i and how the supremum is taken are not published: what
:class:`toolkit.patrol.settings.LipschitzSettings` says about them is ours.

Before the supremum the gains of one pair telescope: their product is the gain of the whole edge half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.errors import SettingsError
from toolkit.patrol.settings import LipschitzSettings

Block = tuple[str, Callable[[Tensor], Tensor]]
Perturbation = Callable[[Tensor, torch.Generator], Tensor]
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Gains:
    """What each block does to each pair.

    Attributes:
        names: the blocks, in order.
        values: (blocks, pairs); raw or scale-free ratios.
    """

    names: tuple[str, ...]
    values: Tensor

    def constants(self, reduction: str) -> Tensor:
        """(blocks,): the batch maximum (the paper's supremum) or the batch mean of each block's ratios."""
        return self.values.amax(1) if reduction == "max" else self.values.mean(1)


def gaussian_perturbation(sigma: float) -> Perturbation:
    """x -> x + d, d ~ N(0, sigma^2) per value, drawn from the given generator on the CPU."""

    def perturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(pictures.shape, generator=generator)
        return pictures + sigma * noise.to(pictures.device)

    return perturb


@contextmanager
def same_statistics(module: nn.Module, source: str) -> Iterator[None]:
    """Both passes see the same normalization, and neither moves the running statistics.

    ``running``: batch normalization uses its running statistics, as the deployed network does. ``batch``: one pass
    over clean and perturbed pictures together shares that batch's statistics.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BATCH_NORM)]
    saved = [
        (layer.training, layer.track_running_stats, layer.running_mean, layer.running_var) for layer in layers
    ]
    for layer in layers:
        if source == "running":
            layer.eval()
        else:
            layer.train()
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = None
    try:
        yield
    finally:
        for layer, (training, tracking, mean, variance) in zip(layers, saved, strict=True):
            layer.train(training)
            layer.track_running_stats, layer.running_mean, layer.running_var = tracking, mean, variance


def block_gains(blocks: Sequence[Block], clean: Tensor, perturbed: Tensor, settings: LipschitzSettings) -> Gains:
    """Ratios of every block for every pair; differentiable.

    ``raw`` is the paper's finite difference. ``scale_free`` divides every difference by the root of the batch's
    centred energy at the same place, i.e. Jacobian energy relative to feature energy, in the manner of dFIL's
    Tr(J^T J) / |z|^2 (NeurIPS 2023): no rescaling of a block changes it. Centring is ours; without it a constant
    added to the feature would lower the ratio.

    Args:
        blocks: f_1..f_N, each applied to the output of the one before.
        clean: (P, 3, H, W).
        perturbed: (P, 3, H, W), pairwise. A pair without a difference counts as gain 0.
        settings: form and epsilon.
    """
    count = clean.shape[0]
    both = torch.cat([clean, perturbed])
    before = _difference(both, count, settings)
    rows = []
    for _, block in blocks:
        both = block(both)
        after = _difference(both, count, settings)
        rows.append(after / (before + settings.epsilon))
        before = after
    return Gains(tuple(name for name, _ in blocks), torch.stack(rows))


def lipschitz_term(gains: Gains, settings: LipschitzSettings) -> tuple[Tensor, dict[str, float]]:
    """``sum_i alpha_i k_i`` and the constants by block name.

    Raises:
        SettingsError: ``alpha`` lists another number of weights than there are blocks.
    """
    constants = gains.constants(settings.reduction)
    alpha = settings.alpha
    if isinstance(alpha, tuple):
        if len(alpha) != len(gains.names):
            raise SettingsError(
                f"lipschitz.alpha has {len(alpha)} weights but the edge half has {len(gains.names)} blocks "
                f"({', '.join(gains.names)}); give one number or one per block"
            )
        weights = constants.new_tensor(alpha)
    else:
        weights = constants.new_full(constants.shape, alpha)
    values = constants.detach().tolist()
    return (weights * constants).sum(), dict(zip(gains.names, values, strict=True))


def _difference(both: Tensor, count: int, settings: LipschitzSettings) -> Tensor:
    """(P,): norm of perturbed minus clean, relative to the clean batch's centred root energy if scale-free."""
    values = both.float().flatten(1)
    clean, perturbed = values[:count], values[count:]
    squared = (perturbed - clean).square().sum(1)
    # the root's gradient is infinite at 0
    norm = (squared + settings.epsilon**2).sqrt() - settings.epsilon
    if settings.form == "raw":
        return norm
    centred = clean - clean.mean(0, keepdim=True)
    energy = centred.square().sum(1).mean()
    return norm / (energy + settings.epsilon**2).sqrt()
