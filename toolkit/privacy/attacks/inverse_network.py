"""Black-box inverse network: a decoder trained on dequantized codes exactly as they are transmitted."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from toolkit.models.decoders import parameter_count
from toolkit.privacy.attacks.base import Attack, AttackerSettings, FitReport, Knowledge
from toolkit.privacy.attacks.decoders import build_attack_decoder
from toolkit.privacy.attacks.linear_start import LinearStart
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.training import DecoderTraining, Outcome, TrainingPlan, pick_device
from toolkit.privacy.codes import Floats, expect_codes
from toolkit.privacy.pairs import Pairs

logger = logging.getLogger(__name__)
STATISTICS_PAIRS = 1024
PRIOR_MARGIN = 0.02


class InverseNetworkSettings(AttackerSettings):
    """Options of :class:`InverseNetwork`; :meth:`screening` and :meth:`headline` are the two presets.

    Attributes:
        decoder: see ``build_attack_decoder``.
        steps: optimizer steps of the first cycle.
        doublings: how often the number of steps may be doubled; 0 leaves convergence untested.
        tolerance: SSIM that a doubling must gain for training to go on.
        batch: pairs a step.
        learning_rate: highest of a cycle (AdamW, warm-up then cosine).
        weight_decay: of AdamW.
        ssim_weight: loss = MSE + ssim_weight * (1 - SSIM).
        adversarial_weight: of a critic that tells originals from reconstructions; 0 leaves it out.
        perceptual_weight: of the distance in that critic's features.
        pretrain_steps: steps on synthetic pictures first, where the suite has some.
        ssim_crop: side of the random window in which the loss looks at SSIM, in pixels.
        linear_start: learn what is missing from a ridge regression, instead of from the mean picture.
        precision: of the decoder's arithmetic; weights and loss stay float32.
        device: where it trains.
        checkpoint_seconds: between two saves of the training state.
        data_check: train once more, as long, on half of the pictures: what all of them gain over half must stay
            under ``tolerance`` too.
    """

    kind: Literal["inverse_network"] = "inverse_network"
    decoder: str = "subpixel_n2c96"
    steps: int = Field(default=1000, ge=2)
    doublings: int = Field(default=0, ge=0, le=8)
    tolerance: float = Field(default=0.01, gt=0)
    batch: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    ssim_weight: float = Field(default=0.1, ge=0)
    adversarial_weight: float = Field(default=0.0, ge=0)
    perceptual_weight: float = Field(default=0.0, ge=0)
    pretrain_steps: int = Field(default=0, ge=0)
    ssim_crop: int = Field(default=64, ge=16)
    linear_start: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    data_check: bool = False

    @classmethod
    def screening(cls, **changes: object) -> InverseNetworkSettings:
        """Quick: one cycle of a small residual decoder; convergence is not tested."""
        return cls.model_validate({"label": "screening", "steps": 800, **changes})

    @classmethod
    def headline(cls, **changes: object) -> InverseNetworkSettings:
        """Large decoder; steps are doubled until that gains less than 0.01 SSIM, and data must suffice too."""
        base: dict[str, object] = {
            "label": "headline",
            "decoder": "subpixel_n6c128",
            "batch": 32,
            "steps": 4000,
            "doublings": 4,
            "data_check": True,
        }
        return cls.model_validate({**base, **changes})

    @classmethod
    def sharp(cls, **changes: object) -> InverseNetworkSettings:
        """Headline with perceptual and adversarial loss: sharper, so that more can be read, at a lower SSIM."""
        base = {"label": "headline-sharp", "adversarial_weight": 0.003, "perceptual_weight": 0.1}
        return cls.headline(**{**base, **changes})

    def most_steps(self) -> int:
        """Steps on the adversary's own pictures if every doubling is needed, the check by data included."""
        return self.steps * 2**self.doublings * (2 if self.data_check else 1)


