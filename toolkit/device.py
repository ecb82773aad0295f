"""What this machine is: the text that stands beside every measured number."""

from __future__ import annotations

import os
import platform
from pathlib import Path

RENDEZVOUS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets for each of its processes


def cpu_name() -> str:
    """The processor's name, from /proc/cpuinfo on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction set extensions, empty where they cannot be read."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def usable_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def started_together() -> bool:
    """Whether torchrun started this process with others; a cluster's WORLD_SIZE alone does not count."""
    return all(name in os.environ for name in RENDEZVOUS) and int(os.environ["WORLD_SIZE"]) > 1


def describe_machine() -> str:
    """For example ``Intel Xeon ..., 2 cores, Linux 6.1``."""
    return f"{cpu_name()}, {usable_cores()} cores, {platform.system()} {platform.release().split('-')[0]}"


def memory_status(field: str) -> int:
    """A size in bytes from /proc/self/status (``VmRSS``, ``VmHWM``).

    Raises:
        OSError: there is no such file or field.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def reset_peak() -> None:
    """Begin anew with the kernel's peak counter (``VmHWM``) of this process.

    Raises:
        OSError: the kernel does not let it.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


class PeakMemory:
    """What this process grew by at most inside a ``with``; ``bytes`` is None where the kernel does not say."""

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._start: int | None = None

    def __enter__(self) -> PeakMemory:
        try:
            reset_peak()
            self._start = memory_status("VmRSS")
        except OSError:
            self._start = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._start is not None:
            self.bytes = max(memory_status("VmHWM") - self._start, 0)
