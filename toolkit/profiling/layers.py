"""Time per layer from the runtimes' own profilers, under the names of the network's modules."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from toolkit.engines.layers.graph import EngineGraph, EngineLayer
from toolkit.engines.layers.origins import Origins
from toolkit.engines.layers.schemas import graph_of
from toolkit.engines.ort import open_session
from toolkit.engines.settings import RunSettings
from toolkit.engines.trt_run import TensorRTEngine
from toolkit.optional import require
from toolkit.profiling.statistics import ProfilingError

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class LayerTime:
    """One kernel that ran.

    Attributes:
        module: the network's module it belongs to, e.g. ``backbone.layer2.0.conv1``; empty for the wire and
            for what the runtime added (reorders).
        node: the runtime's name.
        operator: the kernel, after fusion.
        median_ms: per run.
        share: of the sum of all kernels' medians.
    """

    module: str
    node: str
    operator: str
    median_ms: float
    share: float


def layer_profile(
    model: bytes, inputs: Mapping[str, NDArray[Any]], settings: RunSettings | None = None, runs: int = 20
) -> tuple[LayerTime, ...]:
    """Run a model with the profiler on, which slows it down: shares are meaningful, totals are not latency.

    Args:
        model: an ONNX file's bytes, as exported (its node names carry the module names).
        inputs: one batch.
        settings: as the engine is run.
        runs: counted ones; a few more come first.

    Returns:
        Kernels in the order they ran.

    Raises:
        EngineBuildError: the model is refused.
        ProfilingError: the profiler recorded nothing.
    """
    with tempfile.TemporaryDirectory(prefix="patrol-edge-") as work:
        session = open_session(model, settings or RunSettings(), str(Path(work) / "profile"))
        warmup = max(runs // 4, 2)
        for _ in range(warmup + runs):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)]
    return _sum_up(kernels, Origins(require("onnx", "host").load_from_string(model).graph), warmup, runs)


def engine_layers(
    engine: TensorRTEngine, inputs: Mapping[str, NDArray[Any]], runs: int = 20
) -> tuple[LayerTime, ...]:
    """Time per layer of a TensorRT engine, by TensorRT's own profiler, under the names of the modules.

    Close the engine afterwards: the profiler stays and slows every later run down.

    Raises:
        ProfilingError: TensorRT reported no layer.
    """
    times = engine.layer_times(inputs, runs)
    return name_layers(graph_of(engine.layer_information()), times)


def name_layers(graph: EngineGraph, times_ms: Mapping[str, Sequence[float]]) -> tuple[LayerTime, ...]:
    """Put an engine's layers and a profiler's times together.

    Raises:
        ProfilingError: no layer has a time.
    """
    medians = {name: median(values) for name, values in times_ms.items() if values}
    total = sum(medians.values())
    if not medians or not total:
        raise ProfilingError("TensorRT's profiler reported no layer; was the engine run?")
    known = {layer.name: layer for layer in graph.layers}
    found = []
    for name, value in medians.items():
        layer = known.get(name) or EngineLayer(name, "")
        operator = f"{layer.kind} {layer.precision}".strip()
        found.append(LayerTime(" + ".join(layer.modules), name, operator, value, value / total))
    return tuple(found)


def _sum_up(kernels: list[dict[str, Any]], origins: Origins, warmup: int, runs: int) -> tuple[LayerTime, ...]:
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in kernels:
        durations[event["name"].removesuffix(_KERNEL), event["args"]["op_name"]].append(event["dur"] / 1000.0)
    if not durations:
        raise ProfilingError("ONNX Runtime's profiler recorded no kernel")
    counted = runs / (warmup + runs)
    medians = {key: median(values[-max(round(len(values) * counted), 1) :]) for key, values in durations.items()}
    total = sum(medians.values()) or 1.0
    return tuple(
        LayerTime(origins.module(node, operator), node, operator, value, value / total)
        for (node, operator), value in medians.items()
    )