class Inverter(nn.Module):
    """Decoder between fixed statistics: inputs standardized per channel, output added to what is known before.

    That is the linear reconstruction where there is one, else the mean picture; both as logits.
    """

    mean: Tensor
    std: Tensor
    prior: Tensor

    def __init__(
        self, decoder: nn.Module, mean: Tensor, std: Tensor, prior: Tensor, linear: LinearStart | None = None
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.linear = linear
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("prior", prior)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(N, C, h, w)`` to pictures ``(N, 3, H, W)`` in (0, 1)."""
        logits = self.decoder((features - self.mean) / self.std)
        prior = self.prior
        if self.linear is not None:
            with torch.no_grad():
                prior = torch.logit(self.linear(features).float().clamp(PRIOR_MARGIN, 1 - PRIOR_MARGIN))
        return torch.sigmoid(logits.float() + prior)


class InverseNetwork(Attack):
    """Learns the inverse of the edge half from pairs that the adversary made itself."""

    kind = "inverse_network"
    reference = "He, Zhang, Lee, ACSAC 2019, section 3.3 (decoder, loss and training are stronger than theirs)"
    knowledge = Knowledge(edge_queries=True, own_pictures=True, training_set=True)
    settings_type: ClassVar[type[AttackerSettings]] = InverseNetworkSettings

    def __init__(
        self, settings: AttackerSettings | dict[str, Any] | None = None, tools: Tools | None = None
    ) -> None:
        super().__init__(settings)
        self._pretraining = tools.pretraining if tools else None
        self._identities = tools.identities if tools else None

    @property
    def settings(self) -> InverseNetworkSettings:
        """The checked options."""
        assert isinstance(self._settings, InverseNetworkSettings)
        return self._settings

    def estimate_seconds(self, train: Pairs) -> tuple[float, float]:
        """Time of the first cycle and of all that may follow, from two timed steps on this machine."""
        self._inverter = make_inverter(self.settings, train)
        training = DecoderTraining(self._inverter, train, train.head(2), self._plan())
        per_step = training.time_step()
        return per_step * self.settings.steps, per_step * self.settings.most_steps()

    def _fit(self, train: Pairs, validation: Pairs, folder: Path | None) -> FitReport:
        started = time.monotonic()
        self._inverter, outcome = self._trained(train, validation, folder, self._plan(), self.name)
        gain = self._data_gain(train, validation, folder, outcome)
        converged = False if gain is not None and gain >= self.settings.tolerance else outcome.converged
        return FitReport(
            converged=converged,
            validation_ssim=outcome.ssim,
            validation_mse=outcome.mse,
            gain=outcome.gain,
            steps=outcome.steps,
            pairs=len(train),
            parameters=parameter_count(self._inverter.decoder),
            curve=outcome.curve,
            chosen={"decoder": self.settings.decoder, "step": float(outcome.best_step)},
            seconds=time.monotonic() - started,
            data_gain=gain,
        )

    def _trained(
        self, train: Pairs, validation: Pairs, folder: Path | None, plan: TrainingPlan, title: str
    ) -> tuple[Inverter, Outcome]:
        """A decoder trained from scratch: on synthetic pairs first, where the suite has some."""
        inverter = make_inverter(self.settings, train)
        self._pretrain(inverter, train, validation, folder)
        return inverter, DecoderTraining(inverter, train, validation, plan).run(folder, title)

    def _data_gain(self, train: Pairs, validation: Pairs, folder: Path | None, outcome: Outcome) -> float | None:
        """Validation SSIM with all pictures over that with half of them; None where it is not asked for.

        More steps come first: where they still gain, the attack has not converged anyway.
        """
        if not self.settings.data_check or outcome.converged is False:
            return None
        names = [self._identities[i] for i in train.parts[0].indices] if self._identities is not None else None
        half, plan = train.half(self.settings.seed, names), self._plan().again(outcome.steps)
        own = folder / "half" if folder else None
        less = self._trained(half, validation, own, plan, f"{self.name}: half of the pictures")[1]
        logger.info("%s: SSIM %.3f with all pictures, %.3f with half", self.name, outcome.ssim, less.ssim)
        return outcome.ssim - less.ssim

    def _pretrain(self, inverter: Inverter, train: Pairs, validation: Pairs, folder: Path | None) -> None:
        """Steps on synthetic pairs; what they teach is where the training on own pairs starts."""
        pairs, steps = self._pretraining, self.settings.pretrain_steps
        if not steps or pairs is None:
            return
        expect_codes(pairs.code_shape, pairs.step, train.code_shape, train.step)
        plan = self._plan().model_copy(update={"steps": steps, "doublings": 0, "data_check": False})
        own = folder / "pretraining" if folder else None
        DecoderTraining(inverter, pairs, validation, plan).run(own, f"{self.name}: pre-training")

    def _plan(self) -> TrainingPlan:
        return TrainingPlan.model_validate(
            {name: getattr(self.settings, name) for name in TrainingPlan.model_fields if name != "tag"}
            | {"tag": self.settings.model_dump_json(exclude={"label", "checkpoint_seconds", "data_check"})}
        )

    def _decode(self, features: Floats) -> Floats:
        return invert(self._inverter, features, self.settings.precision)


def make_inverter(settings: InverseNetworkSettings, train: Pairs) -> Inverter:
    """A fresh decoder for these codes; the same seed gives the same weights."""
    device = pick_device(settings.device)
    mean, std, prior = _statistics(train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        decoder = build_attack_decoder(settings.decoder, *train.code_shape, train.picture_size)
    linear = LinearStart(train, settings.seed) if settings.linear_start and LinearStart.fits(train) else None
    inverter = Inverter(decoder, mean, std, prior, linear)
    return inverter.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def invert(inverter: Inverter, features: Floats, precision: str) -> Floats:
    """Run the decoder in evaluation mode: ``(n, C, h, w)`` to ``(n, H, W, 3)``."""
    device = inverter.prior.device
    inverter.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        x = torch.from_numpy(features).to(device).contiguous(memory_format=torch.channels_last)
        pictures = inverter(x)
    out: Floats = pictures.permute(0, 2, 3, 1).float().cpu().numpy()
    return out


def _statistics(train: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and spread of each channel ``(1, C, 1, 1)`` and the logit of the mean picture ``(1, 3, H, W)``."""
    sample = train.head(STATISTICS_PAIRS)
    channels = train.code_shape[0]
    total, square, count = np.zeros(channels), np.zeros(channels), 0
    picture = np.zeros((*train.picture_size, 3))
    for start in range(0, len(sample), 64):
        features, pictures = sample.batch(np.arange(start, min(len(sample), start + 64)))
        total += features.sum((0, 2, 3), dtype=np.float64)
        square += (features.astype(np.float64) ** 2).sum((0, 2, 3))
        count += features.size // channels
        picture += pictures.sum(0, dtype=np.float64) / 255.0
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    std = np.maximum(std, max(float(std.max()) * 1e-3, 1e-12))
    level = np.clip(picture / len(sample), PRIOR_MARGIN, 1 - PRIOR_MARGIN)
    prior = torch.from_numpy(np.log(level / (1 - level))).float().permute(2, 0, 1)[None]
    shape = (1, channels, 1, 1)
    return (
        torch.from_numpy(mean).float().view(shape),
        torch.from_numpy(std).float().view(shape),
        prior.contiguous(),
    )
