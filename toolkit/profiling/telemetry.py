"""Clocks, throttling and energy beside a measurement: NVML on GPU hosts, sysfs on Jetsons and CPUs.

What a machine does not tell is absent, never zero. Readings are taken between samples, in the same thread, so that
they disturb none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from targets.jetson.device.sampler import from_sysfs
from toolkit.device import usable_cores

MOVED = 0.05
STOLEN = 0.02
_NVML = "libnvidia-ml.so.1"
_SM_CLOCK, _MEMORY_CLOCK = 1, 2
# nvmlClocksEventReasons that hold a clock below what was asked for; idle and application clocks do not.
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Reading:
    """One look at the machine.

    Attributes:
        seconds: of the monotonic clock.
        mhz: clocks by name (``sm``, ``memory``, ``gpu``, ``emc``, ``cpu``).
        throttled: what holds clocks down right now.
        counters: that only grow (throttle events, jiffies stolen by a hypervisor).
    """

    seconds: float
    mhz: Mapping[str, float] = field(default_factory=dict)
    throttled: tuple[str, ...] = ()
    counters: Mapping[str, float] = field(default_factory=dict)


class Telemetry(Protocol):
    """A machine that can be looked at."""

    name: str

    def read(self) -> Reading: ...


@dataclass(frozen=True)
class ClockReport:
    """What the clocks did over a measurement.

    Attributes:
        source: ``nvml``, ``jetson`` or ``cpu``.
        mhz: (lowest, median, highest) by clock.
        throttled: what held clocks down at some reading, or counted up.
        readings: how many there were.
    """

    source: str
    mhz: Mapping[str, tuple[float, float, float]]
    throttled: tuple[str, ...]
    readings: int

    @property
    def moved(self) -> bool:
        """Whether a clock moved by more than 5 % of its median, or something throttled."""
        return bool(self.throttled) or any(high - low > MOVED * middle for low, middle, high in self.mhz.values())

    def to_dict(self) -> dict[str, object]:
        """As plain values."""
        return {
            "source": self.source,
            "mhz": {name: list(values) for name, values in self.mhz.items()},
            "throttled": list(self.throttled),
            "readings": self.readings,
            "moved": self.moved,
        }


def summarize(source: str, readings: Iterable[Reading]) -> ClockReport | None:
    """What readings say together; None without any."""
    found = list(readings)
    if not found:
        return None
    clocks = {}
    for name in {name for one in found for name in one.mhz}:
        values = sorted(one.mhz[name] for one in found if name in one.mhz)
        clocks[name] = (values[0], values[len(values) // 2], values[-1])
    reasons = {reason for one in found for reason in one.throttled}
    first, last = found[0], found[-1]
    passed = max(last.seconds - first.seconds, 1e-9)
    for name, before in first.counters.items():
        grown = last.counters.get(name, before) - before
        # Stolen time is in seconds of all cores; a little of it is always there on a shared machine.
        if grown > (STOLEN * passed if name == "stolen by the hypervisor" else 0):
            reasons.add(name)
    return ClockReport(source, dict(sorted(clocks.items())), tuple(sorted(reasons)), len(found))


def open_telemetry(device: str, index: int = 0) -> Telemetry | None:
    """What tells about a device.

    Args:
        device: ``CPU``, or a GPU's name as the engine describes it.
        index: of the GPU.
    """
    if device == "CPU":
        return CpuTelemetry()
    if Path("/etc/nv_tegra_release").exists():
        return JetsonTelemetry()
    with contextlib.suppress(OSError):
        return NvmlTelemetry(index)
    return None


class CpuTelemetry:
    """Frequency and throttle counters of the CPU, and time that a hypervisor took away.

    Args:
        root: of the file system to read.
    """

    name = "cpu"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._tick = os.sysconf("SC_CLK_TCK")

    def read(self) -> Reading:
        """See :class:`Telemetry`."""
        clock = self._mhz()
        return Reading(time.monotonic(), {"cpu": clock} if clock else {}, (), self._counters())

    def _mhz(self) -> float | None:
        """Of the fastest core: the one that works."""
        governed = [
            _number(path) for path in self._root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        ]
        known = [value / 1000 for value in governed if value]
        if not known:
            lines = _lines(self._root / "proc/cpuinfo")
            known = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
        return max(known, default=None)

    def _counters(self) -> dict[str, float]:
        counts: dict[str, float] = {}
        for path in self._root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"):
            value = _number(path)
            if value is not None:
                counts["thermal throttling"] = counts.get("thermal throttling", 0) + value
        for line in _lines(self._root / "proc/stat")[:1]:
            fields = line.split()
            if len(fields) > 8:
                counts["stolen by the hypervisor"] = float(fields[8]) / self._tick / max(usable_cores(), 1)
        return counts


class JetsonTelemetry:
    """GPU and memory clock, throttling, from sysfs.

    Args:
        root: of the file system to read.
    """

    name = "jetson"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def read(self) -> Reading:
        """See :class:`Telemetry`."""
        one = from_sysfs(self._root)
        clocks = {name: value for name, value in (("gpu", one.gpu_mhz), ("emc", one.emc_mhz)) if value is not None}
        events = {name: float(value) for name, value in dict(one.throttle).items() if "event" in name}
        engaged = tuple(name for name, value in dict(one.throttle).items() if "event" not in name and value > 0)
        return Reading(one.seconds, clocks, engaged, events)


class NvmlTelemetry:
    """SM and memory clock, throttle reasons, power and energy of a GPU, from the driver's management library.

    Args:
        index: of the GPU.

    Raises:
        OSError: the library is not there, or does not know the GPU.
    """

    name = "nvml"

    def __init__(self, index: int = 0) -> None:
        self._library = ctypes.CDLL(_NVML)
        self._device = ctypes.c_void_p()
        started = self._library.nvmlInit_v2()
        found = self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._device))
        if started or found:
            raise OSError(f"NVML does not answer for GPU {index} (codes {started}, {found})")

    def read(self) -> Reading:
        """See :class:`Telemetry`."""
        clocks = {}
        for name, kind in (("sm", _SM_CLOCK), ("memory", _MEMORY_CLOCK)):
            value = self._ask("nvmlDeviceGetClockInfo", ctypes.c_uint, kind)
            if value is not None:
                clocks[name] = float(value)
        mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong) or 0
        return Reading(time.monotonic(), clocks, tuple(text for bit, text in _REASONS.items() if mask & bit))

    def watts(self) -> float | None:
        """Board power now; None where the GPU does not tell."""
        value = self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint)
        return value / 1000 if value is not None else None

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None on GPUs older than Volta."""
        value = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
        return value / 1000 if value is not None else None

    def _ask(self, call: str, kind: type[ctypes.c_uint] | type[ctypes.c_ulonglong], *arguments: int) -> int | None:
        value = kind()
        function = getattr(self._library, call, None)
        if function is None or function(self._device, *arguments, ctypes.byref(value)):
            return None
        return int(value.value)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
