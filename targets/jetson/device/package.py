"""The builder of the patrol-edge package, where it is installed on the device."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DeviceBuildError

SINCE = 10
"""TensorRT of JetPack 6.1 and later; JetPack 5's Python is too old for the package."""
PLACES = ("usr/local/bin", "usr/bin")


def find_package(system: Path) -> str | None:
    """Path of the ``patrol-edge`` command, None where it is not installed."""
    search = os.pathsep.join(str(system / place) for place in PLACES)
    if system == Path("/"):
        search = os.pathsep.join((os.environ.get("PATH", ""), search))
    return shutil.which("patrol-edge", path=search)


@dataclass(frozen=True)
class PackageTimes:
    """Milliseconds of every inference, how they were taken, and when the last was, on the monotonic clock."""

    times: list[float]
    protocol: str
    ended: float


def build_with_package(command: str, root: Path, form: str, engine: Path, seconds: int) -> tuple[float, float]:
    """Build and verify with ``patrol-edge engine``.

    Returns:
        Shares of codes that are equal to the host's, and equal to one step.

    Raises:
        DeviceBuildError: it failed; the message is its own.
    """
    found = _said([command, "engine", str(root), "--out", str(engine), "--form", form, "--json"], seconds)
    try:
        shares = float(found["equal"]), float(found["within_one"])
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceBuildError("patrol-edge engine did not say how the codes agree") from error
    if not engine.is_file():
        raise DeviceBuildError("patrol-edge engine wrote no engine")
    return shares


def time_with_package(command: str, root: Path, engine: Path, sampling: int, seconds: int) -> PackageTimes:
    """Time an engine that the package built, with ``patrol-edge engine-times``.

    Args:
        sampling: seconds to sample for.
        seconds: after which the command is given up.

    Raises:
        DeviceBuildError: it failed; the message is its own.
    """
    words = [command, "engine-times", str(root), "--engine", str(engine), "--seconds", str(sampling), "--json"]
    found = _said(words, seconds)
    try:
        times = [float(value) for value in found["times_ms"]]
        timed = PackageTimes(times, str(found["protocol"]), float(found["ended"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DeviceBuildError("patrol-edge engine-times gave no times") from error
    if not times:
        raise DeviceBuildError("patrol-edge engine-times timed no inference")
    return timed


def _said(arguments: list[str], seconds: int) -> dict[str, Any]:
    """The JSON object that a command of the package printed last."""
    name = " ".join(["patrol-edge", arguments[1]])
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceBuildError(f"{name} did not run: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise DeviceBuildError(f"{name} failed: {said[-1].strip()[:300] if said else 'no message'}")
    try:
        found = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
        if isinstance(found, dict):
            return found
    except (ValueError, IndexError):
        pass
    raise DeviceBuildError(f"{name} printed no JSON object")
