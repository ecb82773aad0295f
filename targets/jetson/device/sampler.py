"""Power over time: a sampler in the background, and energy by integration of named rails.

A measurement with a gap is no measurement: :func:`energy` raises, and the caller reports nothing.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Callable, Mapping, Sequence

from .errors import TelemetryError
from .sysfs import read_sample
from .tegrastats import Sample, parse_line

INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Reading:
    """One sample.

    Attributes:
        seconds: of the monotonic clock, when it was taken.
        rails: milliwatts by rail.
        gpu_mhz, emc_mhz: None where not shown.
        temperatures: degrees Celsius.
        throttle: see :class:`.sysfs.SysfsSample`.
    """

    seconds: float
    rails: Mapping[str, float]
    gpu_mhz: float | None = None
    emc_mhz: float | None = None
    temperatures: Mapping[str, float] = ()  # type: ignore[assignment]
    throttle: Mapping[str, int] = ()  # type: ignore[assignment]


@dataclass(frozen=True)
class Energy:
    """Energy of one or more rails between two moments.

    Attributes:
        rails: those that were added up.
        samples: readings inside the interval.
        longest_gap: seconds between two neighbouring readings, at most.
    """

    rails: tuple[str, ...]
    joules: float
    seconds: float
    samples: int
    longest_gap: float

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


def from_tegrastats(sample: Sample, seconds: float) -> Reading:
    """A reading from a parsed line."""
    gpu = sample.gpu.mhz if sample.gpu is not None else ()
    emc = sample.emc.mhz if sample.emc is not None else ()
    return Reading(
        seconds,
        {name: rail.now for name, rail in sample.rails.items()},
        max(gpu) if gpu else None,
        emc[0] if emc else None,
        sample.temperatures,
        {},
    )


def from_sysfs(root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> Reading:
    """A reading from sysfs."""
    sample = read_sample(root)
    return Reading(
        clock(),
        sample.rails,
        sample.gpu_hz / 1e6 if sample.gpu_hz is not None else None,
        sample.emc_hz / 1e6 if sample.emc_hz is not None else None,
        sample.temperatures,
        sample.throttle,
    )


class Sampler:
    """Takes readings in a thread until it is stopped.

    Args:
        period: seconds between readings.
        take: one reading; errors of the operating system in it leave a gap.
    """

    def __init__(self, period: float, take: Callable[[], Reading] = from_sysfs) -> None:
        if period <= 0:
            raise TelemetryError(f"the period of a sampler must be positive, not {period}")
        self._period = period
        self._take = take
        self._stop = threading.Event()
        self._readings: list[Reading] = []
        self._thread = threading.Thread(target=self._loop, name="telemetry", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)

    def _loop(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self._readings.append(self._take())
            due += self._period
            self._stop.wait(max(0.0, due - time.monotonic()))

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What was taken so far, in order."""
        return tuple(self._readings)


class TegrastatsSampler:
    """Follows a running tegrastats; a reading's time is that of the line's arrival.

    Args:
        period: seconds between lines.
        command: without its interval, which is added in milliseconds.
    """

    def __init__(self, period: float, command: Sequence[str] = ("tegrastats", "--interval")) -> None:
        self._command = [*command, str(max(1, round(period * 1000)))]
        self._readings: list[Reading] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._loop, name="tegrastats", daemon=True)

    def __enter__(self) -> TegrastatsSampler:
        try:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        except OSError as error:
            raise TelemetryError(f"{self._command[0]} cannot be started: {error.strerror}") from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._thread.join(STOP_SECONDS)
            if process.stdout is not None:
                process.stdout.close()

    def _loop(self) -> None:
        stream = self._process.stdout if self._process is not None else None
        if stream is None:
            return
        for line in iter(stream.readline, b""):
            now = time.monotonic()
            self._readings.append(from_tegrastats(parse_line(line.decode("utf-8", "replace")), now))

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What was taken so far, in order."""
        return tuple(self._readings)


def input_rails(names: Sequence[str]) -> tuple[str, ...]:
    """The rails whose sum is what the module draws: its input where it is measured, else all of them.

    Raises:
        TelemetryError: there are none.
    """
    for name in INPUT_RAILS:
        if name in names:
            return (name,)
    if not names:
        raise TelemetryError("this device shows no power rails; try as root, or measure at the supply")
    return tuple(names)


def energy(
    readings: Sequence[Reading], rails: Sequence[str], start: float, end: float, longest_gap: float
) -> Energy:
    """Energy of ``rails`` from ``start`` to ``end``: the trapezoidal rule, interpolated at both ends.

    Args:
        readings: in order of time.
        rails: names, added up.
        start, end: seconds of the monotonic clock.
        longest_gap: seconds without a reading that are still accepted, at the ends too.

    Raises:
        TelemetryError: a rail is missing in a reading, readings are too far apart or do not reach both ends.
    """
    if not rails or end <= start:
        raise TelemetryError("energy needs at least one rail and an end after its start")
    inside = [r for r in readings if start - longest_gap <= r.seconds <= end + longest_gap]
    points = [(reading.seconds, _total(reading, rails)) for reading in inside]
    if len(points) < 2 or points[0][0] > start or points[-1][0] < end:
        raise TelemetryError(
            f"power was not sampled over the whole {end - start:.3f} s; start the sampler earlier, stop it later"
        )
    gap = max(b[0] - a[0] for a, b in zip(points, points[1:]))
    if gap > longest_gap:
        raise TelemetryError(f"power samples are {gap:.3f} s apart where at most {longest_gap:.3f} s are accepted")
    joules = sum(_piece(a, b, start, end) for a, b in zip(points, points[1:])) / 1000
    count = sum(start <= seconds <= end for seconds, _ in points)
    return Energy(tuple(rails), joules, end - start, count, gap)


def _total(reading: Reading, rails: Sequence[str]) -> float:
    missing = [rail for rail in rails if rail not in reading.rails]
    if missing:
        raise TelemetryError(
            f"a sample lacks the rail {missing[0]}; it has {', '.join(sorted(reading.rails)) or 'none'}"
        )
    return sum(reading.rails[rail] for rail in rails)


def _piece(a: tuple[float, float], b: tuple[float, float], start: float, end: float) -> float:
    """Millijoules of the straight line from ``a`` to ``b`` inside the interval."""
    left, right = max(a[0], start), min(b[0], end)
    if right <= left:
        return 0.0
    slope = (b[1] - a[1]) / (b[0] - a[0])
    return (right - left) * (a[1] + slope * ((left + right) / 2 - a[0]))


def throttled(readings: Sequence[Reading]) -> dict[str, int]:
    """What rose or was engaged during the readings, by name; empty when nothing says that the device throttled."""
    found: dict[str, int] = {}
    for first, last in [(readings[0], readings[-1])] if readings else []:
        for name in {name for reading in readings for name in reading.throttle}:
            counts = [dict(reading.throttle).get(name, 0) for reading in readings]
            change = dict(last.throttle).get(name, 0) - dict(first.throttle).get(name, 0)
            if "event" in name and change > 0:
                found[name] = change
            elif "event" not in name and max(counts) > 0:
                found[name] = max(counts)
    return found
