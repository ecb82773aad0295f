"""Power and energy of an inference, where the target tells; otherwise absent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.errors import TargetError
from targets.jetson.device.sampler import Sampler, energy, input_rails
from toolkit.metrics import Metric
from toolkit.profiling.telemetry import JetsonTelemetry, NvmlTelemetry, Telemetry

PERIOD_S, LONGEST_GAP_S = 0.1, 0.5
_BATCH = 10


@dataclass(frozen=True)
class Energy:
    """What one variant drew while it ran and nothing else did.

    Attributes:
        joules: of one run, of the whole module (Jetson) or board (GPU host), idle power included.
        watts: mean power.
        runs, seconds: of the measurement.
        source: ``jetson: RAIL`` or ``nvml``.
    """

    joules: float
    watts: float
    runs: int
    seconds: float
    source: str

    def metrics(self, shared: dict[str, Any], batch: int) -> list[Metric]:
        """``energy.per_picture`` and ``power.mean``."""
        values = {**shared, "n": self.runs, "protocol": f"batch {batch}, {self.source}, {self.seconds:.1f} s"}
        return [
            Metric(name="energy.per_picture", value=self.joules / batch * 1000, unit="mJ", **values),
            Metric(name="power.mean", value=self.watts, unit="W", **values),
        ]


def measure_energy(run: Callable[[], object], telemetry: Telemetry | None, seconds: float) -> Energy | None:
    """Run back to back and take the energy of that time; None where nothing tells of energy.

    Args:
        run: one inference, waiting for its end; warm.
        telemetry: of the device that runs it.
        seconds: at least.
    """
    if isinstance(telemetry, NvmlTelemetry):
        return _nvml(run, telemetry, seconds)
    if isinstance(telemetry, JetsonTelemetry):
        return _jetson(run, telemetry, seconds)
    return None


def _nvml(run: Callable[[], object], telemetry: NvmlTelemetry, seconds: float) -> Energy | None:
    before = telemetry.joules()
    if before is None:
        return None
    runs, passed = _repeat(run, seconds)
    after = telemetry.joules()
    if after is None or after <= before:
        return None
    return Energy((after - before) / runs, (after - before) / passed, runs, passed, "nvml")


def _jetson(run: Callable[[], object], telemetry: JetsonTelemetry, seconds: float) -> Energy | None:
    with Sampler(PERIOD_S) as sampler:
        time.sleep(PERIOD_S)
        start = time.monotonic()
        runs, passed = _repeat(run, seconds)
        time.sleep(2 * PERIOD_S)
    readings = sampler.readings
    try:
        rails = input_rails(sorted(readings[0].rails)) if readings else ()
        found = energy(readings, rails, start, start + passed, LONGEST_GAP_S)
    except TargetError:  # a gap, or a module that shows no rail: no measurement
        return None
    return Energy(found.joules / runs, found.watts, runs, passed, f"jetson: {' + '.join(found.rails)}")


def _repeat(run: Callable[[], object], seconds: float) -> tuple[int, float]:
    runs, start = 0, time.monotonic()
    while True:
        for _ in range(_BATCH):
            run()
        runs += _BATCH
        passed = time.monotonic() - start
        if passed >= seconds:
            return runs, passed


def unified_memory(root: Path = Path("/")) -> bool:
    """Whether GPU and host share one memory (a Jetson), so that their numbers must not be added."""
    return (root / "etc/nv_tegra_release").exists()
