"""Post-training quantization of an edge half: observe, decide, place, write, compare."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.agreement import Agreement, Fidelity, agreements, fidelity, run_forms
from calibration.bias import correct_biases
from calibration.cache import CalibrationCache, cache_key, cache_scales
from calibration.cpu_form import form_cpu, internal_tensors
from calibration.decide import Decision, Judge, decide_activations, decide_weights
from calibration.errors import SettingsError
from calibration.forms import form_a, form_b, form_half
from calibration.observers import Observations, observe
from calibration.placement import Plan, place
from calibration.prepare import Prepared, prepare
from calibration.scales import Scales, scale_of
from calibration.settings import FORMS, CalibrationSettings, Form
from calibration.suffix import activations_of
from calibration.thresholds import mse_threshold

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quantized:
    """The result of calibration.

    Attributes:
        forms: ``a``, ``b``, ``cpu`` and ``fp16`` -> ONNX model; input float32 pictures, output INT8 codes.
        plan: which layers are INT8 and where the Q/DQ pairs stand.
        scales: every scale that was used.
        decisions: per tensor and per layer: what was chosen and why.
        agreement: ``form/form`` -> how far their codes agree on the probe pictures.
        fidelity: form -> codes against the FP32 feature on the probe pictures.
        cache: TensorRT calibration cache for the unquantized network.
        prepared: the FP32 network with BatchNorm folded, to which the cache's names belong.
        reference: the FP32 network that fidelity is measured against; another one than ``prepared`` only after
            quantization-aware fine-tuning, which changes weights.
        observations: what the pass over the pictures saw.
        settings: as given.
    """

    forms: Mapping[str, onnx.ModelProto]
    plan: Plan
    scales: Scales
    decisions: tuple[Decision, ...]
    agreement: Mapping[str, Agreement]
    fidelity: Mapping[str, Fidelity]
    cache: CalibrationCache
    prepared: Prepared
    reference: Prepared
    observations: Observations
    settings: CalibrationSettings

    def keeping_float(self, layers: Iterable[str]) -> Quantized:
        """The same calibration with some layers left unquantized; no picture is read again.

        Raises:
            SettingsError: a name is no weighted layer.
        """
        settings = replace(self.settings, keep_float=tuple(layers))
        if self.reference is not self.prepared:  # what was learned is kept, not decided again
            plan = place(self.prepared, settings)
            kept = replace(self, plan=plan, settings=settings)
            return complete(kept, self.prepared, self.scales, self.decisions, self.cache.key)
        return _finish(self.prepared, self.observations, settings, self.cache.key)

    def with_float_layers(self, layers: Iterable[str], form: Form) -> onnx.ModelProto:
        """One form with these layers unquantized and all other scales unchanged (for sensitivity analysis).

        Raises:
            SettingsError: a name is no weighted layer.
        """
        plan = place(self.prepared, replace(self.settings, keep_float=tuple(layers)))
        known = set(self.scales.activations)
        missing = [point.tensor for point in plan.points if point.tensor not in known]
        if missing:
            raise SettingsError(f"{missing[0]} has no scale; use keeping_float")
        return write_forms(self.prepared, plan, self.scales, self.observations.ranges, (form,))[form]

    def report(self) -> dict[str, Any]:
        """Everything but the networks, ready for JSON."""
        return {
            "pictures": self.observations.pictures,
            "data_sha256": self.observations.data_hash,
            "cache_key": self.cache.key,
            "folded_batch_norms": self.prepared.folded,
            "wire_step": self.prepared.wire.step,
            "settings": asdict(self.settings),
            "layers": [asdict(layer) for layer in self.plan.layers],
            "points": [asdict(point) for point in self.plan.points],
            "decisions": [asdict(decision) for decision in self.decisions],
            "agreement": {name: asdict(item) for name, item in self.agreement.items()},
            "fidelity": {name: asdict(item) for name, item in self.fidelity.items()},
        }


def quantize(
    model: onnx.ModelProto | bytes | str | Path,
    batches: Iterable[np.ndarray],
    settings: CalibrationSettings | None = None,
) -> Quantized:
    """Calibrate an edge half on pictures and write its INT8 forms. Same input, same bytes.

    Args:
        model: FP32 edge half that ends in the wire (see :func:`calibration.prepare.prepare`).
        batches: float32 arrays (N, C, H, W) as the deployed preprocessing makes them; read once.
        settings: how; None takes the defaults.

    Raises:
        CalibrationError: by name, see :mod:`calibration.errors`.
    """
    settings = settings or CalibrationSettings()
    prepared = prepare(model)
    everything = place(prepared, replace(settings, keep_float=()))
    wanted = [point.tensor for point in everything.points] + list(internal_tensors(prepared, everything))
    seen = observe(
        prepared,
        batches,
        list(dict.fromkeys(wanted)),
        bins=settings.bins,
        forward_pictures=settings.forward_pictures,
        probe_pictures=settings.probe_pictures,
        threads=settings.threads,
    )
    method = json.dumps(asdict(replace(settings, threads=0, pictures_hash="", preprocess_hash="", keep_float=())))
    data = prepared.model.SerializeToString(deterministic=True)
    key = cache_key(data, seen.data_hash, settings.pictures_hash, settings.preprocess_hash, method)
    return _finish(prepared, seen, settings, key)


def _finish(prepared: Prepared, seen: Observations, settings: CalibrationSettings, key: str) -> Quantized:
    plan = place(prepared, settings)
    scales, decisions = _scales(prepared, plan, seen, settings)
    return _complete(prepared, prepared, plan, scales, decisions, seen, settings, key)


def complete(
    source: Quantized, prepared: Prepared, scales: Scales, decisions: tuple[Decision, ...], key: str
) -> Quantized:
    """The forms of ``source``'s plan with other weights and scales, compared with ``source``'s FP32 network."""
    return _complete(
        prepared, source.reference, source.plan, scales, decisions, source.observations, source.settings, key
    )


def _complete(
    prepared: Prepared,
    original: Prepared,
    plan: Plan,
    scales: Scales,
    decisions: tuple[Decision, ...],
    seen: Observations,
    settings: CalibrationSettings,
    key: str,
) -> Quantized:
    forms: dict[str, onnx.ModelProto] = {
        form: write_forms(original if form == "fp16" else prepared, plan, scales, seen.ranges, (form,))[form]
        for form in settings.forms
    }
    codes = run_forms(forms, seen.probe, settings.forward_pictures, settings.threads)
    wire = original.wire
    feature = activations_of(original, [wire.feature], seen.probe, settings.threads)[wire.feature]
    clipped = np.clip(feature, np.float32(wire.low * wire.step), np.float32(wire.high * wire.step))
    reference = np.clip(np.rint(feature / np.float32(wire.step)), wire.low, wire.high).astype(np.int8)
    _log_notes(decisions)
    return Quantized(
        forms=forms,
        plan=plan,
        scales=scales,
        decisions=decisions,
        agreement=agreements({**codes, "fp32": reference}),
        fidelity={name: fidelity(value, reference, clipped, wire.step) for name, value in codes.items()},
        cache=CalibrationCache(cache_scales(prepared, plan, scales, seen.ranges), key),
        prepared=prepared,
        reference=original,
        observations=seen,
        settings=settings,
    )


def _log_notes(decisions: tuple[Decision, ...]) -> None:
    """Dead activations are a warning; zero channels are usual in aligned slim networks."""
    for decision in decisions:
        if decision.note and decision.method not in ("wire", "learned"):
            level = logging.WARNING if decision.kind == "activation" else logging.INFO
            logger.log(level, "%s %s %s", decision.kind, decision.tensor, decision.note)


def _scales(
    prepared: Prepared, plan: Plan, seen: Observations, settings: CalibrationSettings
) -> tuple[Scales, tuple[Decision, ...]]:
    auto = "auto" in (settings.method, settings.weight_method)
    judge = Judge(prepared, plan, seen.probe[: settings.judge_pictures], settings) if auto else None
    activations = decide_activations(prepared, plan, seen, settings, judge)
    inputs = {decision.tensor: decision.scale for decision in activations}
    weights, found = decide_weights(prepared, plan, inputs, settings, judge)
    internal = {
        name: float(scale_of(mse_threshold(seen.histograms[name])))
        for name in internal_tensors(prepared, plan)
        if name in seen.histograms
    }
    biases: dict[str, np.ndarray] = {}
    if settings.bias_correction:
        biases = correct_biases(prepared, plan, inputs, found, seen.probe, settings.threads)
    return Scales(inputs, found, internal, biases), (*activations, *weights)


def write_forms(
    prepared: Prepared,
    plan: Plan,
    scales: Scales,
    ranges: Mapping[str, tuple[float, float]],
    forms: Iterable[Form] = FORMS,
) -> dict[str, onnx.ModelProto]:
    """The forms of one plan and one set of scales (also for scales that fine-tuning learned).

    Args:
        ranges: tensor -> (smallest, largest) seen; forms b and fp16 are checked against them.

    Raises:
        HalfRangeError: a value does not fit into FP16.
    """
    writers: dict[str, Callable[[], onnx.ModelProto]] = {
        "a": lambda: form_a(prepared, plan, scales),
        "b": lambda: form_b(prepared, plan, scales, ranges),
        "cpu": lambda: form_cpu(prepared, plan, scales),
        "fp16": lambda: form_half(prepared, ranges),
    }
    return {name: writers[name]() for name in forms}
