"""The joint objective: L(theta, m) + sum_i alpha_i k_i - beta L_adv, term by term.

PATROL (WACV 2024) publishes the terms; their sum is ours. The L1 of the masks belongs to L(theta, m) and is not a
term here: it acts through proximal steps (``toolkit.patrol.sparsity``). The fixed-step wire quantizer stands
between edge and cloud, and between edge and adversary, with a straight-through gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from toolkit.models.network import ReidNet
from toolkit.patrol.adversary import Adversary
from toolkit.patrol.data import Batch, TrainingData
from toolkit.patrol.distillation import distillation
from toolkit.patrol.linear import LinearAdversary
from toolkit.patrol.lipschitz import block_gains, gaussian_perturbation, lipschitz_term, same_statistics
from toolkit.patrol.nopeek import distance_correlation
from toolkit.patrol.settings import (
    DistillSettings,
    LipschitzSettings,
    NoPeekSettings,
    TrainSettings,
)
from toolkit.reid.losses import task_loss
from toolkit.wire import WireFormat
from toolkit.wire.tensors import quantize_ste

PURPOSE_NOISE, PURPOSE_LIPSCHITZ = 1, 2


@dataclass
class Terms:
    """One step's objective.

    Attributes:
        losses: the weighted terms; the objective is their sum.
        facts: numbers that are logged beside them.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    def total(self) -> Tensor:
        """Scalar to minimize."""
        return torch.stack(list(self.losses.values())).sum()

    def values(self) -> dict[str, float]:
        """All numbers: ``loss.<term>`` and the facts."""
        return {f"loss.{name}": float(term.detach()) for name, term in self.losses.items()} | self.facts


