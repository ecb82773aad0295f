"""Energy of one inference: power at the supply of a development kit times the predicted time.

Power is ``base + clock * SMs * GHz + work * (10^12 multiply-accumulates a second)``, fitted per generation on the
wall power that MLPerf's submissions publish, all INT8; a multiply-accumulate in FP16 is taken to cost twice, in
FP32 four times as much, which no published row checks.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from targets.errors import PredictionError
from targets.jetson.catalogue import Module, PowerMode
from targets.jetson.layers import LayerGraph
from targets.jetson.predictor.table import BYTES, layer_precisions


@cache
def _fitted() -> dict[str, dict[str, float]]:
    text = resources.files("targets.jetson").joinpath("data", "predictor.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    energy: dict[str, dict[str, float]] = content["energy"]
    return energy


def predict_energy(
    graph: LayerGraph, module: Module, mode: PowerMode, precision: str, milliseconds: float
) -> tuple[float, float]:
    """(millijoules, width of the interval as in ``exp(+-width)``) of one inference.

    Raises:
        PredictionError: nothing is published for this generation.
    """
    if module.generation not in _fitted() or mode.gpu_mhz is None:
        raise PredictionError(f"no power is published to fit on for {module.generation}")
    fitted = _fitted()[module.generation]
    work = int8_macs(graph, precision) / 1e12 / (milliseconds / 1e3)
    watts = fitted["base"] + fitted["clock"] * mode.sms * mode.gpu_mhz / 1000 + fitted["work"] * work
    return watts * milliseconds, fitted["spread"]


def int8_macs(graph: LayerGraph, precision: str) -> float:
    """Multiply-accumulates, each counted as what it costs relative to INT8."""
    chosen = layer_precisions(graph, precision)
    return float(sum(layer.macs * BYTES[own] for layer, own in zip(graph.layers, chosen, strict=True)))
