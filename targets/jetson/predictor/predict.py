"""What a network will take on a module in a power mode: milliseconds, megabytes, millijoules, with intervals.

Coefficients and intervals come from ``data/predictor.json``, fitted on published rows by
``benchmarks/predictor.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from targets.errors import PredictionError
from targets.jetson.catalogue import Module, PowerMode
from targets.jetson.explain import explain
from targets.jetson.layers import LayerGraph
from targets.jetson.predictor.cost import Coefficients, Machine, compute_ms, layer_times, machine, memory_ms
from targets.jetson.predictor.energy import predict_energy
from targets.jetson.predictor.memory import peak_activation_bytes, weight_bytes
from targets.jetson.predictor.table import Table, layer_precisions, tabulate

PREDICTED = "predicted"
COVERAGE = 0.9


@dataclass(frozen=True)
class Interval:
    """A value that holds with a probability of 90 % between ``low`` and ``high``."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LayerPrediction:
    """One fused layer.

    Attributes:
        bound: what takes its time: ``compute``, ``memory`` or ``launch``.
    """

    name: str
    kind: str
    precision: str
    ms: float
    bound: str


@dataclass(frozen=True)
class Prediction:
    """A network on a device. Nothing in it is measured.

    Attributes:
        provenance: always ``predicted``.
        latency_ms: of one inference, without copies from and to the host.
        memory_mb: weights and the largest set of live activations; the runtime's own memory is not in it.
        energy_mj: of one inference, of what ``energy_scope`` names; None where nothing is published to fit on.
        layers: in order.
        notes: what limits the prediction.
    """

    provenance: str
    network: str
    module: str
    mode: str
    precision: str
    latency_ms: Interval
    memory_mb: Interval
    energy_mj: Interval | None
    energy_scope: str
    layers: tuple[LayerPrediction, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Model:
    """What was fitted.

    Attributes:
        coefficients: by generation and name.
        spread: by generation, the width of the interval: 90 % of held-out rows lie within ``exp(+-spread)``.
        fitted_on: rows by generation.
    """

    coefficients: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, float]
    fitted_on: Mapping[str, int]


