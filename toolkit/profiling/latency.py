"""Interleaved latency: A B C A B C, so that what slows the machine down slows every variant."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from toolkit.engines.base import Engine
from toolkit.profiling.energy import Energy, measure_energy
from toolkit.profiling.statistics import Profile, ProfilingError
from toolkit.profiling.telemetry import Reading, Telemetry, open_telemetry, summarize
from toolkit.progress import track

logger = logging.getLogger(__name__)
Inputs = Mapping[str, NDArray[Any]]
_WINDOW = 10
READING_S = 0.05


class ProfileSettings(BaseModel):
    """How latency is measured.

    Attributes:
        warmup_s: least time each variant runs before its first sample.
        warmup_limit_s: most time; a variant that is not steady by then is marked.
        steady_within: medians of two following windows of ten runs differ by less than this share.
        duration_s: time for sampling, for each variant.
        rounds: most rounds; every round takes ``burst`` samples of every variant.
        min_rounds: fewest rounds, however long they take.
        burst: samples of a variant in a row. One unmeasured run comes before them: the other variants have
            just emptied the caches.
        path: ``bound`` times the computation with inputs and outputs in place, ``run`` the whole call with
            checks and copies.
        graph: ``on`` launches GPU runs as one CUDA graph each; a CPU has none.
        energy_s: time for energy, for each variant, where the device tells of it.
        bootstrap: draws for the intervals.
        seed: of the draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup_s: float = Field(default=0.3, ge=0)
    warmup_limit_s: float = Field(default=5.0, ge=0)
    steady_within: float = Field(default=0.05, gt=0)
    duration_s: float = Field(default=3.0, gt=0)
    rounds: int = Field(default=200, ge=1)
    min_rounds: int = Field(default=10, ge=1)
    burst: int = Field(default=5, ge=1)
    path: Literal["bound", "run"] = "bound"
    graph: Literal["off", "on"] = "off"
    energy_s: float = Field(default=2.0, ge=0)
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0


def profile(
    engines: Mapping[str, Engine],
    inputs: Inputs | Mapping[str, Inputs],
    settings: ProfileSettings | None = None,
) -> dict[str, Profile]:
    """Measure all engines in one interleaved run.

    Args:
        engines: by the key of their variant.
        inputs: arrays by input name, for all engines; or such a mapping for each key. The first dimension is
            the batch.
        settings: see :class:`ProfileSettings`.

    Returns:
        A profile for each key. No sample is left out.

    Raises:
        ProfilingError: no engines, or no inputs for one of them.
        EngineInputError: inputs that an engine does not take.
    """
    settings = settings or ProfileSettings()
    if not engines:
        raise ProfilingError("no engine to profile; build at least one variant")
    by_key = {key: _inputs_of(key, inputs) for key in engines}
    subjects = {key: _subject(key, engine, by_key[key], settings) for key, engine in engines.items()}
    for subject in subjects.values():
        subject.warmup_runs, subject.settled = _warm_up(subject.call, settings)
    _sample(list(subjects.values()), settings)
    for subject in subjects.values():
        if settings.energy_s and subject.telemetry is not None:
            subject.energy = measure_energy(subject.call, subject.telemetry, settings.energy_s)
    return {key: _profile(subject, settings) for key, subject in subjects.items()}


def _inputs_of(key: str, inputs: Inputs | Mapping[str, Inputs]) -> Inputs:
    values = dict(inputs)
    if values and all(isinstance(value, np.ndarray) for value in values.values()):
        return values  # type: ignore[return-value]
    found = values.get(key)
    if not isinstance(found, Mapping) or not found:
        raise ProfilingError(f"no inputs for {key}")
    return found


