"""What a joint PATROL step costs against a plain one, in one interleaved run.

    python -m benchmarks.patrol.step_cost --out benchmarks/patrol/step_cost.md

Default settings (k = 1 decoder step, one adversary, Lipschitz term, masks with their steps, bf16), a batch of 96
pictures. Steps of all kinds are taken in turns; a step's time is its processor time, so that what else runs on the
machine counts little.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from toolkit.device import describe_machine
from toolkit.models.architecture import Architecture
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.models.network import build_network
from toolkit.patrol.data import Batches, TrainingData
from toolkit.patrol.history import Log
from toolkit.patrol.memory import channels_last
from toolkit.patrol.objective import Objective
from toolkit.patrol.schedule import make_optimizer
from toolkit.patrol.settings import PatrolSettings, TrainSettings
from toolkit.patrol.trainer import Phase, one_step
from toolkit.patrol.training import make_adversary, make_masks
from toolkit.wire import WireFormat

IDENTITIES = 24
TARGETS = {64: 2.5, 128: 4.0}
STEP = 0.05
PARTS = {
    "plain": {"masks": None, "lipschitz": None, "adversary": None},
    "masks": {"lipschitz": None, "adversary": None},
    "Lipschitz": {"masks": None, "adversary": None},
    "adversary": {"masks": None, "lipschitz": None},
    "joint": {},
}


def make_step(side: int, width: float, cut: str, parts: dict[str, None], folder: Path) -> Callable[[int], None]:
    """One kind of step on a network of its own."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (4 * IDENTITIES, side, side, 3), dtype=np.uint8)
    data = TrainingData(pictures, np.repeat(np.arange(IDENTITIES), 4))
    net = build_network(Architecture("resnet18", cut, IDENTITIES, last_stride=1, width=width))
    channels_last(net)
    feature = tuple(net.eval().edge(torch.zeros(1, 3, side, side)).shape[1:])
    fmt = None if parts == PARTS["plain"] else WireFormat(*feature, bits=8, step=STEP, signed=False)
    train = TrainSettings(identities=IDENTITIES, epochs=1000)
    settings = PatrolSettings(train=train).model_copy(update=parts)
    batches = Batches(data, train, (0.5, 0.5, 0.5))
    masks = None
    if settings.masks is not None:
        masks = MaskSet(find_groups(net, torch.zeros(1, 3, side, side)))
        masks.attach(net)
    device = torch.device("cpu")
    phase = Phase(
        name="timed",
        net=net.train(),
        batches=batches,
        objective=Objective(
            net,
            train,
            fmt,
            lipschitz=settings.lipschitz,
            adversary=make_adversary(feature, batches, settings, device),
            data=data,
        ),
        optimizer=make_optimizer(net, train.learning_rate, train.weight_decay),
        train=train,
        fingerprint="",
        masks=make_masks(net, masks, data, settings.masks, 10_000, None),
    )
    log = Log(folder, 0, board=False)
    batch = batches.make(np.arange(48), 0, 0)

    def step(_: int) -> None:
        one_step(phase, folder, log, batch)

    return step


def measure(side: int, width: float, cut: str, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of every kind of step, in turns; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        steps = {}
        for name, parts in PARTS.items():
            own = Path(folder) / name
            own.mkdir()
            steps[name] = make_step(side, width, cut, dict(parts), own)
        for number in range(rounds + 2):
            for name, step in steps.items():
                started = time.process_time()
                step(number)
                if number >= 2:
                    times[name].append(time.process_time() - started)
    return times


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--cut", default="layer2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [
        "# What a joint step costs",
        "",
        f"    python -m benchmarks.patrol.step_cost --sides {' '.join(map(str, options.sides))} "
        f"--rounds {options.rounds} --width {options.width} --cut {options.cut}",
        "",
        f"{describe_machine()}; Python {platform.python_version()}, torch {torch.__version__}; "
        f"{time.strftime('%Y-%m-%d')}; {options.threads} thread(s), ResNet-18 of width {options.width}, cut after "
        f"{options.cut}, bf16, batches of 96 pictures. Processor seconds of a "
        f"step: median of {options.rounds} in turns (least to most).",
        "",
        "| step | " + " | ".join(f"{side} px | ratio" for side in options.sides) + " |",
        "|---" * (1 + 2 * len(options.sides)) + "|",
    ]  # fmt: skip
    found = {side: measure(side, options.width, options.cut, options.rounds) for side in options.sides}
    for name in PARTS:
        cells = []
        for times in found.values():
            ratio = float(np.median(np.array(times[name]) / np.array(times["plain"])))
            own = times[name]
            cells.append(f"{np.median(own):.3f} ({min(own):.3f} to {max(own):.3f}) | {ratio:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    goals = ", ".join(f"{TARGETS[side]} at {side} px" for side in options.sides if side in TARGETS)
    lines += ["", f"Aims for the joint step: at most {goals}."]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
