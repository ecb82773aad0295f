"""From weights and scales that quantization-aware fine-tuning learned to the same forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from calibration.cache import cache_key
from calibration.decide import Decision, with_room_for_bias
from calibration.errors import SettingsError
from calibration.prepare import with_constants
from calibration.quantize import Quantized, complete
from calibration.scales import Scales, half_scale
from calibration.table import TABLE


def learned(source: Quantized, weights: Mapping[str, np.ndarray], scales: Scales) -> Quantized:
    """The result of fine-tuning, as calibration would have given it: forms, agreement, fidelity, cache.

    Placement is ``source``'s, and fidelity is measured against its FP32 network.

    Args:
        source: the calibration that fine-tuning began with.
        weights: initializer of ``source.prepared`` -> float32 of the same shape.
        scales: for every point and INT8 layer of ``source.plan``; rounded up to FP16 where they are not.

    Raises:
        SettingsError: a scale is missing, is no positive number, or is the wire's and was changed.
    """
    biases = _own_biases(source, scales.biases)
    prepared = with_constants(source.prepared, {**weights, **dict(biases.values())})
    activations = {}
    for point in source.plan.points:
        scale = scales.activations.get(point.tensor, 0.0)
        if not 0.0 < scale < float("inf"):
            raise SettingsError(f"the learned scale of {point.tensor} is {scale}; it has to be a positive number")
        if point.fixed is not None and scale != point.fixed:
            raise SettingsError(f"{point.tensor} carries the wire's step {point.fixed:g}, which is never learned")
        activations[point.tensor] = float(scale if point.fixed is not None else half_scale(scale))
    kept = {}
    for layer in source.plan.int8_layers:
        if layer.node not in scales.weights:
            raise SettingsError(f"the learned scales of {layer.node} are missing; give one per channel")
        bias = scales.biases.get(layer.node)
        position = TABLE.weighted[layer.operator].bias
        if bias is None and position is not None:
            bias = prepared.graph.constant(prepared.graph.nodes[layer.node], position)
        kept[layer.node], _ = with_room_for_bias(
            half_scale(scales.weights[layer.node]), bias, activations[layer.input]
        )
    shared = {node: value for node, value in scales.biases.items() if node not in biases}
    final = Scales(activations, kept, scales.internal, shared)
    data = prepared.model.SerializeToString(deterministic=True)
    key = cache_key(data, source.observations.data_hash, source.cache.key, "", "learned")
    return complete(source, prepared, final, _decisions(source, final), key)


def _own_biases(source: Quantized, biases: Mapping[str, np.ndarray]) -> dict[str, tuple[str, np.ndarray]]:
    """Biases that a layer shares with no other, which can be changed in the network: node -> (initializer, value).

    So they hold for the layer in float too; those of two layers stay apart, as replacements of the forms.
    """
    graph = source.prepared.graph
    found = {}
    for layer in source.plan.int8_layers:
        position = TABLE.weighted[layer.operator].bias
        if layer.node not in biases or position is None or position >= len(graph.nodes[layer.node].input):
            continue
        name = graph.nodes[layer.node].input[position]
        if name in graph.constants and len(graph.consumers[name]) == 1:
            found[layer.node] = (name, biases[layer.node].reshape(graph.constants[name].shape))
    return found


def _decisions(source: Quantized, scales: Scales) -> tuple[Decision, ...]:
    """Calibration's decisions, each with the scale that came of it; the wire's stays as it was."""
    found = []
    for decision in source.decisions:
        if decision.method == "wire":
            found.append(decision)
            continue
        weight = decision.kind == "weight"
        scale = float(scales.weights[decision.tensor].max() if weight else scales.activations[decision.tensor])
        codes = (TABLE.weight_codes if weight else TABLE.activation_codes)[1]
        note = f"learned, from {decision.method}'s {decision.scale:.4g}"
        found.append(replace(decision, method="learned", threshold=scale * codes, scale=scale, note=note))
    return tuple(found)