@dataclass
class _Subject:
    """One variant while it is measured."""

    key: str
    description: dict[str, Any]
    batch: int
    call: Callable[[], object]
    phases: Callable[[], dict[str, float]] | None
    telemetry: Telemetry | None
    graph: bool
    rounds: list[list[float]] = field(default_factory=list)
    phase_rounds: list[dict[str, float]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    warmup_runs: int = 0
    settled: bool = False
    energy: Energy | None = None


def _subject(key: str, engine: Engine, inputs: Inputs, settings: ProfileSettings) -> _Subject:
    description = engine.describe()
    binding = engine.bind(inputs) if settings.path == "bound" else None
    graph = settings.graph == "on" and hasattr(binding, "capture")
    if graph:
        binding.capture()  # type: ignore[union-attr]
    call: Callable[[], object] = binding.run if binding is not None else lambda: engine.run(inputs)
    phases = getattr(binding, "phases_ms", None)
    telemetry = open_telemetry(str(description.get("device", "unknown")))
    return _Subject(key, description, len(next(iter(inputs.values()))), call, phases, telemetry, graph)


def _warm_up(call: Callable[[], object], settings: ProfileSettings) -> tuple[int, bool]:
    """Run until two following windows agree; returns the number of runs and whether they did."""
    started, runs, before = time.perf_counter(), 0, float("inf")
    while True:
        window = [_timed(call) for _ in range(_WINDOW)]
        runs += _WINDOW
        now = float(np.median(window))
        passed = time.perf_counter() - started
        steady = abs(now - before) <= settings.steady_within * now
        if steady and passed >= settings.warmup_s:
            return runs, True
        if passed >= max(settings.warmup_limit_s, settings.warmup_s):
            logger.warning("latency is not steady after %.1f s of warm-up; the numbers are marked", passed)
            return runs, False
        before = now


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def _sample(subjects: list[_Subject], settings: ProfileSettings) -> None:
    limit = time.perf_counter() + settings.duration_s * len(subjects)
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of a sample is Python's time, not the engine's
    try:
        for number in track(range(max(settings.rounds, settings.min_rounds)), "profiling"):
            if number >= settings.min_rounds and time.perf_counter() >= limit:
                break
            # Every variant is first, second, ... equally often: what a neighbour leaves in the caches evens out.
            start = number % len(subjects)
            for subject in (*subjects[start:], *subjects[:start]):
                _round(subject, settings.burst)
    finally:
        if collecting:
            gc.enable()


def _round(subject: _Subject, burst: int) -> None:
    call = subject.call
    call()
    subject.rounds.append([_timed(call) for _ in range(burst)])
    if subject.phases is not None:
        subject.phase_rounds.append(subject.phases())
    now = time.monotonic()
    due = not subject.readings or now - subject.readings[-1].seconds >= READING_S
    if subject.telemetry is not None and due:
        subject.readings.append(subject.telemetry.read())


def _profile(subject: _Subject, settings: ProfileSettings) -> Profile:
    description = subject.description
    transfers = "without transfers" if settings.path == "bound" else "with checks and transfers"
    device = str(description.get("device", "unknown"))
    kind = f"{device}, {description['threads']} threads" if "threads" in description else device
    graph = ", CUDA graph" if subject.graph else ""
    clocks = summarize(subject.telemetry.name, subject.readings) if subject.telemetry is not None else None
    if clocks is not None and clocks.moved:
        why = ", ".join(clocks.throttled) or "not locked"
        logger.warning("clocks moved while %s was measured (%s); the numbers are marked", subject.key, why)
    names = subject.phase_rounds[0] if subject.phase_rounds else {}
    return Profile(
        key=subject.key,
        rounds_ms=np.array(subject.rounds, dtype=np.float64),
        batch=subject.batch,
        warmup_runs=subject.warmup_runs,
        settled=subject.settled,
        device=device,
        machine=str(description.get("machine", "unknown")),
        protocol=f"{kind}, batch {subject.batch}, {transfers}{graph}, interleaved"
        + ("" if subject.settled else ", not steady"),
        engine=description,
        bootstrap=settings.bootstrap,
        seed=settings.seed,
        phases_ms={name: np.array([row[name] for row in subject.phase_rounds]) for name in names},
        clocks=clocks,
        energy=subject.energy,
    )
