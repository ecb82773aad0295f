"""What the edge halves of a run will take on the Jetsons that the run names: predicted, never measured."""

from __future__ import annotations

import logging
from itertools import product
from typing import Any

from targets.errors import PredictionError
from targets.jetson.catalogue import Module, device_of
from targets.jetson.predictor import Prediction, predict
from toolkit.errors import ModelError
from toolkit.metrics import Metric
from toolkit.planning.layers import layers_from_onnx
from toolkit.stages.base import Context
from toolkit.stages.export import networks_of
from toolkit.stages.sent import sent_network
from toolkit.variants import Variant

logger = logging.getLogger(__name__)
PREDICTIONS = "predictions.json"


def predict_devices(context: Context) -> None:
    """Latency and memory of the dense and the final edge half in FP16, and of the final one in INT8.

    What cannot be predicted (a module without INT8, a graph whose shapes are open) is left out with a warning.
    """
    networks, final = networks_of(context)
    rows: list[dict[str, Any]] = []
    wanted = [*((network, "fp16") for network in networks), (final, "int8")]
    for text, (network, precision) in product(context.settings.devices, wanted):
        module, mode = device_of(text)
        try:
            noise = context.settings.wire.noise if network == final else 0.0
            path = sent_network(context.run, network, "float", noise)
            found = predict(layers_from_onnx(path), module, mode, precision)
        except (ModelError, PredictionError) as error:
            logger.warning("%s %s on %s is not predicted: %s", network, precision, text, error)
            continue
        rows.append(_row(found, module, network))
        for metric in _metrics(context, found, network):
            context.metrics.add(metric)
    context.write_json(PREDICTIONS, {"rows": rows})


def _row(found: Prediction, module: Module, network: str) -> dict[str, Any]:
    launch = sum(layer.ms for layer in found.layers if layer.bound == "launch")
    total = sum(layer.ms for layer in found.layers)
    return {
        "device": module.name,
        "mode": found.mode,
        "network": network,
        "precision": found.precision,
        "latency_ms": [found.latency_ms.value, found.latency_ms.low, found.latency_ms.high],
        "memory_mb": [found.memory_mb.value, found.memory_mb.low, found.memory_mb.high],
        "launch_share": launch / total if total else 0.0,
    }


def _metrics(context: Context, found: Prediction, network: str) -> list[Metric]:
    form = "b" if found.precision == "int8" else "float"
    variant = Variant(network, found.precision, form, context.settings.wire.bits, "tensorrt")  # type: ignore[arg-type]
    base: dict[str, Any] = {
        "n": 1,
        "provenance": "predicted",
        "variant": variant.key,
        "machine": f"{found.module}, {found.mode}",
        "protocol": "batch 1, without transfers",
    }
    values = (("latency.p50", "ms", found.latency_ms), ("memory.peak", "bytes", found.memory_mb))
    return [
        Metric(
            name=name,
            value=item.value * _scale(unit),
            interval=(item.low * _scale(unit), item.high * _scale(unit)),
            unit=unit,
            **base,
        )
        for name, unit, item in values
    ]


def _scale(unit: str) -> float:
    return 1e6 if unit == "bytes" else 1.0
