"""Choose thresholds: one method for all, or per tensor the one that disturbs the wire least (``auto``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibration.histogram import StreamingHistogram
from calibration.observers import Observations
from calibration.placement import Layer, Plan, Point
from calibration.prepare import Prepared
from calibration.scales import dequantize_weight, fake_quantize, half_scale, scale_of, weight_codes
from calibration.settings import CalibrationSettings, Method, WeightMethod
from calibration.suffix import Suffix, activations_of
from calibration.table import TABLE
from calibration.thresholds import expected_squared_error, thresholds, weight_thresholds

METHODS: tuple[Method, ...] = ("mse", "minmax", "percentile", "entropy")
WEIGHT_METHODS: tuple[WeightMethod, ...] = ("mse", "minmax")
SAME = 0.04
CLEARLY = 1.1
HOPELESS = 1.25


@dataclass(frozen=True)
class Decision:
    """What was chosen for one tensor (or one layer's weight), and why.

    Attributes:
        tensor: activation tensor, or the layer's node name for a weight.
        kind: ``activation`` or ``weight``.
        method: whose threshold is used; ``wire`` for the given step, ``constant`` for a tensor of zeros.
        threshold: largest absolute value that is represented (largest over channels for a weight).
        scale: of one code (largest over channels for a weight).
        candidates: method -> threshold.
        wire_error: method -> mean squared error at the wire's feature relative to its power; empty where
            only one method came into question.
        note: anything unusual, for people; else empty.
    """

    tensor: str
    kind: str
    method: str
    threshold: float
    scale: float
    candidates: Mapping[str, float]
    wire_error: Mapping[str, float]
    note: str = ""


class Judge:
    """Measures what quantizing one thing alone does to the wire's feature, on the probe pictures."""

    def __init__(self, prepared: Prepared, plan: Plan, probe: np.ndarray, settings: CalibrationSettings) -> None:
        self._prepared, self._threads = prepared, settings.threads
        wanted = [point.tensor for point in plan.points] + [layer.input for layer in plan.layers]
        joined = [name for join in plan.joins for name in prepared.graph.nodes[join.node].input]
        self._values = activations_of(prepared, [*wanted, *joined, prepared.wire.feature], probe, settings.threads)
        self._reference = self._clip(self._values[prepared.wire.feature])
        self._power = float(np.mean(np.square(self._reference, dtype=np.float64))) or 1.0

    def _clip(self, feature: np.ndarray) -> np.ndarray:
        wire = self._prepared.wire
        return np.clip(feature, np.float32(wire.low * wire.step), np.float32(wire.high * wire.step))

    def _error(self, suffix: Suffix, replacement: np.ndarray) -> float:
        missing = [name for name in suffix.needed if name not in self._values]
        if missing:
            self._values.update(
                activations_of(self._prepared, missing, self._values[self._prepared.picture], self._threads)
            )
        feature = self._clip(suffix.run(replacement, self._values))
        return float(np.mean(np.square(feature - self._reference, dtype=np.float64))) / self._power

    def activation(
        self, point: Point, scales: Mapping[str, float], histogram: StreamingHistogram
    ) -> dict[str, float]:
        """Relative error at the wire for each candidate scale of one tensor.

        The few probe pictures show how an error at this tensor travels to the wire, but not how often its rare
        large values are cut. So the measured error is multiplied by the tensor's own squared error over all
        pictures (from the histogram) divided by that over the probe.
        """
        suffix = Suffix(self._prepared, point.uses, self._threads)
        values = self._values[point.tensor]
        codes = TABLE.activation_codes[1]
        everywhere = expected_squared_error(histogram, np.asarray(list(scales.values())) * codes)
        found = {}
        for (method, scale), expected in zip(scales.items(), everywhere, strict=True):
            quantized = fake_quantize(values, scale)
            here = float(np.mean(np.square(quantized - values, dtype=np.float64)))
            found[method] = self._error(suffix, quantized) * (float(expected) / here if here else 1.0)
        return found

    def weight(self, layer: Layer, candidates: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Relative error at the wire for each candidate version of one layer's weight."""
        position = TABLE.weighted[layer.operator].weight
        suffix = Suffix(self._prepared, [(layer.node, position)], self._threads)
        return {method: self._error(suffix, weight) for method, weight in candidates.items()}


def decide_activations(
    prepared: Prepared, plan: Plan, seen: Observations, settings: CalibrationSettings, judge: Judge | None
) -> tuple[Decision, ...]:
    """One decision per point of the plan; points of one group get the same scale."""
    methods = METHODS if settings.method == "auto" else (settings.method,)
    groups: dict[str, list[Point]] = {}
    for point in plan.points:
        groups.setdefault(point.group, []).append(point)
    decisions: dict[str, Decision] = {}
    for members in groups.values():
        found = _decide_group(members, seen, settings, methods, judge)
        decisions.update({point.tensor: replace(found, tensor=point.tensor) for point in members})
    return tuple(decisions[point.tensor] for point in plan.points)


def _decide_group(
    members: list[Point],
    seen: Observations,
    settings: CalibrationSettings,
    methods: tuple[Method, ...],
    judge: Judge | None,
) -> Decision:
    head = members[0]
    if head.fixed is not None:
        limit = head.fixed * TABLE.activation_codes[1]
        return Decision(head.tensor, "activation", "wire", limit, head.fixed, {}, {}, "has the wire's step")
    histogram = _histogram_of(members, seen)
    if not histogram.absolute_maximum:
        note = "is zero on every picture: the layers before it are dead"
        return Decision(head.tensor, "activation", "constant", 0.0, float(scale_of(0.0)), {}, {}, note)
    note = f"is {histogram.minimum:g} everywhere" if histogram.minimum == histogram.maximum else ""
    limits = {str(name): value for name, value in thresholds(histogram, settings.percentile, methods).items()}
    scales = {name: float(scale_of(value)) for name, value in limits.items()}
    errors: dict[str, float] = {}
    method = str(methods[0])
    if judge is not None and len(methods) > 1:
        hopeful = _worth_trying(scales, histogram)
        for point in members if len(hopeful) > 1 else []:
            found = judge.activation(point, hopeful, seen.histograms[point.tensor])
            errors = {name: errors.get(name, 0.0) + value for name, value in found.items()}
        method = _best(errors) if errors else next(iter(hopeful))
    return Decision(head.tensor, "activation", method, limits[method], scales[method], limits, errors, note)


def _best(errors: Mapping[str, float]) -> str:
    """The method of least error; ``mse`` when it comes within a tenth of it.

    Closer differences are the chance of a few pictures. Of all methods ``mse`` generalizes best, because it weighs
    every value of every picture.
    """
    least = min(errors, key=lambda name: (errors[name], name))
    return "mse" if errors.get("mse", np.inf) <= CLEARLY * errors[least] else least


def _worth_trying(scales: Mapping[str, float], histogram: StreamingHistogram) -> dict[str, float]:
    """Scales that differ by more than a few percent from those before them and whose error is not hopeless.

    A method must be clearly better than ``mse`` at the wire to be taken, and how an error travels there depends on
    its kind (rounding or clipping), but hardly by more than a quarter at one tensor.
    """
    errors = expected_squared_error(histogram, np.asarray(list(scales.values())) * TABLE.activation_codes[1])
    kept: dict[str, float] = {}
    for (name, scale), error in zip(scales.items(), errors, strict=True):
        hopeful = error <= HOPELESS * errors.min()
        if hopeful and all(abs(scale - other) > SAME * other for other in kept.values()):
            kept[name] = scale
    return kept


def _histogram_of(members: list[Point], seen: Observations) -> StreamingHistogram:
    histogram = seen.histograms[members[0].tensor]
    for point in members[1:]:
        histogram = histogram.merged(seen.histograms[point.tensor])
    return histogram


def decide_weights(
    prepared: Prepared, plan: Plan, inputs: Mapping[str, float], settings: CalibrationSettings, judge: Judge | None
) -> tuple[tuple[Decision, ...], dict[str, np.ndarray]]:
    """One decision per INT8 layer, and the scales per channel.

    Args:
        inputs: tensor -> scale of the activations; a weight's scale is raised where the bias would not fit
            into 32 bits as ``bias / (input scale * weight scale)`` (nearly dead channels).

    Returns:
        The decisions, and node name -> float32 (channels,).
    """
    methods: tuple[WeightMethod, ...] = (settings.weight_method,)
    if settings.weight_method == "auto":
        methods = WEIGHT_METHODS
    decisions, found = [], {}
    for layer in plan.int8_layers:
        decision, scale = _decide_weight(prepared, layer, inputs[layer.input], settings, methods, judge)
        decisions.append(decision)
        found[layer.node] = scale
    return tuple(decisions), found


def _decide_weight(
    prepared: Prepared,
    layer: Layer,
    input_scale: float,
    settings: CalibrationSettings,
    methods: tuple[WeightMethod, ...],
    judge: Judge | None,
) -> tuple[Decision, np.ndarray]:
    weight, codes = prepared.graph.constants[layer.weight], TABLE.weight_codes[1]
    limits = {str(m): weight_thresholds(weight, layer.axis, m, settings.percentile) for m in methods}
    scales = {name: half_scale(limit / codes) for name, limit in limits.items()}
    method, errors = str(methods[0]), {}
    if judge is not None and len(methods) > 1:
        versions = {
            name: dequantize_weight(weight_codes(weight, scale, layer.axis), scale, layer.axis)
            for name, scale in scales.items()
        }
        own = {name: float(np.square(version - weight).sum()) for name, version in versions.items()}
        most = HOPELESS * own[method]
        hopeful = [
            name
            for name, error in own.items()
            if name == method or (error <= most and not np.array_equal(scales[name], scales[method]))
        ]
        if len(hopeful) > 1:
            errors = judge.weight(layer, {name: versions[name] for name in hopeful})
            method = _best(errors)
    scale, note = _room_for_bias(prepared, layer, scales[method], input_scale)
    others = tuple(axis for axis in range(weight.ndim) if axis != layer.axis)
    dead = int(np.sum(~weight.any(axis=others)))
    if dead:
        note = f"{dead} of {scale.size} channels are all zero (padding or dead){'; ' if note else ''}{note}"
    largest = {name: float(limit.max()) for name, limit in limits.items()}
    decision = Decision(layer.node, "weight", method, largest[method], float(scale.max()), largest, errors, note)
    return decision, scale


def _room_for_bias(
    prepared: Prepared, layer: Layer, scale: np.ndarray, input_scale: float
) -> tuple[np.ndarray, str]:
    position = TABLE.weighted[layer.operator].bias
    bias = None if position is None else prepared.graph.constant(prepared.graph.nodes[layer.node], position)
    return with_room_for_bias(scale, bias, input_scale)


def with_room_for_bias(scale: np.ndarray, bias: np.ndarray | None, input_scale: float) -> tuple[np.ndarray, str]:
    """Weight scales under which ``bias / (input scale * weight scale)`` fits into 32 bits, and what was raised."""
    if bias is None or bias.size != scale.size:
        return scale, ""
    least = np.abs(bias.reshape(-1).astype(np.float64)) / (input_scale * 2**30)
    if (least <= scale).all():
        return scale, ""
    raised = half_scale(np.maximum(scale.astype(np.float64), least))
    return raised, f"{int((raised > scale).sum())} weight scales raised so that the bias fits into 32 bits"
