"""``python3 -m device``: what build.sh calls on the device."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Sequence

from .build import build, check, rollback
from .detect import detect
from .errors import TargetError
from .profile import profile

ACTIONS = ("build", "check", "profile", "rollback", "detect")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one action; JSON on standard output, one line on standard error when it fails (exit code 2)."""
    parser = argparse.ArgumentParser(prog="build.sh", description="Build, check, profile or roll back the engine.")
    parser.add_argument("action", nargs="?", default="build", choices=ACTIONS)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--system", type=Path, default=Path("/"), help="root of the device's file system")
    parser.add_argument("--force", action="store_const", const="yes", default="", help="build again")
    parser.add_argument("--seconds", type=int, default=5, help="how long to profile")
    chosen = parser.parse_args(arguments)
    try:
        result = _run(chosen)
    except TargetError as error:
        sys.stderr.write(f"error {error.code}: {error}\n")
        return 2
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _run(chosen: argparse.Namespace) -> Any:
    if chosen.action == "detect":
        return detect(chosen.system).to_dict()
    if chosen.action == "check":
        manifest, device, form = check(chosen.bundle, chosen.system)
        return {"bundle": manifest.id, "module": device.module, "form": form}
    if chosen.action == "profile":
        return profile(chosen.bundle, chosen.system, chosen.seconds)
    if chosen.action == "rollback":
        return {"key": rollback(chosen.bundle)}
    return asdict(build(chosen.bundle, chosen.system, chosen.force))


if __name__ == "__main__":
    sys.exit(main())
