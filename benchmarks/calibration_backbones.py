"""The calibration benchmark over all backbones: data, training and slimming where missing, then the table.

    python -m benchmarks.calibration_backbones --modelopt PYTHON --out benchmarks/results/calibration_128px

For each configuration in ``benchmarks/configs`` the pipeline runs up to ``export`` (finished stages are skipped),
then ``benchmarks.calibration`` on it; OUT_BACKBONE.json and .md hold each result.
It wants a machine without other work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
PREFIX = "calibration_"
COUNTS = ("64", "256", "1024", "2000")


def main() -> None:
    options = _options()
    for backbone in options.backbones:
        config = CONFIGS / f"{PREFIX}{backbone}.yaml"
        name = options.names.format(backbone=backbone)
        command = [
            "-m",
            "toolkit.cli",
            "export",
            str(config),
            "--runs",
            str(options.runs),
            "--set",
            f"name={name}",
        ]
        for change in options.set:
            command += ["--set", change]
        _run(command)
        out = options.out.with_name(f"{options.out.name}_{backbone}")
        command = ["-m", "benchmarks.calibration", str(options.runs / name), "--out", str(out)]
        command += ["--counts", *options.counts, "--repeats", str(options.repeats)]
        command += ["--finetune-epochs", str(options.finetune_epochs), "--memory-gib", str(options.memory_gib)]
        command += ["--modelopt", options.modelopt] if options.modelopt else []
        command += ["--methods", *options.methods] if options.methods else []
        _run(command)


def _run(command: list[str]) -> None:
    print(" ".join(["python", *command]), file=sys.stderr)
    subprocess.run([sys.executable, *command], check=True)


def _options() -> argparse.Namespace:
    known = sorted(path.stem.removeprefix(PREFIX) for path in CONFIGS.glob(f"{PREFIX}*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=known, default=known)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--names", default="calibration_{backbone}", help="of the run folders")
    parser.add_argument("--counts", nargs="+", default=list(COUNTS), help="of calibration pictures")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--finetune-epochs", type=int, default=4)
    parser.add_argument("--memory-gib", type=float, default=6.0)
    parser.add_argument("--methods", nargs="+", help="some only; see benchmarks.calibration")
    parser.add_argument("--modelopt", help="interpreter of an environment with nvidia-modelopt")
    parser.add_argument("--set", action="append", default=[], help="change a setting of every run")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
