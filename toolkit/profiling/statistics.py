"""Percentiles, intervals and ratios of latency samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import PatrolError
from toolkit.metrics import Metric
from toolkit.profiling.energy import Energy
from toolkit.profiling.telemetry import ClockReport

Samples = NDArray[np.float64]
_CHUNK = 50
MARGIN = 0.02
PERCENTILES = (50, 90, 95, 99)


class ProfilingError(PatrolError):
    """Latency cannot be measured or compared."""

    code = "PE650"


def percentile(samples: Samples, percent: float) -> Samples:
    """Percentile as trtexec takes it: of n sorted samples the one at ``n - 1 - int((1 - p/100) n)``.

    (NVIDIA/TensorRT, samples/common/sampleReporting.cpp.) It is always a sample that was measured.

    Args:
        samples: ``(..., n)``, n > 0.
        percent: 0 to 100.

    Returns:
        ``(...)``.
    """
    count = samples.shape[-1]
    above = int((100 - percent) * count / 100 + 1e-9)  # the 90th of 100 samples leaves 10, not 9.999
    index = max(count - 1 - above, 0)
    result: Samples = np.partition(samples, index, axis=-1)[..., index]
    return result


@dataclass(frozen=True)
class Profile:
    """Latency of one variant.

    Attributes:
        key: of the variant.
        rounds_ms: ``(rounds, runs per round)``; every sample that was taken, in milliseconds.
        batch: pictures per run.
        warmup_runs: before the first sample.
        settled: whether the latency had become steady when sampling began.
        device: ``CPU`` or the GPU's name. A CPU number never stands for TensorRT's.
        machine: in words.
        protocol: how it was measured.
        engine: what ``Engine.describe`` said.
        bootstrap, seed: of the intervals.
        phases_ms: of a GPU, one run of each round taken apart as trtexec does: ``enqueue``, ``h2d``, ``compute``,
            ``d2h``, ``latency`` (the sum of the last three) and ``end_to_end``.
        clocks: what the clocks did; None where nothing tells.
        energy: of a run; None where nothing tells.
    """

    key: str
    rounds_ms: Samples
    batch: int
    warmup_runs: int
    settled: bool
    device: str
    machine: str
    protocol: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    bootstrap: int = 1000
    seed: int = 0
    phases_ms: Mapping[str, Samples] = field(default_factory=dict)
    clocks: ClockReport | None = None
    energy: Energy | None = None

    @property
    def samples_ms(self) -> Samples:
        """All samples in the order they were taken."""
        return self.rounds_ms.ravel()

    def at(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return float(percentile(self.samples_ms, percent))

    @property
    def p50(self) -> float:
        """Median, ms."""
        return self.at(50)

    @property
    def p90(self) -> float:
        """90th percentile, ms."""
        return self.at(90)

    @property
    def p95(self) -> float:
        """95th percentile, ms."""
        return self.at(95)

    @property
    def p99(self) -> float:
        """99th percentile, ms."""
        return self.at(99)

    @property
    def max(self) -> float:
        """Largest sample, ms; no outlier was removed."""
        return float(self.samples_ms.max())

    @property
    def throughput(self) -> float:
        """Pictures per second of one run after the other: batch / mean latency."""
        return self.batch * 1000.0 / float(self.samples_ms.mean())

    def interval(self, percent: float) -> tuple[float, float]:
        """95 % bootstrap interval of a percentile, ms.

        Whole rounds are drawn, because the samples of one round share what disturbed it.
        """
        return _interval(self._draw(lambda drawn: percentile(drawn, percent)))

    def throughput_interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of :attr:`throughput`."""
        return _interval(self._draw(lambda drawn: self.batch * 1000.0 / drawn.mean(axis=-1)))

    def metrics(self) -> list[Metric]:
        """Percentiles, throughput, phases, clocks and energy, ready for ``metrics.json``."""
        shared: dict[str, Any] = {
            "n": self.samples_ms.size,
            "variant": self.key,
            "machine": self.machine,
            "protocol": self.protocol,
            "provenance": "emulated" if self.engine.get("emulated") else "measured",
        }
        found = [
            Metric(name=f"latency.p{p}", value=self.at(p), unit="ms", interval=self.interval(p), **shared)
            for p in PERCENTILES
        ]
        found.append(Metric(name="latency.max", value=self.max, unit="ms", **shared))
        interval = self.throughput_interval()
        found.append(Metric(name="throughput", value=self.throughput, unit="1/s", interval=interval, **shared))
        for name, samples in self.phases_ms.items():
            values = {**shared, "n": samples.size}
            middle = float(percentile(samples, 50))
            found.append(Metric(name=f"latency.phase.{name}", value=middle, unit="ms", **values))
        if self.clocks is not None:
            values = {**shared, "n": self.clocks.readings}
            for name, (low, middle, high) in self.clocks.mhz.items():
                found.append(
                    Metric(name=f"clock.{name}", value=middle, unit="MHz", interval=(low, high), **values)
                )
            found.append(Metric(name="clock.moved", value=float(self.clocks.moved), **values))
        if self.energy is not None:
            same = {name: shared[name] for name in ("variant", "machine", "provenance")}
            found += self.energy.metrics(same, self.batch)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Summary and all samples as plain values."""
        return {
            "key": self.key,
            "device": self.device,
            "machine": self.machine,
            "protocol": self.protocol,
            "batch": self.batch,
            "warmup_runs": self.warmup_runs,
            "settled": self.settled,
            **{f"p{p}_ms": self.at(p) for p in PERCENTILES},
            "max_ms": self.max,
            "throughput": self.throughput,
            "engine": dict(self.engine),
            "clocks": self.clocks.to_dict() if self.clocks is not None else None,
            "energy": asdict(self.energy) if self.energy is not None else None,
            "phases_ms": {name: np.round(values, 6).tolist() for name, values in self.phases_ms.items()},
            "rounds_ms": np.round(self.rounds_ms, 6).tolist(),
        }

    def _draw(self, statistic: Callable[[Samples], Samples]) -> Samples:
        return _bootstrap(
            len(self.rounds_ms), self.bootstrap, self.seed, lambda rows: statistic(_flat(self, rows))
        )


@dataclass(frozen=True)
class Ratio:
    """How many times slower A is than B (below 1: A is faster), by their medians.

    Attributes:
        a, b: keys of the variants.
        value: p50 of A / p50 of B.
        interval: 95 % bootstrap interval over rounds, both variants drawn together.
    """

    a: str
    b: str
    value: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """``faster``, ``slower`` or ``no difference shown``.

        The whole interval has to be more than :data:`MARGIN` away from 1: the same engine opened twice differs
        by up to a percent, because its memory lies elsewhere.
        """
        low, high = self.interval
        if high < 1 - MARGIN:
            return "faster"
        return "slower" if low > 1 + MARGIN else "no difference shown"


def compare(a: Profile, b: Profile) -> Ratio:
    """The ratio of two variants of one interleaved run.

    Rounds are drawn in pairs: what disturbed the machine in a round disturbed both.

    Raises:
        ProfilingError: measured on different machines, with different batches, or not in one run.
    """
    if (a.machine, a.batch) != (b.machine, b.batch):
        raise ProfilingError(
            f"{a.key} (batch {a.batch} on {a.machine}) and {b.key} (batch {b.batch} on {b.machine}) "
            "cannot be compared; profile both in one run"
        )
    if a.rounds_ms.shape[0] != b.rounds_ms.shape[0]:
        raise ProfilingError(f"{a.key} and {b.key} have different numbers of rounds; profile both in one run")

    def ratio(rows: NDArray[np.intp]) -> Samples:
        result: Samples = percentile(_flat(a, rows), 50) / percentile(_flat(b, rows), 50)
        return result

    drawn = _bootstrap(len(a.rounds_ms), a.bootstrap, a.seed, ratio)
    return Ratio(a.key, b.key, a.p50 / b.p50, _interval(drawn))


def _flat(profile: Profile, rows: NDArray[np.intp]) -> Samples:
    drawn: Samples = profile.rounds_ms[rows]
    return drawn.reshape(len(rows), -1)


def _bootstrap(rounds: int, draws: int, seed: int, statistic: Callable[[NDArray[np.intp]], Samples]) -> Samples:
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, draws, _CHUNK):
        rows = generator.integers(0, rounds, (min(_CHUNK, draws - start), rounds))
        parts.append(statistic(rows))
    return np.concatenate(parts)


def _interval(drawn: Samples) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
