"""Ask TensorRT what an engine runs, and how long each of its layers takes."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

from toolkit.engines.layers.graph import LayerInfoError

logger = logging.getLogger(__name__)


def information_of(trt: ModuleType, engine: Any, context: Any = None) -> dict[str, Any]:
    """The inspector's JSON of a deserialized engine.

    Args:
        trt: the module.
        engine: deserialized.
        context: with it, dynamic shapes are the bound ones.

    Raises:
        LayerInfoError: the inspector's answer is no JSON object.
    """
    inspector = engine.create_engine_inspector()
    if context is not None:
        inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        body = json.loads(text, strict=False)
    except ValueError as error:
        raise LayerInfoError(f"TensorRT {trt.__version__} describes the engine in no JSON: {error}") from error
    if not isinstance(body, dict):
        raise LayerInfoError(f"TensorRT {trt.__version__} describes the engine as {type(body).__name__}")
    return body


def inspect_plan(trt: ModuleType, plan: bytes, log: Any) -> dict[str, Any] | None:
    """Layer information of a plan that was just built here; None, with a warning, when it cannot be had."""
    try:
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(plan)
        return information_of(trt, engine) if engine is not None else None
    except Exception as error:
        logger.warning("the engine's layers are not known: %s", error)
        return None


@lru_cache(maxsize=2)
def _recorder_class(trt: ModuleType) -> Any:
    base: Any = trt.IProfiler

    class Recorder(base):
        """Collects what TensorRT reports after every run."""

        def __init__(self) -> None:
            base.__init__(self)
            self.times: dict[str, list[float]] = defaultdict(list)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[str(layer_name)].append(float(ms))

    return Recorder


def record_layers(trt: ModuleType, context: Any, run: Callable[[], None], warmup: int, runs: int) -> Any:
    """Milliseconds of every layer in ``runs`` runs, after ``warmup`` that are not kept.

    The profiler makes TensorRT wait between layers: shares are meaningful, their sum is not the latency. It stays
    with the context, so give it one of its own.

    Args:
        trt: the module.
        context: its inputs and outputs are bound.
        run: one whole run, waiting for its end.
        warmup, runs: numbers of runs.

    Returns:
        Layer name to its times.
    """
    recorder = _recorder_class(trt)()
    context.profiler = recorder
    context.enqueue_emits_profile = True
    for _ in range(warmup):
        run()
    recorder.times.clear()
    for _ in range(runs):
        run()
    return {name: list(values) for name, values in recorder.times.items()}
