"""What query-free attacks share: an encoder of their own that imitates the edge half, and its inverse."""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from toolkit.arrays import copy_rows
from toolkit.privacy.attacks.base import Attack, AttackerSettings, FitReport, to_pictures
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.training import VALIDATION_PAIRS
from toolkit.privacy.codes import Array, Floats, Pictures, WireCodes, encode_to_file
from toolkit.privacy.pairs import LivePart, Pairs, Part
from toolkit.privacy.similarity import compare
from toolkit.wire import WireFormat, encode

logger = logging.getLogger(__name__)


class ImitationSettings(AttackerSettings):
    """Options of every :class:`Imitation`.

    Attributes:
        steps: optimizer steps of the imitating encoder.
        batch: pictures a step (identities, two pictures each, for ``shadow``).
        learning_rate: highest, AdamW one-cycle.
        width: channels of the encoder's blocks.
        decoder: the inverse network trained on the encoder's codes.
    """

    steps: int = Field(default=500, ge=2)
    batch: int = Field(default=24, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    width: int = Field(default=64, ge=8)
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


class Imitation(Attack):
    """An encoder is trained without a single pair; what inverts its codes is applied to the real ones."""

    _fmt: WireFormat | None
    _noise: float

    @property
    def options(self) -> ImitationSettings:
        """The checked options."""
        assert isinstance(self._settings, ImitationSettings)
        return self._settings

    def _fit(self, train: Pairs, validation: Pairs, folder: Path | None) -> FitReport:
        started = time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            signed = (
                self._fmt.signed if self._fmt else bool(train.features(np.arange(min(64, len(train)))).min() < 0)
            )
            self._random = torch.Generator().manual_seed(self.options.seed)
            self._shadow = ShadowEdge(train.code_shape, train.picture_size, self.options.width, signed)
            loss = self._imitate(train)
        self._shadow.eval()
        made = self._shadow_pairs(train, folder)
        held = self._shadow_pairs(validation.head(VALIDATION_PAIRS), None)
        names = self._own_identities(train.parts[0])
        self._inverse = InverseNetwork(self.options.decoder, Tools(identities=names))
        inner = self._inverse.fit(made, held, folder / "decoder" if folder else None)
        truth = self._on_validation(validation)
        logger.info("%s: loss %.3f, SSIM %.3f on its own codes", self.name, loss, inner.validation_ssim)
        return FitReport(
            converged=inner.converged,
            validation_ssim=truth[0],
            validation_mse=truth[1],
            gain=inner.gain,
            steps=self.options.steps + inner.steps,
            pairs=len(made),
            parameters=inner.parameters + sum(p.numel() for p in self._shadow.parameters()),
            chosen={"shadow_loss": loss, "own_ssim": inner.validation_ssim},
            seconds=time.monotonic() - started,
            data_gain=inner.data_gain,
        )

    @abstractmethod
    def _imitate(self, train: Pairs) -> float:
        """Train ``self._shadow``; the last loss. Codes of ``train`` may be used, but never with their pictures."""

    def _features(self, pictures: Tensor) -> Tensor:
        """What the imitation would quantize and send, with noise of the size that the device adds, if any."""
        features: Tensor = self._shadow(pictures)
        if self._noise:
            features = features + self._noise * torch.randn(features.shape, generator=self._random)
            features = features if self._shadow.signed else F.relu(features)
        return features

    def _own_identities(self, own: Part | LivePart) -> list[str] | None:
        """Of the adversary's own pictures, where it knows them."""
        return None

    def _shadow_pairs(self, own: Pairs, folder: Path | None) -> Pairs:
        """The adversary's own pictures and their changed copies, with the codes that its encoder gives them."""
        parts: list[Part | LivePart] = []
        for number, part in enumerate(own.parts):
            if isinstance(part, LivePart):
                step = self._fmt.step if self._fmt else 1.0
                parts.append(replace(part, step=step, encode=self._send))
                continue
            if np.array_equal(part.indices, np.arange(len(part.pictures))):
                pictures = part.pictures
            elif folder:
                folder.mkdir(parents=True, exist_ok=True)
                pictures = copy_rows(part.pictures, part.indices, folder / f"own_pictures{number}.npy")
            else:
                pictures = part.pictures[part.indices]
            codes = self._shadow_codes(pictures, folder / f"shadow_codes{number}.npy" if folder else None)
            parts.append(Part(codes, pictures, np.arange(len(pictures))))
        return Pairs(parts)

    def _shadow_codes(self, pictures: Pictures, path: Path | None) -> WireCodes:
        if path:
            return WireCodes.from_format(encode_to_file(pictures, self._send, path), self._fmt)
        made = [self._send(pictures[i : i + 64]) for i in range(0, len(pictures), 64)]
        return WireCodes.from_format(np.concatenate(made), self._fmt)

    def _send(self, pictures: Pictures) -> Array:
        """What the imitation sends for these pictures."""
        with torch.no_grad():
            x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255.0
            return _on_the_wire(self._features(x).numpy(), self._fmt)

    def _on_validation(self, validation: Pairs) -> tuple[float, float]:
        held = validation.head(128)
        features, pictures = held.batch(np.arange(len(held)))
        score = compare(to_pictures(self._inverse._decode(features), self.name), pictures)
        return float(score.ssim.mean()), float(score.mse.mean())

    def _decode(self, features: Floats) -> Floats:
        return self._inverse._decode(features)


def _on_the_wire(features: Floats, fmt: WireFormat | None) -> np.ndarray:
    return features if fmt is None else encode(features, fmt)
