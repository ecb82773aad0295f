"""Training of an attacker's decoder: cycles of doubling length, a checkpoint to go on from, a convergence verdict.

Everything random in step ``s`` depends on ``(seed, s)`` alone, so a killed training ends with the weights of an
unbroken one (same machine, same threads).
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from toolkit.errors import ArtifactError, AttackError
from toolkit.privacy.attacks.critic import Game, load_optimizer, optimizer_tensors, strip
from toolkit.privacy.codes import Indices
from toolkit.privacy.pairs import Pairs
from toolkit.privacy.similarity import compare, ssim_tensor
from toolkit.progress import track

logger = logging.getLogger(__name__)
VALIDATION_PAIRS = 256
WARM_UP = 0.15
CLIP = 1.0
QUIET = 0.25  # share of a cycle before the critic has a say
CRITIC_RATE = 4e-4
ANNOUNCED = 2000  # steps from which on a training says beforehand how long it will take


class TrainingPlan(BaseModel):
    """The numbers that training needs (see ``InverseNetworkSettings``); ``tag`` marks a checkpoint's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    steps: int
    doublings: int
    tolerance: float
    batch: int
    learning_rate: float
    weight_decay: float
    ssim_weight: float
    ssim_crop: int
    adversarial_weight: float = 0.0
    perceptual_weight: float = 0.0
    precision: str
    checkpoint_seconds: float
    data_check: bool = False
    tag: str = ""

    def cycles(self) -> list[int]:
        """Lengths of the cycles: each doubles the steps taken so far."""
        return [self.steps] + [self.steps * 2**i for i in range(self.doublings)]

    def again(self, steps: int) -> TrainingPlan:
        """The cycles of a training that ended after ``steps``, all of them whatever they gain."""
        doublings = round(math.log2(steps / self.steps))
        return self.model_copy(update={"doublings": doublings, "tolerance": -math.inf, "data_check": False})


@dataclass(frozen=True)
class Outcome:
    """How a training ended; ``gain`` is of the last doubling, or of the last half where nothing was doubled."""

    converged: bool | None
    ssim: float
    mse: float
    gain: float
    steps: int
    best_step: int
    curve: tuple[tuple[int, float], ...]


