"""How long a run will take and how much disk it needs, said before it starts.

A few steps of training and of each attacker's decoder are timed on this machine, in processor time, so that what
else runs on it does not count; the other stages are rough constants. The figure is good to a factor of about
two on a machine that has nothing else to do.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.datasets.settings import DataSettings, open_dataset
from toolkit.errors import ArtifactError
from toolkit.patrol.settings import DefenceSettings, TrainSettings
from toolkit.runs import RunFolder
from toolkit.settings import RunSettings

if TYPE_CHECKING:
    import torch

    from toolkit.privacy.settings import AttackSettings

logger = logging.getLogger(__name__)
MIB = 2**20
JOINT_FACTOR = 2.4  # a joint PATROL step against a plain one
FINETUNE_FACTOR = 2.6  # a step of quantization-aware fine-tuning (FP32, with its teacher) against a plain one
FORWARD_SHARE = 0.3
RENDER_PER_SECOND = 100.0
OTHER_ATTACKER_SECONDS = 5.0  # ridge; attackers by optimization are not timed beforehand
WINDOWED_SSIM = 1.3  # the loss of a decoder against the plain error that is timed here
FLOOR_SHARE = 0.25  # the decoder trained on shuffled pairs, once a run
RESERVE_MIB = 200
VARIANTS = 4
BATCH = 32


@dataclass(frozen=True)
class Estimate:
    """Seconds per stage, and bytes in all.

    Attributes:
        seconds: of each stage.
        bytes: of disk.
        possible: further seconds of a stage that depend on what it finds.
    """

    seconds: dict[str, float]
    bytes: int
    possible: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def announce(settings: RunSettings, run: RunFolder, stages: Collection[str]) -> None:
    """Log what these stages, which are not finished, will take; nothing when there are none.

    Raises:
        ArtifactError: the disk of the run folder is too small.
    """
    if not stages:
        return
    found = estimate(settings)
    seconds = {stage: value for stage, value in found.seconds.items() if stage in stages}
    free = shutil.disk_usage(run.existing_folder()).free
    needed = found.bytes if "build" in stages else 0
    if free < needed + RESERVE_MIB * MIB:
        raise ArtifactError(
            f"no space: {run.root} needs about {needed // MIB + RESERVE_MIB} MiB and {free // MIB} MiB are free; "
            "free some, or put the runs elsewhere with --runs"
        )
    longest = sorted(seconds, key=lambda stage: -seconds[stage])[:3]
    parts = ", ".join(f"{stage} {minutes(seconds[stage])}" for stage in longest)
    total = minutes(sum(seconds.values()))
    maybe = "".join(
        f", and {minutes(value)} more in {stage} if INT8 loses too much"
        for stage, value in found.possible.items()
        if stage in stages
    )
    logger.info("run %s: about %s (%s)%s, %d MiB of disk", settings.name, total, parts, maybe, needed // MIB)


def estimate(settings: RunSettings) -> Estimate:
    """Time and disk of a whole run."""
    train, total = counts(settings.data)
    picture = settings.picture.height * settings.picture.width
    seconds = {"data": total / RENDER_PER_SECOND if settings.data.kind == "fleet" else total / 500.0}
    rate = training_rate(settings)
    if settings.enter.kind == "train":
        dense = train * settings.train.epochs * settings.train.augmentations / rate
        seconds["train"] = dense + joint_seconds(settings.patrol, train, rate)
    if settings.enter.kind != "onnx":
        seconds["slim"] = joint_seconds(settings.slim.finetune, train, rate) + 5
    forward = FORWARD_SHARE * total / rate
    seconds |= {"export": 10.0, "quantize": 15.0, "build": VARIANTS * forward + 10, "profile": 25.0}
    attack, floor = attack_seconds(settings)
    seconds["attack"] = suites(settings.attack) * attack + floor
    seconds |= {"evaluate": VARIANTS * forward + 5, "report": 10.0}
    finetune = finetune_seconds(settings, train, rate)
    certain = settings.quantize.finetune is not None and settings.quantize.finetune.when == "always"
    seconds["quantize"] += finetune if certain else 0.0
    possible = {"quantize": finetune} if finetune and not certain else {}
    codes = 8 * picture  # at most 8 bytes of codes per pixel: 128 channels at an eighth of the sides, and less
    return Estimate(seconds, int(total * (3 * picture + VARIANTS * codes / 4) + 400 * MIB), possible)


def suites(options: AttackSettings) -> int:
    """How often all attackers are trained: variants by seeds, rows beside them, several frames of one wire."""
    frames = 2 * sum(count > 1 for count in options.frames)
    return (VARIANTS + len(options.rows())) * options.seeds + frames


def attack_seconds(settings: RunSettings) -> tuple[float, float]:
    """Seconds of the attackers on one variant, and of the floor."""
    import torch

    from toolkit.privacy.attacks.decoders import build_attack_decoder
    from toolkit.privacy.attacks.imitation import ImitationSettings
    from toolkit.privacy.attacks.inverse_network import InverseNetworkSettings

    size = (settings.picture.height, settings.picture.width)
    shape = _wire_shape(settings)
    seconds = floor = 0.0
    for chosen in settings.attack.chosen():
        attacker = chosen.decoder if isinstance(chosen, ImitationSettings) else chosen
        if not isinstance(attacker, InverseNetworkSettings):
            seconds += OTHER_ATTACKER_SECONDS
            continue
        decoder = build_attack_decoder(attacker.decoder, *shape, size)
        pair = _timed(decoder, torch.zeros(BATCH, *shape), attacker.precision) * WINDOWED_SSIM / BATCH
        seconds += pair * attacker.batch * attacker.most_steps()
        floor = max(floor, pair * attacker.batch * attacker.steps * FLOOR_SHARE)
    return seconds, floor


def _wire_shape(settings: RunSettings) -> tuple[int, int, int]:
    import torch

    from toolkit.models.architecture import Architecture
    from toolkit.models.network import build_network

    if settings.enter.kind == "onnx":  # not known before the file is read; the size of ResNet-18's layer2
        return 128, max(1, settings.picture.height // 8), max(1, settings.picture.width // 8)
    with torch.no_grad():
        net = build_network(Architecture(identities=2, **settings.model.model_dump())).eval()
        feature = net.edge(torch.zeros(1, 3, settings.picture.height, settings.picture.width))
    return feature.shape[1], feature.shape[2], feature.shape[3]


def joint_seconds(settings: DefenceSettings, train: int, rate: float) -> float:
    """Seconds of a phase with the defence on; the decoders' warm-up is left out."""
    factor = JOINT_FACTOR if settings.adversary or settings.lipschitz else 1.0
    factor += FORWARD_SHARE if settings.distill else 0.0
    schedule: TrainSettings = settings.train
    return train * schedule.epochs * schedule.augmentations * factor / rate


