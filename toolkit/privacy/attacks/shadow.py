"""Query-free attack: a shadow of the edge half, learned through the known cloud half and the codes on the wire."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.errors import AttackError
from toolkit.privacy.attacks.base import Attack, AttackerSettings, FitReport, Knowledge, to_pictures
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.training import one_cycle
from toolkit.privacy.codes import Floats, Pairs, Part, WireCodes, encode_to_file
from toolkit.privacy.similarity import compare
from toolkit.progress import track
from toolkit.wire import WireFormat, encode

logger = logging.getLogger(__name__)
TEMPERATURE = 0.1


class ShadowSettings(AttackerSettings):
    """Options of :class:`Shadow`.

    Attributes:
        steps: optimizer steps of the shadow.
        batch: identities a step, two pictures each.
        learning_rate: highest, AdamW one-cycle.
        width: channels of the shadow's blocks.
        statistics_weight: weight of matching the distribution of the observed codes; 0 is He et al.'s attack,
            which does not look at them.
        decoder: the inverse network trained on the shadow's codes.
    """

    kind: Literal["shadow"] = "shadow"
    steps: int = Field(default=500, ge=2)
    batch: int = Field(default=24, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    width: int = Field(default=64, ge=8)
    statistics_weight: float = Field(default=1.0, ge=0)
    decoder: InverseNetworkSettings = InverseNetworkSettings()


class ShadowEdge(nn.Module):
    """An encoder of the adversary's own making: it knows the shape of the codes, not the edge half's layers."""

    def __init__(self, shape: tuple[int, int, int], size: tuple[int, int], width: int, signed: bool) -> None:
        super().__init__()
        channels, height, wide = shape
        halvings = max(0, round(math.log2(max(size[0] / height, size[1] / wide))))
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(halvings):
            layers += [
                nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.AdaptiveAvgPool2d((height, wide))]
        self.layers = nn.Sequential(*layers)
        self.signed = signed

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures ``(N, 3, H, W)`` in [0, 1] to features ``(N, C, h, w)``."""
        features: Tensor = self.layers(pictures - 0.5)
        return features if self.signed else F.relu(features)


class Shadow(Attack):
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
        self._identities, self._fmt = tools.identities, tools.fmt
        if isinstance(self._cloud, nn.Module):
            self._cloud.eval().requires_grad_(False)

    @property
    def settings(self) -> ShadowSettings:
        """The checked options."""
        assert isinstance(self._settings, ShadowSettings)
        return self._settings

    def _fit(self, train: Pairs, validation: Pairs, folder: Path | None) -> FitReport:
        started = time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            signed = (
                self._fmt.signed if self._fmt else bool(train.features(np.arange(min(64, len(train)))).min() < 0)
            )
            self._shadow = ShadowEdge(train.code_shape, train.picture_size, self.settings.width, signed)
        loss = self._train_shadow(train)
        own = train.parts[0]
        codes = self._shadow_codes(own, folder / "shadow_codes.npy" if folder else None)
        made = Pairs([Part(codes, own.pictures[own.indices], np.arange(len(own.indices)))])
        self._inverse = InverseNetwork(self.settings.decoder)
        inner = self._inverse.fit(made, made.head(64), folder / "decoder" if folder else None)
        truth = self._on_validation(validation)
        logger.info("shadow: loss %.3f, SSIM %.3f on its own codes", loss, inner.validation_ssim)
        return FitReport(
            converged=inner.converged,
            validation_ssim=truth[0],
            validation_mse=truth[1],
            gain=inner.gain,
            steps=self.settings.steps + inner.steps,
            pairs=len(made),
            parameters=inner.parameters + sum(p.numel() for p in self._shadow.parameters()),
            chosen={"shadow_loss": loss, "own_ssim": inner.validation_ssim},
            seconds=time.monotonic() - started,
        )

    def _train_shadow(self, train: Pairs) -> float:
        own, options = train.parts[0], self.settings
        rows = _by_identity([self._identities[i] for i in own.indices])
        observed = _statistics(torch.from_numpy(train.features(np.arange(min(len(train), 512)))))
        optimizer = torch.optim.AdamW(self._shadow.parameters(), lr=options.learning_rate, weight_decay=1e-4)
        total = math.nan
        self._shadow.train()
        for step in track(range(options.steps), f"{self.name}: shadow"):
            chosen = _two_each(rows, options.batch, np.random.default_rng((options.seed, step)))
            pictures = own.pictures[own.indices[chosen]]
            x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0
            features = self._shadow(x)
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
        self._shadow.eval()
        return total

    def _shadow_codes(self, own: Part, path: Path | None) -> WireCodes:
        def run(pictures: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255.0
                return _on_the_wire(self._shadow(x).numpy(), self._fmt)

        pictures = own.pictures[own.indices]
        if path:
            return WireCodes.from_format(encode_to_file(pictures, run, path), self._fmt)
        made = [run(pictures[i : i + 64]) for i in range(0, len(pictures), 64)]
        return WireCodes.from_format(np.concatenate(made), self._fmt)

    def _on_validation(self, validation: Pairs) -> tuple[float, float]:
        held = validation.head(128)
        features, pictures = held.batch(np.arange(len(held)))
        score = compare(to_pictures(self._inverse._decode(features), self.name), pictures)
        return float(score.ssim.mean()), float(score.mse.mean())

    def _decode(self, features: Floats) -> Floats:
        return self._inverse._decode(features)


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


def _on_the_wire(features: Floats, fmt: WireFormat | None) -> np.ndarray:
    return features if fmt is None else encode(features, fmt)


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
