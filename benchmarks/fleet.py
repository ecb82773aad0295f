"""How many pictures of the synthetic fleet one core renders a second.

    python -m benchmarks.fleet --out benchmarks/results/fleet.md

Renders scenes of many vehicles without writing them, sizes interleaved, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from toolkit.datasets.fleet import FleetSettings, draw_scene, render
from toolkit.device import describe_machine

SIZES = (64, 128, 256)
SCENES = 100


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(options.repeats):
        for size in SIZES:
            rates[size].append(rate(size))
    lines = [
        "# Rendering the synthetic fleet",
        "",
        f"    python -m benchmarks.fleet --repeats {options.repeats} --out {options.out}",
        "",
        f"{describe_machine()}; Python {sys.version.split()[0]}, numpy {np.__version__}, OpenCV "
        f"{cv2.__version__}; one thread, {SCENES} scenes a repeat, processor time; {time.strftime('%Y-%m-%d')}.",
        "",
        "| side, pixels | pictures a second, median | least | most |",
        "|---:|---:|---:|---:|",
        *(
            f"| {size} | {statistics.median(found):.0f} | {min(found):.0f} | {max(found):.0f} |"
            for size, found in rates.items()
        ),
    ]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def rate(size: int) -> float:
    """Pictures a second of processor time, drawing the scene included."""
    fleet = FleetSettings(size=size)
    started = time.process_time()
    for number in range(SCENES):
        render(draw_scene(fleet, number, number % 8, number % fleet.cameras), size)
    return SCENES / (time.process_time() - started)


if __name__ == "__main__":
    main()
