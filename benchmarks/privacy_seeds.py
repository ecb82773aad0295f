"""One privacy number over runs that differ in their seed: the strongest attacker of each seed, then the mean.

    python -m benchmarks.privacy_seeds runs/NAME-0 runs/NAME-1 runs/NAME-2 --variant slim-int8-cpu-w8-onnxruntime

The runs must share their test pictures (``data.fleet.seed`` fixed, ``seed`` changed). Prints one line a measure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toolkit.privacy.result import AttackResult
from toolkit.privacy.seeds import LEAST, over_seeds


def main() -> None:
    """Read the attacks of the runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--variant", required=True)
    options = parser.parse_args()
    found = over_seeds([AttackResult.load(run / "attack" / options.variant) for run in options.runs])
    lines = ["| measure | mean | 95 % interval | seeds | strongest |", "|---|---:|---:|---|---|"]
    for name, one in found.items():
        values = ", ".join(f"{value:.3f}" for value in one.values)
        strongest = ", ".join(dict.fromkeys(one.strongest))
        lines.append(f"| {name} | {one.value:.4f} | {one.low:.4f} to {one.high:.4f} | {values} | {strongest} |")
    if len(options.runs) < LEAST:
        lines.append(f"\nOnly {len(options.runs)} seeds: at least {LEAST} are needed for a claim.")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
