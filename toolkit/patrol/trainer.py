"""The loop of one phase: steps, log, checkpoints after every epoch, resume, early stopping."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.errors import TrainingError
from toolkit.models.network import ReidNet
from toolkit.patrol.adversary import Adversary
from toolkit.patrol.data import Batch, Batches
from toolkit.patrol.distributed import (
    average_buffers,
    average_gradients,
    barrier,
    everywhere,
    from_first,
    rank,
    share_of,
)
from toolkit.patrol.history import History, Log, SilentLog
from toolkit.patrol.objective import Objective
from toolkit.patrol.schedule import one_cycle, set_schedule
from toolkit.patrol.settings import TrainSettings
from toolkit.patrol.sparsity import MaskTraining
from toolkit.patrol.state import (
    State,
    drop_states,
    load_latest,
    load_state,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizer,
    save_state,
)
from toolkit.progress import track

logger = logging.getLogger(__name__)
Validate = Callable[[ReidNet], float]
BEST = "best"
OVERFLOWS = 5  # batches in a row whose gradient may overflow before training gives up
WARM_UP_EPOCH = 1_000_003  # the augmentation's epoch number of warm-up batches, far from any real one


@dataclass
class Phase:
    """All that one phase trains.

    Attributes:
        name: shown in the progress.
        net: the network, on the objective's device.
        batches: its input.
        objective: its loss.
        optimizer: of the network.
        train: its schedule.
        fingerprint: of everything that decides the result (``toolkit.patrol.state``).
        masks: None when nothing is pruned.
        validate: larger is better; called in evaluation mode after every epoch.
    """

    name: str
    net: ReidNet
    batches: Batches
    objective: Objective
    optimizer: torch.optim.AdamW
    train: TrainSettings
    fingerprint: str
    masks: MaskTraining | None = None
    validate: Validate | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole phase."""
        return self.train.epochs * self.batches.steps_per_epoch

    @property
    def adversary(self) -> Adversary | None:
        """The training adversary, if any."""
        return self.objective.adversary

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes."""
        flat = module_tensors("net", self.net) | optimizer_tensors("optimizer", self.optimizer)
        if self.adversary is not None:
            flat |= module_tensors("adversary", self.adversary)
            for index, optimizer in enumerate(self.adversary.optimizers):
                flat |= optimizer_tensors(f"adversary_optimizer{index}", optimizer)
        if self.objective.linear is not None:
            flat |= module_tensors("linear", self.objective.linear)
        if self.masks is not None:
            flat |= {f"mask/{name}": mask for name, mask in self.masks.proximal.masks.items()}
            flat |= {f"proximal/{name}": value for name, value in self.masks.proximal.state_tensors().items()}
        return flat

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what :meth:`tensors` gave."""
        restore_module("net", self.net, tensors)
        restore_optimizer("optimizer", self.optimizer, tensors)
        if self.adversary is not None:
            restore_module("adversary", self.adversary, tensors)
            for index, optimizer in enumerate(self.adversary.optimizers):
                restore_optimizer(f"adversary_optimizer{index}", optimizer, tensors)
        if self.objective.linear is not None:
            restore_module("linear", self.objective.linear, tensors)
        if self.masks is not None:
            proximal = self.masks.proximal
            with torch.no_grad():
                for name, mask in proximal.masks.items():
                    mask.copy_(tensors[f"mask/{name}"])
            start = len("proximal/")
            found = {key[start:]: value for key, value in tensors.items() if key.startswith("proximal/")}
            proximal.load_state_tensors(found)


@dataclass
class _Progress:
    """What early stopping remembers."""

    best: float = -math.inf
    best_epoch: int = -1
    stopped: bool = False

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> _Progress:
        best = -math.inf if facts["best"] is None else float(facts["best"])
        return cls(best, int(facts["best_epoch"]), bool(facts["stopped"]))

    def facts(self) -> dict[str, Any]:
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "best_epoch": self.best_epoch, "stopped": self.stopped}


