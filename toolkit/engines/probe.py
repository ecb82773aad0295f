"""Which engines can be built and run here, and why the others cannot."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass

from toolkit.engines.driver import driver_problem
from toolkit.variants import EngineKind

_TIMEOUT_S = 60.0
_HINTS: dict[EngineKind, str] = {
    "onnxruntime": "pip install 'patrol-edge[host]'",
    "tensorrt": "on a Jetson it comes with JetPack; elsewhere: pip install 'patrol-edge[tensorrt]'",
    "tensorrt_rtx": "pip install 'patrol-edge[rtx]'",
}


@dataclass(frozen=True)
class EngineStatus:
    """One engine on this machine.

    Attributes:
        engine: which.
        version: of the library, None when it is not usable.
        can_build, can_run: here and now.
        note: what is missing and how to get it; empty when nothing is.
    """

    engine: EngineKind
    version: str | None
    can_build: bool
    can_run: bool
    note: str


def probe() -> tuple[EngineStatus, ...]:
    """Look at every engine. Libraries are imported in processes of their own, so that a crash stays there."""
    return tuple(_probe(kind) for kind in _HINTS)


def _probe(kind: EngineKind) -> EngineStatus:
    if importlib.util.find_spec(kind) is None:
        return EngineStatus(kind, None, False, False, f"not installed; {_HINTS[kind]}")
    version, reason = _import_elsewhere(kind)
    if version is None:
        return EngineStatus(kind, None, False, False, f"installed but not usable: {reason}")
    if kind == "onnxruntime":
        return EngineStatus(kind, version, True, True, "")
    problem = driver_problem()
    if problem is None:
        return EngineStatus(kind, version, True, True, "")
    builds = kind == "tensorrt_rtx"
    note = f"{problem}; " + ("it parses and builds here, but does not run" if builds else "it needs a GPU")
    return EngineStatus(kind, version, builds, False, note)


def _import_elsewhere(module: str) -> tuple[str | None, str]:
    command = [sys.executable, "-c", f"import {module}; print({module}.__version__)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"importing it takes longer than {_TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"the import ended with code {done.returncode}"
    return done.stdout.strip().splitlines()[-1], ""
