"""How fast the attacks are: the white-box search against plain edge passes, and the screening decoder's training.

    OMP_NUM_THREADS=1 python -m benchmarks.privacy_speed white-box --out benchmarks/results/speed_white_box.json
    OMP_NUM_THREADS=2 python -m benchmarks.privacy_speed screening --out benchmarks/results/speed_screening.json

White box: pictures a second of the search (Adam, distance to the cell, total variation, clipping) over those of a
plain forward and backward pass of the same edge half, in turns; the median of the ratios. Screening: the default
screening decoder on 5,000 random codes of a 128 px picture; ``--share`` trains a part of its steps and scales up,
which the result says. Both need a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.device import describe_machine
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings, make_inverter
from toolkit.privacy.attacks.optimization import Search, search_pictures
from toolkit.privacy.attacks.training import DecoderTraining
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.pairs import Pairs, Part
from toolkit.wire import WireFormat

STEPS, BATCH, SIDE = 8, 16, 128
CODES = (64, 32, 32)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("white-box", "screening"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    body = white_box(options.repeats) if options.what == "white-box" else screening(options.share)
    body |= {"machine": describe_machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def white_box(repeats: int) -> dict[str, Any]:
    """The search's rate over the plain rate, interleaved; CPU time of this process."""
    net = build_network(Architecture(backbone="resnet18", cut="layer2", identities=10), seed=0)
    net.eval().requires_grad_(False)
    pictures = torch.rand(BATCH, 3, SIDE, SIDE)
    target = net.edge(pictures).detach()
    fmt = WireFormat(*target.shape[1:], bits=8, step=float(target.max()) / 127, signed=False)  # type: ignore[misc]
    search = Search(STEPS, 0.01, 0.1, "cell")
    start = torch.full_like(pictures, 0.5)
    plain_rates, search_rates = [], []
    for _ in range(repeats + 1):
        began = time.process_time()
        for _ in range(STEPS):
            x = pictures.clone().requires_grad_(True)
            (net.edge(x) - target).square().mean((1, 2, 3)).sum().backward()
        plain_rates.append(STEPS * BATCH / (time.process_time() - began))
        began = time.process_time()
        search_pictures(net.edge, target, start, fmt, search)
        search_rates.append(STEPS * BATCH / (time.process_time() - began))
    ratios = [b / a for a, b in zip(plain_rates[1:], search_rates[1:], strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "plain_per_second": statistics.median(plain_rates),
    }


def screening(share: float) -> dict[str, Any]:
    """Wall and CPU seconds of the screening decoder on 5,000 codes."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 127, (5000, *CODES), dtype=np.int8)
    pictures = random.integers(0, 255, (5000, SIDE, SIDE, 3), dtype=np.uint8)
    train = Pairs([Part(WireCodes(codes, 0.05), pictures, np.arange(4800))])
    held = Pairs([Part(WireCodes(codes, 0.05), pictures, np.arange(4800, 5000))])
    settings = InverseNetworkSettings.screening()
    attack = InverseNetwork(settings)
    wall, cpu = time.monotonic(), time.process_time()
    training = DecoderTraining(make_inverter(settings, train), train, held, attack._plan())
    prepared = time.monotonic() - wall
    steps = max(2, round(settings.steps * share))
    training._advance(0, 0, settings.steps)
    began = time.monotonic()
    for step in range(1, steps):
        training._advance(step, 0, settings.steps)
    each = (time.monotonic() - began) / (steps - 1)
    return {
        "steps_measured": steps,
        "steps": settings.steps,
        "seconds_to_prepare": prepared,
        "seconds_a_step": each,
        "minutes": (prepared + settings.steps * each) / 60,
        "extrapolated": share < 1,
        "cpu_seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    main()