def run_phase(phase: Phase, folder: Path) -> History:
    """Train a phase to its end, going on from the newest state in ``folder``.

    Returns:
        Its curves; the network (and the masks) hold the result: the last weights, or the best ones when training
        was stopped early or ``patience`` is set.

    Raises:
        TrainingError: the loss is not finite; the state of the last complete epoch stays.
        ArtifactError: a state cannot be written, is damaged, or belongs to another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = load_latest(folder, phase.fingerprint)
    barrier()  # rank 0 writes from here on
    progress = _Progress()
    first = 0
    if state is not None:
        phase.restore(state.tensors)
        first = state.epoch
        progress = _Progress.from_facts(state.facts)
        logger.info("%s: going on after epoch %d of %d", phase.name, first, phase.train.epochs)
    log = Log(folder, first) if rank() == 0 else SilentLog(folder, first)
    try:
        if state is None:
            _warm_up(phase, range(len(phase.adversary.decoders)) if phase.adversary else (), 0)
            _save(phase, folder, 0, progress)
        epoch = first
        while epoch < phase.train.epochs and not progress.stopped:
            _epoch(phase, folder, log, epoch)
            average_buffers(phase.net)
            epoch += 1
            _validate(phase, folder, log, epoch, progress)
            log.flush()
            _save(phase, folder, epoch, progress)
    finally:
        log.close()
    _finish(phase, folder, progress)
    history = log.history
    history.epochs, history.stopped_early = epoch, progress.stopped
    history.best = None if progress.best_epoch < 0 else (progress.best, progress.best_epoch)
    return history


def _epoch(phase: Phase, folder: Path, log: Log, epoch: int) -> None:
    phase.net.train()
    if phase.adversary is not None and (due := phase.adversary.due_for_reset(epoch)) is not None:
        phase.adversary.reinitialize(due, generation=epoch)
        _warm_up(phase, (due,), epoch)
        phase.net.train()
    description = f"{phase.name}: epoch {epoch + 1} of {phase.train.epochs}"
    for batch in track(phase.batches.epoch(epoch), description, total=phase.batches.steps_per_epoch):
        log.write(epoch, batch.step, one_step(phase, folder, log, share_of(batch)))


def one_step(phase: Phase, folder: Path, log: Log, batch: Batch) -> dict[str, float]:
    """One joint step; returns what to log."""
    rate, momentum = one_cycle(batch.step, phase.steps, phase.train.learning_rate, phase.train.warm_fraction)
    set_schedule(phase.optimizer, rate, momentum)
    phase.optimizer.zero_grad(set_to_none=True)
    if phase.masks is not None:
        for mask in phase.masks.proximal.masks.values():
            mask.grad = None
    terms = phase.objective.terms(batch)
    total = terms.total()
    values = terms.values()
    if not everywhere(math.isfinite(float(total.detach())), phase.objective.device):
        raise _not_finite(values, batch, folder)
    total.backward()
    parameters = [p for group in phase.optimizer.param_groups for p in group["params"]]
    pruned = list(phase.masks.proximal.masks.values()) if phase.masks is not None else []
    average_gradients([*parameters, *pruned], batch.weight)
    clip = phase.train.gradient_clip or math.inf
    norm = float(nn.utils.clip_grad_norm_(parameters, clip, foreach=True))
    values |= {"loss.total": float(total.detach()), "learning_rate": rate}
    if math.isfinite(norm):
        phase.optimizer.step()
        values["gradient"] = norm
    else:  # an overflow in one batch's backward pass: leave the batch out
        values["skipped"] = 1.0
        for mask in phase.masks.proximal.masks.values() if phase.masks else ():
            mask.grad = None
        if log.skipped_since(batch.step, OVERFLOWS - 1):
            raise _not_finite(values | {"gradient": norm}, batch, folder)
    if phase.masks is not None:
        values |= phase.masks.step(batch.step)
    return values


def _not_finite(values: dict[str, float], batch: Batch, folder: Path) -> TrainingError:
    culprits = [name for name, value in values.items() if not math.isfinite(value)]
    return TrainingError(
        f"{', '.join(culprits) or 'the sum of the losses'} became NaN or infinite in epoch {batch.epoch + 1}, "
        f"step {batch.step}; lower train.learning_rate, adversary.beta or lipschitz.alpha, or set train.precision "
        f"to fp32. The state of the last complete epoch is kept in {folder}"
    )


def _warm_up(phase: Phase, decoders: range | tuple[int, ...], epoch: int) -> None:
    """Let decoders catch up with the network as it is."""
    adversary = phase.adversary
    if adversary is None or not decoders or not adversary.settings.warmup_steps:
        return
    phase.net.eval()
    steps = adversary.settings.warmup_steps
    rounds = -(-steps // phase.batches.steps_per_epoch)
    source = (
        batch for turn in range(rounds) for batch in phase.batches.epoch(WARM_UP_EPOCH + epoch * 1009 + turn)
    )
    for whole, _ in track(zip(source, range(steps), strict=False), f"{phase.name}: adversary", total=steps):
        batch = share_of(whole)
        pictures = batch.pictures.to(phase.objective.device)
        with torch.no_grad(), phase.objective.autocast():
            sent = phase.objective.wire(phase.net.edge(pictures), batch.generator(phase.train.seed, 3))
        for index in decoders:
            adversary.fit(sent, pictures, index, batch.weight)


def _validate(phase: Phase, folder: Path, log: Log, epoch: int, progress: _Progress) -> None:
    if phase.validate is None:
        return
    phase.net.eval()
    with torch.no_grad():
        value = from_first(float(phase.validate(phase.net)))
    log.write(epoch - 1, epoch * phase.batches.steps_per_epoch - 1, {"validation": value})
    if phase.masks is not None and not phase.masks.proximal.settled and epoch < phase.train.epochs:
        return  # the budget is not met yet: such a network cannot be the result
    if value > progress.best:
        progress.best, progress.best_epoch = value, epoch
        if phase.train.patience and rank() == 0:
            save_state(folder, State(epoch, phase.tensors()), phase.fingerprint, name=BEST)
    patience = phase.train.patience
    progress.stopped = bool(patience) and epoch - progress.best_epoch >= patience


def _save(phase: Phase, folder: Path, epoch: int, progress: _Progress) -> None:
    if rank() == 0:
        save_state(folder, State(epoch, phase.tensors(), progress.facts()), phase.fingerprint)
    barrier()


def _finish(phase: Phase, folder: Path, progress: _Progress) -> None:
    if phase.train.patience and progress.best_epoch >= 0:
        phase.restore(load_state(folder / BEST, phase.fingerprint).tensors)
    if phase.masks is not None and not phase.masks.proximal.settled:
        phase.masks.proximal.settle(phase.masks.steering)
    phase.net.eval()
    barrier()  # everyone has read the best state
    if rank() == 0:
        drop_states(folder, keep=1)
