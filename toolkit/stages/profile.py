"""Stage ``profile``: latency of every variant that runs here in one interleaved run, memory and layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.checks.select import against
from toolkit.engines import open_engine
from toolkit.engines.base import Arrays
from toolkit.engines.edge_inputs import edge_inputs
from toolkit.engines.settings import RunSettings as OpenSettings
from toolkit.preprocess import to_input
from toolkit.profiling import (
    LayerTime,
    ProfileSettings,
    compare,
    engine_layers,
    layer_profile,
    measure_memory,
    profile,
)
from toolkit.profiling.energy import unified_memory
from toolkit.stages.base import Context, Stage
from toolkit.stages.build import engine_path, running_variants
from toolkit.stages.data import RunData
from toolkit.stages.predicted import predict_devices
from toolkit.variants import Variant

LATENCY = "latency.json"


class ProfileStage(Stage):
    """Interleaved samples, percentiles, ratios with intervals; for Jetsons, predictions that are called that."""

    name = "profile"
    version = 4
    sections = ("profile", "devices")
    inputs = ("data", "export", "build")

    def run(self, context: Context) -> None:
        data = RunData.load(context)
        keys = running_variants(context)
        options = OpenSettings(threads=context.settings.thread_count())
        picture = to_input(np.asarray(data.pictures[data.test[:1]]))
        profiles, inputs = self._latency(context, keys, picture, options)
        body: dict[str, Any] = {
            "samples_ms": {key: item.samples_ms.ravel().tolist() for key, item in profiles.items()},
            "clocks": {key: item.clocks.to_dict() for key, item in profiles.items() if item.clocks is not None},
            "phases_ms": {
                key: {name: values.tolist() for name, values in item.phases_ms.items()}
                for key, item in profiles.items()
                if item.phases_ms
            },
            "ratios": self._ratios(context, profiles),
            "layers": {},
        }
        for key in keys:
            path = engine_path(context, key)
            memory = measure_memory(path, settings=options)
            context.measure("memory.peak", memory.peak_bytes, unit="bytes", variant=key, protocol="batch 1")
            if memory.device_bytes is not None and not unified_memory():
                context.measure(
                    "memory.device", memory.device_bytes, unit="bytes", variant=key, protocol="batch 1"
                )
            layers = _layers(path, key, inputs[key], options)
            body["layers"][key] = [
                {"layer": item.module or item.node, "ms": item.median_ms, "precision": item.operator}
                for item in layers
            ]
        context.write_json(LATENCY, body)
        predict_devices(context)
        for key, item in profiles.items():
            moved = " (clocks moved)" if item.clocks is not None and item.clocks.moved else ""
            context.summary[f"p50 {key}"] = f"{item.p50:.3f} ms{moved}"

    def _latency(
        self, context: Context, keys: list[str], picture: NDArray[np.float32], options: OpenSettings
    ) -> tuple[dict[str, Any], dict[str, Arrays]]:
        """Profiles, and the inputs that they were taken with, by variant."""
        settings: ProfileSettings = context.settings.profile
        engines = {key: open_engine(engine_path(context, key), options) for key in keys}
        try:
            inputs = {key: edge_inputs(engine, picture) for key, engine in engines.items()}
            profiles = profile(engines, inputs, settings)
        finally:
            for engine in engines.values():
                engine.close()
        for item in profiles.values():
            for metric in item.metrics():
                context.metrics.add(metric)
        return profiles, inputs

    def _ratios(self, context: Context, profiles: dict[str, Any]) -> list[dict[str, Any]]:
        reference, *others = profiles.values()
        rows = []
        for other in others:
            ratio = compare(other, reference)
            context.measure(
                "latency.ratio",
                ratio.value,
                n=len(other.rounds_ms),
                interval=ratio.interval,
                variant=other.key,
                protocol=against(reference.key),
            )
            rows.append(
                {
                    "variant": other.key,
                    "reference": reference.key,
                    "ratio": ratio.value,
                    "interval": list(ratio.interval),
                    "rounds": len(other.rounds_ms),
                    "verdict": ratio.verdict,
                }
            )
        return rows


def _layers(path: Path, key: str, inputs: Any, options: OpenSettings) -> tuple[LayerTime, ...]:
    """Time per layer, from the runtime's own profiler, in an engine opened for that alone."""
    if Variant.from_key(key).engine == "onnxruntime":
        return layer_profile(path.read_bytes(), inputs, options)
    engine: Any = open_engine(path, options)
    try:
        return engine_layers(engine, inputs)
    finally:
        engine.close()
