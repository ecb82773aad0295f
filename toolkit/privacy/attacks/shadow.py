"""Query-free attack: a shadow of the edge half, learned through the known cloud half and the codes on the wire."""

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
from toolkit.privacy.pairs import LivePart, Pairs, Part
from toolkit.progress import track

TEMPERATURE = 0.1


class ShadowSettings(ImitationSettings):
    """Options of :class:`Shadow`.

    Attributes:
        statistics_weight: weight of matching the distribution of the observed codes; 0 is He et al.'s attack,
            which does not look at them.
    """

    kind: Literal["shadow"] = "shadow"
    statistics_weight: float = Field(default=1.0, ge=0)


class Shadow(Imitation):
    """Neither queries nor weights of the edge half: only the cloud half, own pictures, and codes seen on the wire.

    The shadow learns to make the known cloud half tell identities apart, and to give features distributed like
    the observed ones (channel means, spreads and spatial means); an inverse network trained on the shadow's codes
    is then applied to the real ones. The codes of ``train`` are used without their pictures.
    """

    kind = "shadow"
    reference = "He, Zhang, Lee, ACSAC 2019, section 3.4; feature matching after FORA (Xu et al., CVPR 2024)"
    knowledge = Knowledge(cloud_half=True, own_pictures=True, training_set=True)
    settings_type: ClassVar[type[AttackerSettings]] = ShadowSettings

    def __init__(self, settings: AttackerSettings | dict[str, Any] | None, tools: Tools) -> None:
        super().__init__(settings)
        self._cloud = tools.need_cloud("shadow")
        if tools.identities is None:
            raise AttackError("shadow needs the identities of the adversary's own pictures")
        self._identities, self._fmt, self._noise = tools.identities, tools.fmt, tools.noise
        if isinstance(self._cloud, nn.Module):
            self._cloud.eval().requires_grad_(False)

    @property
    def settings(self) -> ShadowSettings:
        """The checked options."""
        assert isinstance(self._settings, ShadowSettings)
        return self._settings

    def _own_identities(self, own: Part | LivePart) -> list[str]:
        return [self._identities[i] for i in own.indices]

    def _imitate(self, train: Pairs) -> float:
        own, options = train.parts[0], self.settings
        rows = _by_identity(self._own_identities(own))
        observed = _statistics(torch.from_numpy(train.features(np.arange(min(len(train), 512)))))
        optimizer = torch.optim.AdamW(self._shadow.parameters(), lr=options.learning_rate, weight_decay=1e-4)
        total = math.nan
        self._shadow.train()
        for step in track(range(options.steps), f"{self.name}: shadow"):
            chosen = _two_each(rows, options.batch, np.random.default_rng((options.seed, step)))
            pictures = own.pictures[own.indices[chosen]]
            x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0
            features = self._features(x)
            loss = contrast(self._cloud(features))
            if options.statistics_weight:
                loss = loss + options.statistics_weight * _apart(_statistics(features), observed)
            optimizer.param_groups[0]["lr"] = options.learning_rate * one_cycle(step / options.steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self._shadow.parameters(), 1.0)
            optimizer.step()
            total = loss.item()
            if not math.isfinite(total):
                raise AttackError(f"shadow: the loss is not finite at step {step}; lower learning_rate")
        return total


def contrast(embeddings: Tensor) -> Tensor:
    """Cross-entropy of cosines: each of 2K embeddings (rows 2i and 2i+1 are one identity) finds its partner."""
    unit = F.normalize(embeddings.flatten(1), dim=1)
    cosines = unit @ unit.T / TEMPERATURE
    cosines = cosines - torch.eye(len(unit)) * 1e4
    return F.cross_entropy(cosines, torch.arange(len(unit)) ^ 1)


def _statistics(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means and spreads of the channels, and the mean map over channels."""
    return features.mean((0, 2, 3)), features.std((0, 2, 3)), features.mean((0, 1))


def _apart(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
    """Mean squared difference of statistics, relative to the observed ones' size. Channels keep their order: the
    cloud half fixes it."""
    gaps = [
        (a - b).square().mean() / b.square().mean().clamp_min(1e-12) for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack(gaps).sum()


def _by_identity(names: list[str]) -> list[np.ndarray]:
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name, []).append(row)
    pairs = [np.asarray(rows) for rows in groups.values() if len(rows) > 1]
    if len(pairs) < 2:
        raise AttackError("shadow needs at least two identities with two pictures each")
    return pairs


def _two_each(rows: list[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
    chosen = random.permutation(len(rows))[: min(count, len(rows))]
    return np.concatenate([random.permutation(rows[i])[:2] for i in chosen])