def finetune_seconds(settings: RunSettings, train: int, rate: float) -> float:
    """Seconds of quantization-aware fine-tuning; 0 where the settings leave it out."""
    options = settings.quantize.finetune
    if options is None:
        return 0.0
    schedule = options.train
    return FINETUNE_FACTOR * train * schedule.epochs * schedule.augmentations / rate


def counts(data: DataSettings) -> tuple[int, int]:
    """Training pictures and all pictures, without decoding any."""
    if data.kind == "fleet":
        fleet = data.fleet
        train = fleet.identities_train * fleet.pictures_per_identity
        return train, train + fleet.identities_test * fleet.pictures_per_identity
    dataset = open_dataset(data)
    return len(dataset.indices_of("train")), len(dataset.records)


def training_rate(settings: RunSettings) -> float:
    """Pictures a second of a forward and backward pass of the dense network, measured."""
    if settings.enter.kind == "onnx":
        return 300.0
    import torch

    from toolkit.models.architecture import Architecture
    from toolkit.models.network import build_network

    net = build_network(Architecture(identities=64, **settings.model.model_dump()))
    net.forward = net.training_forward  # type: ignore[method-assign,assignment]
    batch = torch.zeros(BATCH, 3, settings.picture.height, settings.picture.width)
    return BATCH / _timed(net, batch, settings.train.precision)


def _timed(net: torch.nn.Module, batch: torch.Tensor, precision: str) -> float:
    """Seconds of a forward and backward pass on idle cores; the fastest of a few after a first one."""
    import torch

    threads = torch.get_num_threads()
    batch = batch.contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(4):
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = net(batch)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.stack([output.float().sum() for output in outputs]).sum().backward()
        times.append((time.process_time() - started) / threads)
    return min(times[1:])


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
