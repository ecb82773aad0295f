"""Latency and energy of the engine in use, measured on the device with trtexec and the power rails."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Sequence

from .build import engine_in_use
from .bundle import ENGINES, read_manifest
from .detect import detect, tensorrt_version
from .errors import TelemetryError
from .sampler import Reading, Sampler, energy, from_sysfs, input_rails, throttled
from .trtexec import RUN_SECONDS, profile_command, read_times, run_trtexec

PERIOD = 0.1
LONGEST_GAP = 0.5
LOAD_SHARE = 0.8


def profile(root: Path, system: Path = Path("/"), seconds: int = 5) -> dict[str, Any]:
    """Time the engine in use; returns and writes ``engines/metrics.json``.

    Percentiles are trtexec's: ``sorted[n - 1 - int((1 - p / 100) n)]``. Energy is absent where the rails were not
    sampled without a gap; the note says why.

    Raises:
        TargetError: there is no engine, or trtexec failed.
    """
    manifest, device = read_manifest(root), detect(system)
    engine = engine_in_use(root)
    out, log = root / ENGINES / "times.json", root / ENGINES / "profile.log"
    version = tensorrt_version(device) or (8, 5)
    command = profile_command(device.trtexec or "trtexec", manifest, engine, out, seconds, version)
    with Sampler(PERIOD, lambda: from_sysfs(system)) as sampler:
        start = time.monotonic()
        run_trtexec(command, RUN_SECONDS, log)
        end = time.monotonic()
        time.sleep(PERIOD)
    times = sorted(read_times(out))
    found: dict[str, Any] = {
        "provenance": "measured",
        "device": device.to_dict(),
        "bundle": manifest.id,
        "n": len(times),
        "latency_ms": {f"p{p}": percentile(times, p) for p in (50, 90, 95, 99)},
        "throttled": throttled(sampler.readings),
        "gpu_mhz": [reading.gpu_mhz for reading in sampler.readings if reading.gpu_mhz is not None],
    }
    found.update(_power(sampler.readings, start, end, seconds))
    (root / ENGINES / "metrics.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


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
