"""What is done about a loss of INT8: fine-tuning first, then layers in FP16. Both end as the same forms."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from targets.errors import PredictionError
from targets.jetson.catalogue import device_of
from targets.jetson.predictor import predict
from toolkit.errors import DataError, ModelError
from toolkit.patrol.quantization_settings import QuantizationTraining
from toolkit.planning.layers import fuse
from toolkit.stages.base import Context
from toolkit.stages.data import RunData
from toolkit.stages.development import Development
from toolkit.stages.export import load_network
from toolkit.stages.train import training_data

if TYPE_CHECKING:
    from calibration import Quantized, Sensitivity
    from calibration.sensitivity import Cost, Score

logger = logging.getLogger(__name__)
FINETUNE, FLOAT_LAYERS = "finetune.json", "float_layers.json"


def reduce_loss(
    context: Context, data: RunData, network: str, result: Quantized, development: Development
) -> Quantized:
    """The calibration, or what came of it where it loses more than the settings allow.

    Writes ``finetune.json`` and ``float_layers.json`` where these were used, and measures ``quantize.map_drop``.
    """
    settings = context.settings.quantize
    if settings.finetune is None and settings.max_map_drop is None:
        return result
    try:
        drop = development.float_map - development.map_of(result.forms["a"])
    except DataError as error:
        logger.warning("what INT8 loses in mean average precision cannot be told before the test: %s", error)
        return result
    _measure(context, development, network, "post-training", drop)
    options = settings.finetune
    if options is not None and (options.when == "always" or drop > options.limit):
        result = _finetune(context, data, network, result, options)
        drop = development.float_map - development.map_of(result.forms["a"])
        _measure(context, development, network, "fine-tuned", drop)
    if settings.max_map_drop is not None and drop > settings.max_map_drop:
        result = _keep_float(context, network, result, development, settings.max_map_drop)
    return result


def _measure(context: Context, development: Development, network: str, protocol: str, drop: float) -> None:
    rows: dict[str, Any] = {"n": len(development.rows), "variant": network, "split": "train", "protocol": protocol}
    context.measure("quantize.map_drop", drop, **rows)
    logger.info("INT8, %s: loses %.4f of mean average precision on training pictures", protocol, drop)


def _finetune(
    context: Context, data: RunData, network: str, result: Quantized, options: QuantizationTraining
) -> Quantized:
    from toolkit.patrol.quantization import finetune_quantized

    net = None if context.settings.enter.kind == "onnx" else load_network(context, network)[0]
    seeded = options.train.model_copy(update={"seed": context.settings.seed + 3})
    found = finetune_quantized(result, training_data(data), options.model_copy(update={"train": seeded}), net)
    body = {name: getattr(found, name) for name in ("errors", "best", "curves", "agreement")}
    context.write_json(FINETUNE, body)
    context.measure("quantize.agreement", found.agreement, variant=network, protocol="torch/a")
    return found.quantized


def _keep_float(
    context: Context, network: str, result: Quantized, development: Development, most: float
) -> Quantized:
    from calibration import choose_float_layers

    measured = measure_layers(result, "map", development)
    choice = choose_float_layers(result, measured, development.map_of, cost_of(context, result), most)
    context.write_json(FLOAT_LAYERS, asdict(choice))
    _measure(context, development, network, "layers kept in FP16", choice.drop)
    if not choice.met:
        logger.warning("no choice of FP16 layers keeps the loss within %.4f of mean average precision", most)
    return result.keeping_float(choice.layers) if choice.layers else result


def measure_layers(result: Quantized, scored: str, development: Development) -> Sensitivity:
    """Each layer alone in INT8, and each alone not, by ``feature``, ``map`` or ``leakage``."""
    from calibration import sensitivity, wire_score

    scores: dict[str, Score] = {"map": development.map_of, "leakage": development.leakage_of}
    return sensitivity(result, scores[scored] if scored in scores else wire_score(result))


def cost_of(context: Context, result: Quantized) -> Cost:
    """Predicted milliseconds on the run's first device with some layers in FP16.

    Where it cannot be predicted (a module without INT8), the share of multiply-accumulates in FP16 stands for it.
    """
    text = context.settings.devices[0] if context.settings.devices else ""
    always = result.settings.keep_float
    macs = {layer.node: layer.macs for layer in result.plan.layers}

    def by_work(layers: tuple[str, ...]) -> float:
        return sum(macs[name] for name in layers) / max(sum(macs.values()), 1)

    def by_time(layers: tuple[str, ...]) -> float:
        model = result.with_float_layers((*always, *layers), "a")
        return predict(fuse(model, "edge"), *device_of(text), "int8").latency_ms.value

    try:
        by_time(())
    except (ModelError, PredictionError, ValueError) as error:
        logger.warning(
            "layers are weighed by their work, not by predicted time on %s: %s", text or "a Jetson", error
        )
        return by_work
    return by_time
