"""Time per layer from ONNX Runtime's own profiler, under the names of the network's modules."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from toolkit.engines.ort import open_session
from toolkit.engines.settings import RunSettings
from toolkit.optional import require
from toolkit.profiling.statistics import ProfilingError

_KERNEL = "_kernel_time"
_SUFFIXES = ("_nchwc", "_quant", "_nhwc")
_PREFIXES = ("fused ",)
_ORIGINS = {
    "Conv": ("Conv",),
    "FusedConv": ("Conv",),
    "NhwcFusedConv": ("Conv",),
    "QLinearConv": ("Conv",),
    "Gemm": ("Gemm", "MatMul"),
    "FusedGemm": ("Gemm", "MatMul"),
    "QGemm": ("Gemm", "MatMul"),
    "FusedMatMul": ("MatMul",),
    "MatMulInteger": ("MatMul",),
    "QLinearMatMul": ("MatMul",),
    "QLinearAdd": ("Add",),
}


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
    return _sum_up(kernels, _Origins(model), warmup, runs)


def _sum_up(kernels: list[dict[str, Any]], origins: _Origins, warmup: int, runs: int) -> tuple[LayerTime, ...]:
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


class _Origins:
    """From a fused kernel back to the node, and so the module, that it computes."""

    def __init__(self, model: bytes) -> None:
        graph = require("onnx", "host").load_from_string(model).graph
        self._by_name = {node.name: node for node in graph.node if node.name}
        self._producer = {name: node for node in graph.node for name in node.output}

    def module(self, node: str, operator: str) -> str:
        start = self._find(node)
        if start is None:
            return ""
        wanted = _ORIGINS.get(operator, (start.op_type,))
        # Fusion names a kernel after the last tensor of its chain: the convolution is a few nodes before it.
        level: list[Any] = [start]
        seen: set[int] = set()
        for _ in range(4):
            for candidate in level:
                if candidate.op_type in wanted:
                    return str(candidate.name).rpartition("/")[0]
            seen.update(id(candidate) for candidate in level)
            parents = [self._producer.get(name) for candidate in level for name in candidate.input]
            level = [parent for parent in parents if parent is not None and id(parent) not in seen]
        return str(start.name).rpartition("/")[0]

    def _find(self, name: str) -> Any | None:
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        for suffix in ("", *_SUFFIXES):
            plain = name.removesuffix(suffix) if suffix else name
            found = self._by_name.get(plain) or self._producer.get(plain)
            if found is not None:
                return found
        return None
