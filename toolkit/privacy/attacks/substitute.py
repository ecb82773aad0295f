"""Substitute client: imitates the edge half from the codes on the wire alone, by matching distributions."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.errors import AttackError
from toolkit.privacy.attacks.base import AttackerSettings, Knowledge
from toolkit.privacy.attacks.imitation import Imitation, ImitationSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.training import one_cycle
from toolkit.privacy.pairs import Pairs
from toolkit.progress import track

BETAS = (0.5, 0.99)
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


class SubstituteSettings(ImitationSettings):
    """Options of :class:`Substitute`.

    Attributes:
        adversarial_weight: of the discriminator that tells substitute features from observed ones.
        mmd_weight: of the maximum mean discrepancy between the two.
    """

    kind: Literal["substitute"] = "substitute"
    adversarial_weight: float = Field(default=1.0, ge=0)
    mmd_weight: float = Field(default=1.0, ge=0)


class Substitute(Imitation):
    """Neither weights, nor queries, nor the cloud half: pictures of its own and codes seen on the wire.

    A substitute encoder learns to give features that neither a discriminator nor a multi-kernel maximum mean
    discrepancy tells from observed ones; an inverse network trained on its codes is then applied to real ones.
    The codes of ``train`` are used without their pictures, in an order of their own.
    """

    kind = "substitute"
    reference = "FORA (Xu et al., CVPR 2024); a clone without queries as in UnSplit (Erdogan et al., WPES 2022)"
    knowledge = Knowledge(own_pictures=True)
    settings_type: ClassVar[type[AttackerSettings]] = SubstituteSettings

    def __init__(self, settings: AttackerSettings | dict[str, Any] | None, tools: Tools) -> None:
        super().__init__(settings)
        self._fmt, self._noise = tools.fmt, tools.noise

    @property
    def settings(self) -> SubstituteSettings:
        """The checked options."""
        assert isinstance(self._settings, SubstituteSettings)
        return self._settings

    def _imitate(self, train: Pairs) -> float:
        options, own = self.settings, train.parts[0]
        judge = _judge(train.code_shape[0], options.width)
        rate = options.learning_rate
        encoder = torch.optim.AdamW(self._shadow.parameters(), lr=rate, betas=BETAS, weight_decay=1e-4)
        critic = torch.optim.AdamW(judge.parameters(), lr=rate, betas=BETAS, weight_decay=1e-4)
        scale = _scale(train)
        total = math.nan
        self._shadow.train()
        for step in track(range(options.steps), f"{self.name}: imitating the edge half"):
            random = np.random.default_rng((options.seed, step))
            size = min(options.batch, len(own.indices))
            chosen, seen = (random.permutation(len(own.indices))[:size] for _ in range(2))
            x = torch.from_numpy(own.pictures[own.indices[chosen]]).permute(0, 3, 1, 2).float() / 255.0
            real = torch.from_numpy(train.features(seen)) / scale
            made = self._features(x) / scale
            _learn(judge, critic, real, made.detach())
            loss = options.mmd_weight * maximum_mean_discrepancy(_summary(made), _summary(real))
            loss = loss + options.adversarial_weight * -judge(made).mean()
            for optimizer in (encoder, critic):
                optimizer.param_groups[0]["lr"] = options.learning_rate * one_cycle(step / options.steps)
            encoder.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._shadow.parameters(), 1.0)
            encoder.step()
            total = loss.item()
            if not math.isfinite(total):
                raise AttackError(f"substitute: the loss is not finite at step {step}; lower learning_rate")
        return total


def maximum_mean_discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """Squared MMD of two samples ``(N, D)`` and ``(M, D)``, biased, sum of five Gaussian kernels (MK-MMD).

    The kernels' widths are multiples of the mean squared distance in the joint sample (Gretton et al. 2012).
    """
    both = torch.cat([a, b])
    distances = (both[:, None] - both[None]).square().sum(2)
    width = distances.detach().mean().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-distances / (factor * width)) for factor in BANDWIDTHS]).sum(0)
    n = len(a)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def _summary(features: Tensor) -> Tensor:
    """Per picture: channel means and spreads, and the mean map over channels at no more than 8 x 8."""
    coarse = F.adaptive_avg_pool2d(features.mean(1, keepdim=True), 8).flatten(1)
    return torch.cat([features.mean((2, 3)), features.std((2, 3), unbiased=False), coarse], 1)


def _judge(channels: int, width: int) -> nn.Module:
    """A patch discriminator on features: spectrally normalized, so that its slope stays bounded."""
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        norm(nn.Conv2d(channels, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(width, 1, 1)),
    )


def _learn(judge: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, made: Tensor) -> None:
    """One step of the discriminator with the hinge loss."""
    loss = F.relu(1 - judge(real)).mean() + F.relu(1 + judge(made)).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _scale(train: Pairs) -> float:
    """Root mean square of the observed features."""
    sample = train.features(np.arange(min(len(train), 256)))
    return max(float(np.sqrt(np.square(sample, dtype=np.float64).mean())), 1e-12)
