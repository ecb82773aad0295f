"""The builder of the patrol-edge package, where it is installed on the device."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

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


def build_with_package(command: str, root: Path, form: str, engine: Path, seconds: int) -> tuple[float, float]:
    """Build and verify with ``patrol-edge engine``.

    Returns:
        Shares of codes that are equal to the host's, and equal to one step.

    Raises:
        DeviceBuildError: it failed; the message is its own.
    """
    arguments = [command, "engine", str(root), "--out", str(engine), "--form", form, "--json"]
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceBuildError(f"patrol-edge engine did not run: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise DeviceBuildError(f"patrol-edge engine failed: {said[-1].strip()[:300] if said else 'no message'}")
    try:
        found = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
        shares = float(found["equal"]), float(found["within_one"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DeviceBuildError("patrol-edge engine did not say how the codes agree") from error
    if not engine.is_file():
        raise DeviceBuildError("patrol-edge engine wrote no engine")
    return shares
