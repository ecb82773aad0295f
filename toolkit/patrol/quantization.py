"""Quantization-aware fine-tuning of the edge half, from a finished calibration to the same forms.

Placement and starting scales are calibration's (``calibration.placement``); weights, biases and scales learn, the
wire's step and the cloud half do not. The FP32 half is the teacher: its feature, and its embedding behind the
frozen cloud half, are what the INT8 half should send (A. Polino et al., "Model compression via distillation and
quantization", ICLR 2018). So the codes stay those that privacy was trained for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from calibration.learned import learned
from calibration.quantize import Quantized
from toolkit.errors import TrainingError
from toolkit.models.network import ReidNet
from toolkit.patrol.data import Batch, Batches, TrainingData
from toolkit.patrol.quantization_settings import QuantizationTraining
from toolkit.patrol.quantized_edge import QuantizedEdge
from toolkit.patrol.schedule import one_cycle
from toolkit.patrol.training import pick_device
from toolkit.progress import track
from toolkit.reid.losses import task_loss

logger = logging.getLogger(__name__)
HELD_OUT = 64  # pictures, not augmented, on which epochs are compared
GREY = (0.485, 0.456, 0.406)  # of erased areas, where no network says its own mean


@dataclass(frozen=True)
class FinetunedQuantization:
    """What fine-tuning made.

    Attributes:
        quantized: forms, scales and decisions, as calibration would have given them; the calibration itself where
            no epoch was better.
        errors: the weighted sum of the distillation errors on held-out pictures, before training and per epoch.
        best: which of them was taken; 0 is the calibration.
        curves: name of a term -> its mean per epoch.
        agreement: share of the wire's codes that PyTorch and form A share on the held-out pictures.
    """

    quantized: Quantized
    errors: tuple[float, ...]
    best: int
    curves: dict[str, list[float]]
    agreement: float


def finetune_quantized(
    quantized: Quantized, data: TrainingData, settings: QuantizationTraining, net: ReidNet | None = None
) -> FinetunedQuantization:
    """Train the INT8 edge half further; the epoch of least error on held-out pictures is the result.

    Args:
        quantized: where to begin.
        data: training pictures; the labels matter only where ``settings.task`` is not 0.
        settings: schedule and weights of the terms.
        net: its cloud half judges embeddings; None (a user's own ONNX file) leaves those terms out.

    Raises:
        TrainingError: every weight is 0, the task needs a network, or the loss became NaN or infinite.
        ModelError: the half holds an operator that has no gradient here.
    """
    if settings.task and net is None:
        raise TrainingError("quantize.finetune.task needs a network that was trained here; set it to 0")
    if not (settings.feature or (settings.embedding and net is not None) or settings.task):
        raise TrainingError("quantize.finetune has nothing to learn from; raise feature, embedding or task")
    return _Finetuning(quantized, data, settings, net).run()


class _Finetuning:
    def __init__(
        self, quantized: Quantized, data: TrainingData, settings: QuantizationTraining, net: ReidNet | None
    ) -> None:
        self.quantized, self.settings, self.net = quantized, settings, net
        self.device = pick_device(settings.train.device)
        self.teacher = QuantizedEdge(quantized.reference).to(self.device).requires_grad_(False)
        self.student = QuantizedEdge(quantized.prepared, quantized.plan, quantized.scales).to(self.device)
        self.fill = GREY if net is None else tuple(float(value) for value in net.mean.flatten())
        self.batches = Batches(data, settings.train, (self.fill[0], self.fill[1], self.fill[2]))
        rows = np.linspace(0, len(data.labels) - 1, min(HELD_OUT, len(data.labels))).astype(np.int64)
        self.held_out = data.input_of(np.unique(rows)).contiguous()
        scales = [*self.student.weight_scales.parameters(), *self.student.activation_scales.parameters()]
        rate = settings.train.learning_rate
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [*self.student.weights], "weight_decay": settings.train.weight_decay, "factor": 1.0},
                {"params": [*self.student.biases], "weight_decay": 0.0, "factor": 1.0},
                {"params": scales, "weight_decay": 0.0, "factor": settings.scale_rate},
            ],
            lr=rate,
        )

    def run(self) -> FinetunedQuantization:
        epochs = self.settings.train.epochs
        curves: dict[str, list[float]] = {}
        state = _frozen(self.net, self.device)
        try:
            errors = [self._held_out_error()]
            best = {name: value.clone() for name, value in self.student.state_dict().items()}
            for epoch in range(epochs):
                for name, value in self._epoch(epoch).items():
                    curves.setdefault(name, []).append(value)
                errors.append(self._held_out_error())
                if errors[-1] <= min(errors):
                    best = {name: value.clone() for name, value in self.student.state_dict().items()}
            self.student.load_state_dict(best)
        finally:
            _restore(self.net, state)
        taken = len(errors) - 1 - int(np.argmin(errors[::-1]))
        result = self.quantized
        if taken:
            result = learned(self.quantized, self.student.learned_weights(), self.student.learned_scales())
        logger.info(
            "fine-tuned INT8 half: error %.3g before, %.3g after %d epochs", errors[0], errors[taken], taken
        )
        return FinetunedQuantization(result, tuple(errors), taken, curves, self._agreement(result))

    def _epoch(self, epoch: int) -> dict[str, float]:
        train = self.settings.train
        sums: dict[str, float] = {}
        steps = train.epochs * self.batches.steps_per_epoch
        description = f"fine-tuning INT8: epoch {epoch + 1} of {train.epochs}"
        for batch in track(self.batches.epoch(epoch), description, total=self.batches.steps_per_epoch):
            rate, momentum = one_cycle(batch.step, steps, train.learning_rate, train.warm_fraction)
            for group in self.optimizer.param_groups:
                group["lr"], group["betas"] = rate * group["factor"], (momentum, group["betas"][1])
            terms = self._terms(batch)
            total = torch.stack(list(terms.values())).sum()
            if not bool(torch.isfinite(total)):
                raise TrainingError(
                    f"fine-tuning the INT8 half diverged in epoch {epoch + 1}; lower quantize.finetune's "
                    "train.learning_rate or scale_rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            if train.gradient_clip:
                nn.utils.clip_grad_norm_(self.student.parameters(), train.gradient_clip)
            self.optimizer.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach())
        return {name: value / self.batches.steps_per_epoch for name, value in sums.items()}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        pictures = batch.pictures.to(self.device).contiguous()
        sent = self.student(pictures)
        terms = self._distillation(pictures, sent)
        if self.settings.task and self.net is not None:
            losses = task_loss(self.net.heads(sent), batch.labels.to(self.device), self.settings.train.losses)
            terms["task"] = self.settings.task * losses.total
        return terms

    def _distillation(self, pictures: Tensor, sent: Tensor) -> dict[str, Tensor]:
        terms = {}
        with torch.no_grad():
            feature = self.teacher.clipped(pictures)
        if self.settings.feature:
            terms["feature"] = self.settings.feature * _relative(sent, feature)
        if self.settings.embedding and self.net is not None:
            with torch.no_grad():
                embedding = self.net.cloud(self.teacher(pictures))
            terms["embedding"] = self.settings.embedding * _relative(self.net.cloud(sent), embedding)
        return terms

    @torch.no_grad()
    def _held_out_error(self) -> float:
        total = 0.0
        for part in self._held_out():
            sent = self.student(part)
            terms = self._distillation(part, sent) or {"feature": _relative(sent, self.teacher.clipped(part))}
            total += float(torch.stack([*terms.values()]).sum()) * len(part)
        return total / len(self.held_out)

    def _held_out(self) -> Iterator[Tensor]:
        for start in range(0, len(self.held_out), 16):
            yield self.held_out[start : start + 16].to(self.device)

    def _agreement(self, result: Quantized) -> float:
        """Of PyTorch's codes with form A's as it is written, on the same pictures."""
        from calibration.session import open_session, run_all

        if "a" not in result.forms:
            return float("nan")
        here = torch.cat([self.student.codes(part).cpu() for part in self._held_out()]).numpy()
        session = open_session(result.forms["a"], result.settings.threads, integer_kernels=False)
        return float(np.mean(run_all(session, self.held_out.numpy(), 16) == here))


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error over the power of what is wanted."""
    return (found - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)


@dataclass(frozen=True)
class _State:
    """What a network was before it was frozen."""

    training: bool
    device: torch.device
    learning: tuple[bool, ...]


def _frozen(net: ReidNet | None, device: torch.device) -> _State | None:
    """Put a network into evaluation mode without gradients."""
    if net is None:
        return None
    learning = tuple(parameter.requires_grad for parameter in net.parameters())
    state = _State(net.training, next(net.parameters()).device, learning)
    net.to(device).eval().requires_grad_(False)
    return state


def _restore(net: ReidNet | None, state: _State | None) -> None:
    if net is None or state is None:
        return
    net.to(state.device).train(state.training)
    for parameter, wanted in zip(net.parameters(), state.learning, strict=True):
        parameter.requires_grad_(wanted)
