"""Adversarial reconstruction: decoders that learn to invert the wire, and the edge's reward for their error.

PATROL (WACV 2024; authors' README): min over the network, max over the adversary of L(theta, m) - beta * L_adv,
L_adv = |x - f_adv(f_e(x))|, where the inner maximization makes the adversary reconstruct as well as it can.
Ours: the ceiling, the ensemble, re-initialization, and one shared pass of the decoder for both players.

One pass for both players: the decoder reads a detached copy of the feature; a single backward pass then gives the
decoder's gradient and the gradient at the feature, and the latter, weighed by beta and the ceiling, is handed to
the edge's own backward pass. The edge thus answers to the decoder as it stood before the last of its steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.models.decoders import Decoder, build_decoder
from toolkit.patrol.distributed import average_gradients
from toolkit.patrol.memory import channels_last
from toolkit.patrol.settings import AdversarySettings
from toolkit.patrol.similarity import ReconstructionError


@dataclass(frozen=True)
class Reward:
    """The adversary's part of one joint step.

    Attributes:
        term: ``-beta * mean(min(error, ceiling))``, differentiable with respect to the feature.
        error: mean relative reconstruction error, the edge's decoder choice applied.
        capped: part of the pictures that are past the ceiling.
        r2: of the decoder with the least squared error, whatever the loss is.
    """

    term: Tensor
    error: float
    capped: float
    r2: float


class Adversary(nn.Module):
    """The training adversary: one decoder or several, with their optimizers.

    Args:
        feature: (C, h, w) of the wire.
        picture_size: (H, W).
        settings: decoders, loss, schedule.
        measure: the relative error, anchored on the training pictures.
        seed: of every decoder's initial weights, now and at re-initializations.
        precision: ``bf16`` decodes under autocast; errors are computed in float32 either way.
    """

    def __init__(
        self,
        feature: tuple[int, int, int],
        picture_size: tuple[int, int],
        settings: AdversarySettings,
        measure: ReconstructionError,
        seed: int,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.precision = precision
        self.settings = settings
        self.measure = measure
        self._shape = (feature, picture_size)
        self._seed = seed
        self.decoders = nn.ModuleList(self._fresh(index, 0) for index in range(len(settings.decoders)))
        self.optimizers = [self._optimizer(index) for index in range(len(settings.decoders))]

    def _fresh(self, index: int, generation: int) -> Decoder:
        (channels, height, width), picture_size = self._shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self._seed * 1_000_003 + index * 1009 + generation) % 2**63)
            decoder = build_decoder(self.settings.decoders[index], channels, height, width, picture_size)
        channels_last(decoder)
        return decoder.train()

    def _optimizer(self, index: int) -> torch.optim.Adam:
        return torch.optim.Adam(self.decoders[index].parameters(), lr=self.settings.learning_rate)

    def reinitialize(self, index: int, generation: int) -> None:
        """Replace a decoder and its optimizer's memory by fresh ones."""
        device = next(self.decoders[index].parameters()).device
        self.decoders[index] = self._fresh(index, generation).to(device)
        self.optimizers[index] = self._optimizer(index)

    def due_for_reset(self, epoch: int) -> int | None:
        """The decoder to re-initialize at the start of ``epoch``, if any; they take turns."""
        every = self.settings.reset_every
        if not every or not epoch or epoch % every:
            return None
        return (epoch // every - 1) % len(self.decoders)

    def active(self, step: int) -> Iterator[int]:
        """The decoders that play in this step."""
        if self.settings.ensemble == "turns":
            yield step % len(self.decoders)
        else:
            yield from range(len(self.decoders))

    def decode(self, feature: Tensor, index: int) -> Tensor:
        """Pictures (N, 3, H, W) from one decoder.

        Autocast keeps no copies of the weights here: they would be stale after the decoder's own step.
        """
        enabled = self.precision == "bf16"
        with torch.autocast(feature.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False):
            pictures: Tensor = self.decoders[index](feature)
        return pictures

    def fit(self, feature: Tensor, pictures: Tensor, index: int, weight: float = 1.0) -> float:
        """One step of one decoder on a fixed feature; returns its mean relative error.

        ``weight`` is this process's share of the batch, where several processes train together.
        """
        optimizer = self.optimizers[index]
        optimizer.zero_grad(set_to_none=True)
        error = self.measure(self.decode(feature.detach(), index), pictures).mean()
        error.backward()
        average_gradients(self.decoders[index].parameters(), weight)
        optimizer.step()
        return float(error.detach())

    def play(self, feature: Tensor, pictures: Tensor, step: int, weight: float = 1.0) -> Reward:
        """All decoder steps of one joint step, and the edge's term (module docstring).

        Args:
            feature: (N, C, h, w), what goes over the wire, still attached to the edge half.
            pictures: (N, 3, H, W), what the edge half saw.
            step: number of the joint step, for ``turns``.
            weight: this process's share of the batch.
        """
        active = list(self.active(step))
        for _ in range(self.settings.inner_steps - 1):
            for index in active:
                self.fit(feature, pictures, index, weight)
        errors, gradients, squares = zip(
            *(self._shared_step(feature, pictures, index, weight) for index in active), strict=True
        )
        return self._reward(feature, torch.stack(errors), torch.stack(gradients), 1 - min(squares))

    def _shared_step(
        self, feature: Tensor, pictures: Tensor, index: int, weight: float
    ) -> tuple[Tensor, Tensor, float]:
        """One decoder step; returns the errors (N,), each picture's d(error)/d(feature), and the mean relative
        squared error, all before the step."""
        leaf = feature.detach().requires_grad_()
        optimizer = self.optimizers[index]
        optimizer.zero_grad(set_to_none=True)
        decoded = self.decode(leaf, index)
        errors = self.measure(decoded, pictures)
        errors.mean().backward()
        average_gradients(self.decoders[index].parameters(), weight)
        optimizer.step()
        assert leaf.grad is not None
        with torch.no_grad():
            plain = errors if self.settings.loss == "mse" else self.measure.relative_mse(decoded, pictures)
        return errors.detach(), leaf.grad * errors.numel(), float(plain.detach().mean())

    def _reward(self, feature: Tensor, errors: Tensor, gradients: Tensor, r2: float) -> Reward:
        """errors (decoders, N), gradients (decoders, N, C, h, w)."""
        if self.settings.ensemble == "worst" and len(errors) > 1:
            best = errors.argmin(0)
            chosen = errors.gather(0, best[None])[0]
            gradient = gradients[best, torch.arange(len(best), device=best.device)]
        else:
            chosen, gradient = errors.mean(0), gradients.mean(0)
        below = chosen < self.settings.ceiling
        scale = -self.settings.beta / len(chosen)
        pull = gradient * (scale * below).view(-1, 1, 1, 1)
        surrogate = (feature.float() * pull.float()).sum()
        value = scale * chosen.clamp(max=self.settings.ceiling).sum()
        return Reward(
            term=surrogate - surrogate.detach() + value,
            error=float(chosen.mean()),
            capped=1 - float(below.float().mean()),
            r2=r2,
        )