@cache
def fitted_model() -> Model:
    """The fitted coefficients that the package ships."""
    text = resources.files("targets.jetson").joinpath("data", "predictor.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    if content["version"] != 1:
        raise PredictionError(f"predictor.json has version {content['version']}; this program reads version 1")
    return Model(content["coefficients"], content["spread"], content["fitted_on"])


def predict(
    graph: LayerGraph, module: Module, mode: PowerMode, precision: str, model: Model | None = None
) -> Prediction:
    """Predict one inference.

    Args:
        graph: the fused network.
        module: see :func:`targets.jetson.catalogue.find_module`.
        mode: one of its power modes; its SM count and clocks are what counts.
        precision: ``fp32``, ``fp16`` or ``int8``; int8 on a graph without Q/DQ takes every layer to be INT8.
        model: coefficients; the package's own by default.

    Raises:
        PredictionError: the precision is unknown or the mode's clocks are not published.
    """
    fitted = model or fitted_model()
    device = device_of(module, mode)
    table = tabulate(graph, precision)
    times, coefficients = _times(table, device, fitted, module.generation)
    total = float(times.sum()) + fitted.coefficients[module.generation]["fixed"]
    spread = fitted.spread[module.generation]
    latency = _interval(total, spread)
    return Prediction(
        PREDICTED,
        graph.name,
        module.key,
        mode.label,
        precision,
        latency,
        _memory(graph, precision),
        _energy(graph, module, mode, precision, latency),
        "the whole development kit at its supply" if _has_energy(module) else "",
        _layers(graph, precision, table, device, coefficients, times),
        _notes(graph, module, mode, precision, fitted),
    )


def device_of(module: Module, mode: PowerMode) -> Machine:
    """The machine that a mode leaves of a module.

    Raises:
        PredictionError: clocks of the mode are not published.
    """
    if mode.gpu_mhz is None or mode.emc_mhz is None:
        raise PredictionError(
            f"the clocks of mode {mode.label} of {module.key} are not published; choose another mode"
        )
    gbps = mode.emc_mhz * 2 * module.value("memory_bus_bits") / 8 / 1000
    return machine(module.generation, mode.sms, mode.gpu_mhz / 1000, gbps)


def _times(table: Table, device: Machine, fitted: Model, generation: str) -> tuple[np.ndarray, Coefficients]:
    values = fitted.coefficients[generation]
    names = [field.name for field in fields(Coefficients)]
    coefficients = Coefficients(**{name: np.asarray(values[name]) for name in names})
    return layer_times(table, device, coefficients), coefficients


def _interval(value: float, spread: float) -> Interval:
    return Interval(value, value * float(np.exp(-spread)), value * float(np.exp(spread)))


def _memory(graph: LayerGraph, precision: str) -> Interval:
    """Weights and live activations; TensorRT may need workspace on top, and may reuse less."""
    weights = weight_bytes(graph, precision) / 1e6
    activations = peak_activation_bytes(graph, precision) / 1e6
    return Interval(weights + activations, weights + 0.7 * activations, 1.3 * weights + 2.5 * activations)


def _has_energy(module: Module) -> bool:
    return module.generation in ("volta", "ampere")


def _energy(
    graph: LayerGraph, module: Module, mode: PowerMode, precision: str, latency: Interval
) -> Interval | None:
    if not _has_energy(module):
        return None
    value, spread = predict_energy(graph, module, mode, precision, latency.value)
    return _interval(value, spread)


def _layers(
    graph: LayerGraph, precision: str, table: Table, device: Machine, fitted: Coefficients, times: np.ndarray
) -> tuple[LayerPrediction, ...]:
    compute, memory = compute_ms(table, device, fitted), memory_ms(table, device, fitted)
    chosen = layer_precisions(graph, precision)
    found = []
    for i, layer in enumerate(graph.layers):
        shares = {"compute": compute[i], "memory": memory[i], "launch": times[i] - max(compute[i], memory[i])}
        bound = max(shares, key=lambda name: float(shares[name]))
        found.append(LayerPrediction(layer.name, layer.kind, chosen[i], float(times[i]), bound))
    return tuple(found)


def _notes(graph: LayerGraph, module: Module, mode: PowerMode, precision: str, fitted: Model) -> tuple[str, ...]:
    notes = []
    rows = fitted.fitted_on.get(module.generation, 0)
    if not rows:
        notes.append(
            f"no published row of generation {module.generation} could be used: its coefficients are Ampere's, "
            "and the interval is wide"
        )
    if precision == "int8" and not explain(module).runs_int8:
        notes.append(f"{module.name} has no fast INT8: the time is that of FP16 arithmetic on 8-bit data at best")
    if precision == "int8" and not graph.quantized:
        notes.append("the network has no Q/DQ: every layer is taken to be INT8")
    notes += _mode_notes(mode)
    notes.append("memory is without the runtime itself: 0.3 to 0.9 GB were reported beside networks of 5 to 50 MB")
    return tuple(notes)


MODE_FIELDS = {
    "sms": "number of SMs",
    "gpu_mhz": "GPU clock",
    "emc_mhz": "memory clock",
}
"""What of a power mode a prediction depends on, in words."""


def _mode_notes(mode: PowerMode) -> list[str]:
    """A note where a figure of the mode that the prediction rests on was found in no source."""
    doubtful = [one for one in MODE_FIELDS if one in mode.unverified or mode.source == "unverified"]
    named = [MODE_FIELDS[one] for one in doubtful]
    if not named:
        return []
    what = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return [f"mode {mode.label}: its {what} {'are' if len(named) > 1 else 'is'} assumed; no source states it"]
