"""Two models or engines, timed in turns on this machine: which one is faster, and how sure is that."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines.base import Engine
from toolkit.engines.build import build_engine, open_engine
from toolkit.engines.settings import BuildSettings, RunSettings
from toolkit.engines.sidecar import Sidecar, sidecar_path
from toolkit.profiling.latency import ProfileSettings, profile
from toolkit.profiling.statistics import Profile, ProfilingError, Ratio, compare


@dataclass(frozen=True)
class PairResult:
    """Both profiles and the ratio of their medians, A / B."""

    a: Profile
    b: Profile
    ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without the samples."""

        def short(one: Profile) -> dict[str, Any]:
            return {name: value for name, value in one.to_dict().items() if name not in ("rounds_ms", "phases_ms")}

        ratio = {"a": self.ratio.a, "b": self.ratio.b, "value": self.ratio.value, "verdict": self.ratio.verdict}
        return {"a": short(self.a), "b": short(self.b), "ratio": {**ratio, "interval": list(self.ratio.interval)}}


def compare_files(
    a: Path,
    b: Path,
    build: BuildSettings | None = None,
    settings: ProfileSettings | None = None,
    batch: int = 1,
) -> PairResult:
    """Open or build both and measure A B, B A, A B...

    A file with a sidecar beside it is opened as the engine that it is; any other one is taken for an ONNX model
    and built here, in a temporary folder. Both get the same noise as input: its values do not matter.

    Args:
        a, b: ONNX models or engine files.
        build: how models are built.
        settings: of the measurement.
        batch: pictures of a run.

    Raises:
        EngineError: one of them cannot be built or opened here.
        ProfilingError: they do not run on the same device.
    """
    build = build or BuildSettings()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="patrol-edge-")))
        engines: dict[str, Engine] = {}
        for side, path in (("a", a), ("b", b)):
            engine = _engine(path, work / f"{side}.engine", build)
            stack.callback(engine.close)
            engines[f"{side}: {path}"] = engine
        inputs = {key: noise(engine, batch) for key, engine in engines.items()}
        first, second = profile(engines, inputs, settings).values()
    if first.device != second.device:
        raise ProfilingError(
            f"{first.key} runs on {first.device}, {second.key} on {second.device}; name one engine"
        )
    return PairResult(first, second, compare(first, second))


def _engine(path: Path, out: Path, build: BuildSettings) -> Engine:
    if sidecar_path(path).is_file():
        return open_engine(path, RunSettings(threads=build.threads))
    if path.suffix != ".onnx":
        Sidecar.load(path)  # says what is missing
    return open_engine(build_engine(path, out, build).path, RunSettings(threads=build.threads))


def noise(engine: Engine, batch: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs of the engine's shapes and types."""
    generator = np.random.default_rng(seed)
    found = {}
    for spec in engine.describe()["inputs"]:
        shape = tuple(batch if side == -1 else side for side in spec["shape"])
        dtype = np.dtype(spec["dtype"])
        if dtype.kind == "f":
            found[spec["name"]] = generator.random(shape, dtype=np.float32).astype(dtype)
        else:
            found[spec["name"]] = generator.integers(0, 100, shape).astype(dtype)
    return found
