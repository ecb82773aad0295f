"""Peak memory of an engine, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.engines.settings import RunSettings
from toolkit.engines.sidecar import Sidecar
from toolkit.profiling.statistics import ProfilingError

MARK = "patrol-edge-memory "


@dataclass(frozen=True)
class MemoryReport:
    """What one engine adds to a process that has its libraries loaded.

    Attributes:
        peak_bytes: highest resident size while opening and running, above ``baseline_bytes``. The engine
            file's own bytes, read to check them, are part of it.
        resident_bytes: resident size after the runs, above the baseline.
        baseline_bytes: resident size of the process with Python and the engine's library, before the engine.
        device_bytes: of the GPU, taken from its free memory; None on a CPU. On a Jetson it is the same memory
            as the host's and must not be added.
        batch, runs: what was run.
    """

    peak_bytes: int
    resident_bytes: int
    baseline_bytes: int
    device_bytes: int | None
    batch: int
    runs: int


def measure_memory(
    path: Path, batch: int = 1, settings: RunSettings | None = None, runs: int = 5, timeout_s: float = 120.0
) -> MemoryReport:
    """Open and run an engine in a new process and read the kernel's own peak counter.

    Inputs are zeros of the engine's shapes: memory does not depend on values.

    Raises:
        ProfilingError: not on Linux, or the process failed; has its last line.
    """
    if not Path("/proc/self/status").exists():
        raise ProfilingError("peak memory is read from /proc, which this system does not have")
    order = {
        "path": str(path),
        "batch": batch,
        "runs": runs,
        "settings": (settings or RunSettings()).model_dump(mode="json"),
        "engine": Sidecar.load(path).engine,
    }
    command = [sys.executable, "-m", "toolkit.profiling.memory_child", json.dumps(order)]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise ProfilingError(f"measuring the memory of {path.name} took longer than {timeout_s:g} s") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ProfilingError(f"the memory of {path.name} could not be measured: {last}")
    return MemoryReport(**json.loads(lines[-1].removeprefix(MARK)))


def artifact_bytes(paths: Iterable[Path]) -> dict[str, int]:
    """Size of files by name.

    Raises:
        ProfilingError: a file is missing.
    """
    sizes = {}
    for path in paths:
        try:
            sizes[path.name] = path.stat().st_size
        except OSError as error:
            raise ProfilingError(f"cannot read {path}: {error.strerror}") from error
    return sizes