def pick_device(name: str) -> torch.device:
    """``auto`` takes a CUDA device where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise AttackError("device: cuda, but torch sees no CUDA device; use device: auto")
    return torch.device(name)


class DecoderTraining:
    """One training of one decoder module (features in, pictures in [0, 1] out)."""

    def __init__(self, module: nn.Module, train: Pairs, validation: Pairs, plan: TrainingPlan) -> None:
        self.module, self.train, self.plan = module, train, plan
        self.device = next(module.parameters()).device
        self.held = validation.head(VALIDATION_PAIRS)
        self.batch = min(plan.batch, len(train))
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
        )
        self.step = 0
        self.records: list[tuple[int, float, float]] = []
        self.best: dict[str, Tensor] = {}
        self._epoch: tuple[int, Indices] | None = None
        playing = plan.adversarial_weight or plan.perceptual_weight
        self.game = Game(plan.seed, CRITIC_RATE, self.device) if playing else None

    def run(self, folder: Path | None, title: str) -> Outcome:
        """Train, or go on from the checkpoint in ``folder``.

        Raises:
            AttackError: the loss is not finite.
        """
        path = folder / "training.safetensors" if folder else None
        if path:
            self._load(path)
        if not self.step and sum(self.plan.cycles()) >= ANNOUNCED:
            self._announce(title)
        saved = time.monotonic()
        converged: bool | None = None
        ends = np.cumsum(self.plan.cycles()).tolist()
        for cycle, end in enumerate(ends):
            start = ends[cycle - 1] if cycle else 0
            for step in track(range(max(self.step, start), end), f"{title}: cycle {cycle + 1}"):
                self._advance(step, start, end)
                if step + 1 in ((start + end) // 2, end):
                    self._validate()
                if path and (time.monotonic() - saved > self.plan.checkpoint_seconds or step + 1 == end):
                    self._save(path)
                    saved = time.monotonic()
            if cycle and self._gain(ends[cycle - 1], end) < self.plan.tolerance:
                converged = True
                break
        else:
            converged = None if not self.plan.doublings else False
        return self._finish(converged, ends)

    def _announce(self, title: str) -> None:
        """Say how long the training will take, from two steps that are taken back."""
        before = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        game = {k: v.detach().clone() for k, v in self.game.state().items()} if self.game else {}
        per_step = self.time_step()
        most = sum(self.plan.cycles()) * (2 if self.plan.data_check else 1)
        first, last = (per_step * steps / 60 for steps in (self.plan.steps, most))
        half = ", with the training on half of the pictures" if self.plan.data_check else ""
        logger.info("%s: about %.0f min for the first cycle, at most %.0f min in all%s", title, first, last, half)
        self.module.load_state_dict(before)
        self.optimizer.state.clear()
        if self.game:
            self.game.load(game)
            self.game.optimizer.state.clear()
        self.step = 0

    def time_step(self) -> float:
        """Seconds of one step, measured on the second of two; the module's weights change."""
        self._advance(0, 0, self.plan.steps)
        started = time.monotonic()
        self._advance(1, 0, self.plan.steps)
        return time.monotonic() - started

    def _advance(self, step: int, start: int, end: int) -> None:
        features, pictures = self.train.batch(self._positions(step), step // self._per_epoch())
        x = torch.from_numpy(features).to(self.device).contiguous(memory_format=torch.channels_last)
        target = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float() / 255.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * one_cycle((step - start) / (end - start))
        self.module.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            guess = self.module(x)
        loss = self._loss(guess.float(), target, step)
        if self.game and step - start >= (end - start) * QUIET:
            weights = self.plan.adversarial_weight, self.plan.perceptual_weight
            self.game.learn(guess.float(), target)
            loss = loss + self.game.loss(guess.float(), target, *weights)
        if not math.isfinite(loss.item()):
            raise AttackError(f"the decoder's loss is not finite at step {step}; lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
        self.optimizer.step()
        self.step = step + 1

    def _loss(self, guess: Tensor, target: Tensor, step: int) -> Tensor:
        loss = ((guess - target) ** 2).mean()
        if not self.plan.ssim_weight:
            return loss
        height, width = target.shape[-2:]
        side = self.plan.ssim_crop
        random = np.random.default_rng((self.plan.seed, step, 1))
        top, left = (int(random.integers(0, max(1, n - side + 1))) for n in (height, width))
        window = (..., slice(top, top + side), slice(left, left + side))
        structure = ssim_tensor(guess[window], target[window], data_range=1.0).mean()
        return loss + self.plan.ssim_weight * (1 - structure)

    def _per_epoch(self) -> int:
        return max(1, len(self.train) // self.batch)

    def _positions(self, step: int) -> Indices:
        epoch, place = divmod(step, self._per_epoch())
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.random.default_rng((self.plan.seed, epoch)).permutation(len(self.train))
            self._epoch = (epoch, order)
        return self._epoch[1][place * self.batch : (place + 1) * self.batch]

    def _validate(self) -> None:
        structure, error = self.evaluate()
        self.records.append((self.step, structure, error))
        if self._rank(self.records[-1]) >= max(self._rank(r) for r in self.records):
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    def evaluate(self) -> tuple[float, float]:
        """Mean SSIM and MSE on the validation pairs."""
        self.module.eval()
        structures, errors = [], []
        for start in range(0, len(self.held), 64):
            features, pictures = self.held.batch(np.arange(start, min(len(self.held), start + 64)))
            x = torch.from_numpy(features).to(self.device).contiguous(memory_format=torch.channels_last)
            with (
                torch.no_grad(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"),
            ):
                guess = self.module(x).float().permute(0, 2, 3, 1)
            if not torch.isfinite(guess).all():
                raise AttackError(f"the decoder gives NaN at step {self.step}; lower learning_rate")
            score = compare((guess * 255).round().to(torch.uint8).cpu().numpy(), pictures)
            structures.append(score.ssim)
            errors.append(score.mse)
        return float(np.concatenate(structures).mean()), float(np.concatenate(errors).mean())

    def _rank(self, record: tuple[int, float, float]) -> float:
        return record[1] if self.plan.ssim_weight else -record[2]

    def _gain(self, before: int, after: int) -> float:
        """SSIM gained between two steps: best so far at ``after`` over best so far at ``before``."""
        score = [max((r[1] for r in self.records if r[0] <= end), default=0.0) for end in (before, after)]
        return score[1] - score[0]

    def _finish(self, converged: bool | None, ends: list[int]) -> Outcome:
        best = max(self.records, key=self._rank)
        self.module.load_state_dict(self.best)
        halves = [r[1] for r in self.records]
        passed = [end for end in ends if end <= self.step]
        gain = self._gain(passed[-2], passed[-1]) if len(passed) > 1 else halves[-1] - halves[0]
        curve = tuple((r[0], r[1]) for r in self.records)
        return Outcome(converged, best[1], best[2], gain, self.step, best[0], curve)

    def _identity(self) -> str:
        return json.dumps([self.plan.tag, len(self.train), list(self.train.code_shape), self.train.step])

    def _save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v.contiguous() for k, v in self.module.state_dict().items()}
        tensors |= {f"best.{k}": v.contiguous() for k, v in self.best.items()}
        tensors |= optimizer_tensors(self.optimizer, "optimizer.")
        tensors |= self.game.state() if self.game else {}
        meta = {"step": str(self.step), "records": json.dumps(self.records), "identity": self._identity()}
        partial = path.with_name(path.name + ".partial")
        try:
            save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, partial, metadata=meta)
        except SafetensorError as error:
            partial.unlink(missing_ok=True)
            raise ArtifactError(
                f"cannot write {path}: {error}; free space and run the same command again"
            ) from error
        partial.replace(path)

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                meta = file.metadata()
                if meta.get("identity") != self._identity():
                    logger.info("%s is of other settings or data: training starts anew", path.name)
                    return
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            logger.warning("%s cannot be read (%s): training starts anew", path.name, error)
            return
        self.module.load_state_dict(strip(tensors, "model."))
        self.best = strip(tensors, "best.")
        load_optimizer(self.optimizer, strip(tensors, "optimizer."))
        if self.game:
            self.game.load(tensors)
        self.step = int(meta["step"])
        self.records = [(int(s), float(a), float(b)) for s, a, b in json.loads(meta["records"])]


def one_cycle(progress: float) -> float:
    """Learning-rate factor: linear warm-up over the first 15 %, then a cosine to 1 %."""
    if progress < WARM_UP:
        return 0.1 + 0.9 * progress / WARM_UP
    fall = (progress - WARM_UP) / (1 - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
