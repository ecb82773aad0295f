"""Latency and energy of the engine in use, measured on the device it runs on."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from .build import engine_in_use
from .bundle import ENGINES, Manifest, read_manifest
from .detect import Device, detect, tensorrt_version
from .errors import DeviceBuildError, TelemetryError
from .package import find_package, time_with_package
from .sampler import Reading, Sampler, energy, from_sysfs, input_rails, throttled
from .trtexec import RUN_SECONDS, profile_command, read_times, run_trtexec

PERIOD = 0.1
LONGEST_GAP = 0.5
LOAD_SHARE = 0.8
TRTEXEC_PROTOCOL = "trtexec, GPU time of a CUDA graph, without transfers"


@dataclass(frozen=True)
class _Timed:
    """Ascending milliseconds, how they were taken, and when sampling ended."""

    times: list[float]
    protocol: str
    ended: float


def profile(root: Path, system: Path = Path("/"), seconds: int = 5) -> dict[str, Any]:
    """Time the engine in use; returns and writes ``engines/metrics.json``.

    With trtexec; without it, an engine that the patrol-edge package built is timed by that package. ``protocol``
    says which: trtexec gives the GPU's time, the package what a caller waits for. Percentiles are trtexec's:
    ``sorted[n - 1 - int((1 - p / 100) n)]``. Energy is absent where the rails were not sampled without a gap; the
    note says why.

    Raises:
        TargetError: there is no engine, nothing here can time it, or timing it failed.
    """
    manifest, device = read_manifest(root), detect(system)
    engine = engine_in_use(root)
    with Sampler(PERIOD, lambda: from_sysfs(system)) as sampler:
        start = time.monotonic()
        timed = _time(root, system, manifest, device, engine, seconds)
        time.sleep(PERIOD)
    times = timed.times
    found: dict[str, Any] = {
        "provenance": "measured",
        "protocol": timed.protocol,
        "device": device.to_dict(),
        "bundle": manifest.id,
        "n": len(times),
        "latency_ms": {f"p{p}": percentile(times, p) for p in (50, 90, 95, 99)},
        "throttled": throttled(sampler.readings),
        "gpu_mhz": [reading.gpu_mhz for reading in sampler.readings if reading.gpu_mhz is not None],
    }
    found.update(_power(sampler.readings, start, timed.ended, seconds))
    (root / ENGINES / "metrics.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def _time(root: Path, system: Path, manifest: Manifest, device: Device, engine: Path, seconds: int) -> _Timed:
    if device.trtexec is not None:
        out, log = root / ENGINES / "times.json", root / ENGINES / "profile.log"
        version = tensorrt_version(device) or (8, 5)
        run_trtexec(profile_command(device.trtexec, manifest, engine, out, seconds, version), RUN_SECONDS, log)
        return _Timed(sorted(read_times(out)), TRTEXEC_PROTOCOL, time.monotonic())
    package = find_package(system)
    if package is None:
        raise DeviceBuildError(
            "neither trtexec nor patrol-edge is here to time the engine; install one with: "
            "sudo apt install libnvinfer-bin, or: pip install patrol-edge"
        )
    found = time_with_package(package, root, engine, seconds, RUN_SECONDS)
    return _Timed(sorted(found.times), f"patrol-edge, {found.protocol}", found.ended)


def _power(readings: Sequence[Reading], start: float, end: float, seconds: int) -> dict[str, Any]:
    """Mean power while the engine ran: the last part of the command, which begins with loading and warming up."""
    begin = max(start, end - seconds * LOAD_SHARE)
    try:
        rails = input_rails(sorted(readings[0].rails)) if readings else input_rails(())
        found = energy(readings, rails, begin, end, LONGEST_GAP)
    except TelemetryError as error:
        return {"power_note": str(error)}
    curve = [
        (round(reading.seconds - start, 3), sum(reading.rails[rail] for rail in rails) / 1000)
        for reading in readings
        if start <= reading.seconds <= end and set(rails) <= set(reading.rails)
    ]
    return {
        "power_w": found.watts, "power_rails": list(found.rails), "power_samples": found.samples,
        "power_curve": curve,
    }  # fmt: skip


def percentile(times: Sequence[float], percent: int) -> float:
    """trtexec's percentile of ascending times."""
    count = len(times)
    return times[max(0, count - 1 - (100 - percent) * count // 100)]
