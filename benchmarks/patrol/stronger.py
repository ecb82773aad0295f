"""Attack finished jobs of a sweep once more, with a large decoder that is trained long.

    python -m benchmarks.patrol.stronger runs/tier1 --jobs l1-seed0 patrol-seed0 --out OUT

A screening decoder ranks methods; how much really leaks is another question, and a defence that was trained
against regression can look better to a screening than it is. Ridge regression and ``subpixel_n6c128`` (trained
until twice the steps gain less than 0.01 SSIM, at most ``--doublings`` times) attack the job's codes, with
mirrored and ``--augmented`` changed copies; the screening's number stands beside theirs in ``OUT.md``. A killed
command goes on within a job; ``--work`` keeps the states.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from pathlib import Path
from typing import Any

import torch

from toolkit.device import describe_machine
from toolkit.models.checkpoint import load_checkpoint
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.result import AttackResult
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import attack_variant
from toolkit.runs import write_atomic
from toolkit.surgery import rebuild
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.score import SCORES, Link, attack_data, job_link
from toolkit.sweeps.units import sweep_data
from toolkit.wire.codes import WireFormat


def main(arguments: list[str] | None = None) -> None:
    """Attack what is missing in ``OUT.json`` and write the table."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    sweep, path = Sweep.read(options.sweep), options.out.with_suffix(".json")
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"jobs": {}}
    body |= {
        "command": f"python -m benchmarks.patrol.stronger runs/{options.sweep.name} "
        f"--jobs {' '.join(options.jobs)} --steps {options.steps} --doublings {options.doublings} "
        f"--augmented {options.augmented}",
        "machine": f"{describe_machine()}; Python {platform.python_version()}, torch {torch.__version__}; "
        f"{time.strftime('%Y-%m-%d')}; {options.threads} thread(s)",
    }
    for job in options.jobs:
        if job not in body["jobs"]:
            body["jobs"][job] = _attack(sweep, job, options)
            write_atomic(path, json.dumps(body, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(_table(body), encoding="utf-8")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of a sweep, runs/NAME")
    parser.add_argument("--jobs", nargs="+", required=True, help="such as l1-seed0")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--doublings", type=int, default=1)
    parser.add_argument("--augmented", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("build/stronger"))
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def _attack(sweep: Sweep, job: str, options: argparse.Namespace) -> dict[str, Any]:
    started, folder = time.monotonic(), sweep.root / "jobs" / job / "job"
    data, _ = sweep_data(sweep)
    work = options.work / sweep.settings.name / job
    work.mkdir(parents=True, exist_ok=True)
    source = attack_data(_link(sweep, job, data), data, work)
    decoder = {
        "kind": "inverse_network",
        "label": "large",
        "decoder": "subpixel_n6c128",
        "steps": options.steps,
        "doublings": options.doublings,
    }
    settings = AttackSettings.model_validate(
        {"attackers": [{"kind": "ridge"}, decoder], "augmented": options.augmented, "leaks": None}
    )
    anchors = Anchors.load(sweep.root / "anchors" / "anchors" / "anchors.json")
    found = attack_variant(source, settings, work / "attack", job, anchors)
    screening = AttackResult.load(folder / "attack")
    [large] = [one for one in found.attackers if one.label == "large"]
    return {
        "map": json.loads((folder / SCORES).read_text(encoding="utf-8"))["map"],
        "screening": [screening.normalized_ssim.value, screening.r2.value],
        "strongest": [found.normalized_ssim.value, found.r2.value],
        "interval": [found.normalized_ssim.low, found.normalized_ssim.high],
        "steps": large.fit.steps,
        "gain": large.fit.gain,
        "converged": large.fit.converged,
        "seconds": time.monotonic() - started,
    }


def _link(sweep: Sweep, name: str, data: Any) -> Link:
    """What the job's device sends."""
    unit = sweep.unit(f"jobs/{name}")
    assert unit.job is not None
    folder = sweep.root / unit.name / "job"
    net = load_checkpoint(folder / "net", rebuild=rebuild).net
    fmt = WireFormat.from_json((folder / "wire.json").read_text(encoding="utf-8"))
    return job_link(unit.job, net, fmt, data)


def _table(body: dict[str, Any]) -> str:
    lines = [
        "# A large decoder, trained long",
        "",
        f"    {body['command']}",
        "",
        f"{body['machine']}.",
        "",
        "| job | mAP | screening: normalized SSIM | R² | large decoder: normalized SSIM | R² | steps | gain |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, job in body["jobs"].items():
        low, high = job["interval"]
        state = "" if job["converged"] else ", not converged"
        lines.append(
            f"| {name} | {job['map']:.3f} | {job['screening'][0]:.3f} | {job['screening'][1]:.3f} | "
            f"{job['strongest'][0]:.3f} ({low:.3f} to {high:.3f}) | {job['strongest'][1]:.3f} | {job['steps']} | "
            f"{job['gain']:+.4f}{state} |"
        )
    lines += ["", "Normalized SSIM and R² of the strongest of ridge regression and the decoder."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