class Objective:
    """Computes the terms of a batch.

    Args:
        net: the network, masks attached.
        train: task loss, precision and seed.
        fmt: the wire; None leaves the feature as it is (dense training).
        lipschitz: None leaves the term out.
        adversary: None leaves the term out.
        noise: standard deviation in wire steps of the noise before the quantizer.
        dropout: part of the values that are sent as zero.
        nopeek: None leaves the term out.
        linear: None leaves the term out.
        distill: None leaves the term out.
        teacher: the dense network, in evaluation mode, for ``distill``.
        data: source of counterfactual pictures.
        device: where the network is.
    """

    def __init__(
        self,
        net: ReidNet,
        train: TrainSettings,
        fmt: WireFormat | None,
        *,
        lipschitz: LipschitzSettings | None = None,
        adversary: Adversary | None = None,
        noise: float = 0.0,
        dropout: float = 0.0,
        nopeek: NoPeekSettings | None = None,
        linear: LinearAdversary | None = None,
        distill: DistillSettings | None = None,
        teacher: ReidNet | None = None,
        data: TrainingData | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.net, self.train, self.fmt = net, train, fmt
        self.lipschitz, self.adversary, self.noise = lipschitz, adversary, noise
        self.dropout, self.nopeek, self.linear = dropout, nopeek, linear
        self.distill, self.teacher = distill, teacher
        self.data = data
        self.device = device or torch.device("cpu")

    def autocast(self) -> AbstractContextManager[None]:
        """bf16 autocast, or nothing."""
        return autocast(self.device, self.train.precision)

    def wire(self, feature: Tensor, generator: torch.Generator) -> Tensor:
        """What the cloud and the adversary see, float32: dropout, noise, then the fixed-step quantizer."""
        feature = feature.float()
        if self.fmt is None:
            return feature
        feature = disturb(feature, self.noise * self.fmt.step, self.dropout, generator)
        return quantize_ste(feature, self.fmt)

    def terms(self, batch: Batch) -> Terms:
        """All declared terms of one batch; the adversary takes its own steps on the way."""
        terms = Terms()
        pictures, labels = batch.pictures.to(self.device), batch.labels.to(self.device)
        with self.autocast():
            feature = self.net.edge(pictures)
            sent = self.wire(feature, batch.generator(self.train.seed, PURPOSE_NOISE))
            heads = self.net.heads(sent)
            task = task_loss(heads, labels, self.train.losses)
            terms.losses["identity"] = task.identity
            if self.train.losses.triplet_weight:
                terms.losses["triplet"] = self.train.losses.triplet_weight * task.triplet
            if self.distill is not None and self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(pictures)
                disagreement = distillation(heads.embedding, taught, self.distill)
                terms.losses["distill"] = self.distill.weight * disagreement
                terms.facts["distill.disagreement"] = float(disagreement.detach())
            if self.nopeek is not None:
                correlation = distance_correlation(pictures, sent)
                terms.losses["nopeek"] = self.nopeek.weight * correlation
                terms.facts["nopeek.correlation"] = float(correlation.detach())
            if self.linear is not None:
                error, options = self.linear.play(sent, pictures, batch.weight), self.linear.settings
                terms.losses["linear"] = -options.beta * error.clamp(max=options.ceiling).mean()
                terms.facts["linear.error"] = float(error.detach().mean())
            if self.lipschitz is not None:
                self._add_lipschitz(terms, batch, pictures, self.lipschitz)
        if self.adversary is not None:
            reward = self.adversary.play(sent, pictures, batch.step, batch.weight)
            terms.losses["adversary"] = reward.term
            terms.facts["adversary.error"] = reward.error
            terms.facts["adversary.capped"] = reward.capped
            if self.adversary.settings.loss != "mse":  # else it is 1 - error
                terms.facts["adversary.r2"] = reward.r2
        return terms

    def _add_lipschitz(self, terms: Terms, batch: Batch, pictures: Tensor, settings: LipschitzSettings) -> None:
        count = max(2, round(settings.share * len(pictures)))
        generator = batch.generator(self.train.seed, PURPOSE_LIPSCHITZ)
        chosen = torch.randperm(len(pictures), generator=generator)[:count]
        if settings.perturbation == "counterfactual":
            assert self.data is not None
            rows = batch.indices[chosen.numpy()]
            clean = self.data.input_of(rows).to(self.device)
            perturbed = self.data.input_of(rows, counterfactual=True).to(self.device)
        else:
            clean = pictures[chosen.to(pictures.device)]
            perturbed = gaussian_perturbation(settings.sigma)(clean, generator)
        with same_statistics(self.net.backbone, settings.statistics):
            gains = block_gains(self.net.edge_blocks(), clean, perturbed, settings)
        terms.losses["lipschitz"], constants = lipschitz_term(gains, settings)
        terms.facts |= {f"lipschitz.{name}": value for name, value in constants.items()}


def disturb(feature: Tensor, sigma: float, dropout: float, generator: torch.Generator) -> Tensor:
    """What the device adds before the quantizer: zeros at random places, then Gaussian noise.

    Args:
        feature: float32.
        sigma: standard deviation of the noise, in the feature's unit; 0 adds none.
        dropout: part of the values that become zero; the others are divided by what is left.
        generator: on the CPU.
    """
    if dropout:
        kept = torch.rand(feature.shape, generator=generator).to(feature.device) >= dropout
        feature = feature * kept / (1 - dropout)
    if sigma:
        feature = feature + sigma * torch.randn(feature.shape, generator=generator).to(feature.device)
    return feature


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Autocast to bfloat16 where ``precision`` is ``bf16``."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bf16"
    )
    return context


def edge_gradients(net: ReidNet, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Norm of each term's gradient on the edge half's parameters; a declared term with 0 does nothing.

    The terms' graph is kept; gradients of the parameters are not touched.
    """
    edge = [
        parameter for module in net.edge_modules() for parameter in module.parameters() if parameter.requires_grad
    ]
    norms = {}
    for name, term in losses.items():
        gradients = torch.autograd.grad(term, edge, retain_graph=True, allow_unused=True)
        norms[name] = sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5
    return norms
