"""Interleaved latency: A B C A B C, so that what slows the machine down slows every variant."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from toolkit.engines.base import Engine
from toolkit.profiling.statistics import Profile, ProfilingError
from toolkit.progress import track

logger = logging.getLogger(__name__)
Inputs = Mapping[str, NDArray[Any]]
_WINDOW = 10


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
    calls = {key: _call(engine, by_key[key], settings) for key, engine in engines.items()}
    warm = {key: _warm_up(call, settings) for key, call in calls.items()}
    samples = _sample(calls, settings)
    return {
        key: _profile(key, engine, by_key[key], samples[key], *warm[key], settings)
        for key, engine in engines.items()
    }


def _inputs_of(key: str, inputs: Inputs | Mapping[str, Inputs]) -> Inputs:
    values = dict(inputs)
    if values and all(isinstance(value, np.ndarray) for value in values.values()):
        return values  # type: ignore[return-value]
    found = values.get(key)
    if not isinstance(found, Mapping) or not found:
        raise ProfilingError(f"no inputs for {key}")
    return found


def _call(engine: Engine, inputs: Inputs, settings: ProfileSettings) -> Callable[[], object]:
    if settings.path == "run":
        return lambda: engine.run(inputs)
    return engine.bind(inputs).run


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


def _sample(calls: Mapping[str, Callable[[], object]], settings: ProfileSettings) -> dict[str, list[list[float]]]:
    samples: dict[str, list[list[float]]] = {key: [] for key in calls}
    limit = time.perf_counter() + settings.duration_s * len(calls)
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of a sample is Python's time, not the engine's
    try:
        for number in track(range(max(settings.rounds, settings.min_rounds)), "profiling"):
            if number >= settings.min_rounds and time.perf_counter() >= limit:
                break
            for key, call in calls.items():
                call()
                samples[key].append([_timed(call) for _ in range(settings.burst)])
    finally:
        if collecting:
            gc.enable()
    return samples


def _profile(
    key: str,
    engine: Engine,
    inputs: Inputs,
    samples: list[list[float]],
    warmup_runs: int,
    settled: bool,
    settings: ProfileSettings,
) -> Profile:
    description = engine.describe()
    batch = len(next(iter(inputs.values())))
    transfers = "without transfers" if settings.path == "bound" else "with checks and transfers"
    device = str(description.get("device", "unknown"))
    kind = f"{device}, {description['threads']} threads" if "threads" in description else device
    return Profile(
        key=key,
        rounds_ms=np.array(samples, dtype=np.float64),
        batch=batch,
        warmup_runs=warmup_runs,
        settled=settled,
        device=device,
        machine=str(description.get("machine", "unknown")),
        protocol=f"{kind}, batch {batch}, {transfers}, interleaved" + ("" if settled else ", not steady"),
        engine=description,
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )
