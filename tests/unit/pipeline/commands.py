"""Runs of the command line, in this process and in one of their own, and the settings of a tiny run."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.unit.command_line import Outcome
from toolkit.runs import RunFolder

ROOT = Path(__file__).resolve().parents[3]
SCHEDULE = {"epochs": 2, "identities": 4, "augmentations": 1, "precision": "fp32"}
LAST = SCHEDULE | {"epochs": 1}
TINY = {
    "name": "tiny",
    "seed": 1,
    "threads": 1,
    "data": {
        "kind": "fleet",
        "fleet": {"size": 64, "identities_train": 12, "identities_test": 8, "pictures_per_identity": 4},
        "splits": {"calibration_pictures": 16},
    },
    "picture": {"height": 32, "width": 32},
    "model": {"backbone": "resnet18", "cut": "layer2", "last_stride": 2, "width": 0.25},
    "train": SCHEDULE,
    "patrol": {"train": SCHEDULE, "adversary": {"warmup_steps": 1}},
    "slim": {"plan": {"align": 8}, "finetune": {"train": LAST, "adversary": {"warmup_steps": 1}}},
    "export": {"simplify": "off"},
    "profile": {"warmup_s": 0.01, "warmup_limit_s": 0.05, "duration_s": 0.1, "rounds": 10},
    "attack": {
        "attackers": [
            {"kind": "ridge"},
            {"kind": "inverse_network", "label": "few", "steps": 4, "batch": 8, "decoder": "subpixel_n1c16"},
        ],
        "minimum_test": 10,
        "minimum_train": 10,
        "leaks": {"recogniser": {"steps": 8, "channels": 8}, "required": 0.01},
        "certificate_scenes": 4,
    },
    "evaluate": {"bootstrap": 200},
    "check": {"limits": [{"metric": "slim.deviation", "max": 1.0e-3}]},
}

# What most runs leave out, for the run that is looked at.
KNOWING = [
    {"kind": "white_box", "iterations": 2, "tv": [0.0], "tuning_pictures": 1},
    {
        "kind": "shadow",
        "steps": 2,
        "batch": 4,
        "width": 8,
        "decoder": {"steps": 2, "batch": 8, "decoder": "subpixel_n1c16", "linear_start": False},
    },
]
WHOLE_ATTACK = {
    "attackers": [*TINY["attack"]["attackers"], *KNOWING],
    "frames": [1, 2],
    "references": ["embedding", "shallow", "noise"],
    "seeds": 2,
    "augmented": 1,
    "synthetic": 8,
    "bounds": {"pictures": 2, "singular_values": 3, "side": 2, "prior": 8, "gram": 2},
}


def start(*arguments: object, before: str = "") -> subprocess.Popen:
    """The command line in a process of its own; ``before`` is Python that runs first."""
    program = f"{before}\nfrom toolkit.cli import main\nmain()\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: subprocess.Popen, seconds: float = 300) -> Outcome:
    """Wait for a process that :func:`start` began."""
    out, err = process.communicate(timeout=seconds)
    return Outcome(process.returncode, out, err)


def merged(base: dict, changes: dict) -> dict:
    """``base`` with nested changes; a section that is None is left out."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def write_config(folder: Path, **changes: object) -> Path:
    """``run.yaml`` in ``folder`` with the tiny run's settings and these changes."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(merged(TINY, changes), sort_keys=False), encoding="utf-8")
    return path


def hashes(run: RunFolder, *stages: str) -> dict[str, str]:
    """sha256 by ``stage/artifact``."""
    return {
        f"{stage}/{name}": artifact.sha256
        for stage in stages
        for name, artifact in run.manifest.stages[stage].artifacts.items()
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))
