"""Which layers cost accuracy in INT8, and which of them to keep in floating point.

Scores and costs come through callbacks, so that feature error, mAP or leakage can all be asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from calibration.agreement import run_forms, sqnr
from calibration.errors import SettingsError
from calibration.quantize import Quantized
from calibration.settings import Form
from calibration.suffix import activations_of

logger = logging.getLogger(__name__)
Score = Callable[[onnx.ModelProto], float]
"""Larger is better; takes a quantized edge half."""
Cost = Callable[[tuple[str, ...]], float]
"""Predicted latency (any unit) when these layers are kept in floating point."""


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer's part in the loss.

    Attributes:
        layer: node name; macs: multiply-accumulates of one picture.
        only: score when only this layer is INT8.
        without: score when all INT8 layers but this one are.
        loss_only: score of the float network minus ``only``.
        gain_without: ``without`` minus the score of the fully quantized network.
    """

    layer: str
    macs: int
    only: float
    without: float
    loss_only: float
    gain_without: float


@dataclass(frozen=True)
class Sensitivity:
    """All layers in topological order, and the two ends: nothing and everything quantized."""

    float_score: float
    int8_score: float
    layers: tuple[LayerSensitivity, ...]


@dataclass(frozen=True)
class FloatChoice:
    """Layers to keep in floating point.

    Attributes:
        layers: their node names, in topological order.
        score: with them kept; drop: the float network's score minus it; cost: predicted, with them kept.
        met: whether the drop is within the limit.
        trials: how many networks were scored.
    """

    layers: tuple[str, ...]
    score: float
    drop: float
    cost: float
    met: bool
    trials: int


def wire_score(quantized: Quantized) -> Score:
    """Signal to quantization noise of the decoded wire against the FP32 feature, in dB, on the probe pictures."""
    wire, settings = quantized.reference.wire, quantized.settings
    probe = quantized.observations.probe
    feature = activations_of(quantized.reference, [wire.feature], probe, settings.threads)[wire.feature]
    clipped = np.clip(feature, np.float32(wire.low * wire.step), np.float32(wire.high * wire.step))

    def score(model: onnx.ModelProto) -> float:
        codes = run_forms({"scored": model}, probe, settings.forward_pictures, settings.threads)["scored"]
        return sqnr(clipped, codes.astype(np.float64) * wire.step)

    return score


def sensitivity(
    quantized: Quantized, score: Score, form: Form = "a", layers: Iterable[str] | None = None
) -> Sensitivity:
    """Score the network with each layer alone quantized, and with each alone not.

    Args:
        quantized: a finished calibration; no picture is read again.
        score: larger is better.
        form: which form is scored.
        layers: a part of the INT8 layers; None takes all.

    Raises:
        SettingsError: no such form or layer.
    """
    names = _int8_names(quantized)
    wanted = names if layers is None else tuple(layers)
    for name in wanted:
        if name not in names:
            raise SettingsError(f"{name!r} is no INT8 layer; there are {', '.join(names)}")
    scorer = _Scorer(quantized, score, form)
    float_score, int8_score = scorer(names), scorer(())
    macs = {layer.node: layer.macs for layer in quantized.plan.layers}
    rows = []
    for name in wanted:
        only, without = scorer([other for other in names if other != name]), scorer([name])
        rows.append(LayerSensitivity(name, macs[name], only, without, float_score - only, without - int8_score))
        logger.debug("%s: alone %.5g, all others %.5g", name, only, without)
    return Sensitivity(float_score, int8_score, tuple(rows))


def choose_float_layers(
    quantized: Quantized, measured: Sensitivity, score: Score, cost: Cost, max_drop: float, form: Form = "a"
) -> FloatChoice:
    """Find layers to keep in floating point so that the score drops by at most ``max_drop``, at little cost.

    Layers are added in the order of score gained per cost added until the limit holds; then each is taken out
    again, the dearest first, if the limit holds without it.

    Raises:
        SettingsError: ``max_drop`` is negative.
    """
    if max_drop < 0:
        raise SettingsError(f"max_drop is {max_drop}; it is a loss of score, 0 or more")
    scorer = _Scorer(quantized, score, form)
    names = _int8_names(quantized)
    least = measured.float_score - max_drop
    base = cost(())
    extra = {row.layer: max(cost((row.layer,)) - base, 1e-12) for row in measured.layers}
    ranked = sorted(
        measured.layers, key=lambda row: (-max(row.gain_without, 0.0) / extra[row.layer], -row.loss_only)
    )
    kept: list[str] = []
    value = measured.int8_score
    for row in ranked:
        if value >= least:
            break
        kept.append(row.layer)
        value = scorer(_ordered(kept, names))
    if value >= least:
        for name in sorted(kept, key=lambda item: (-extra[item], item)):
            fewer = [other for other in kept if other != name]
            trial = measured.int8_score if not fewer else scorer(_ordered(fewer, names))
            if trial >= least:
                kept, value = fewer, trial
    final = _ordered(kept, names)
    return FloatChoice(final, value, measured.float_score - value, cost(final), value >= least, scorer.trials)


def _int8_names(quantized: Quantized) -> tuple[str, ...]:
    return tuple(layer.node for layer in quantized.plan.int8_layers)


def _ordered(kept: Sequence[str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in kept)


class _Scorer:
    """Scores the network with some layers kept in float, each set once."""

    def __init__(self, quantized: Quantized, score: Score, form: Form) -> None:
        if form not in quantized.forms:
            raise SettingsError(f"there is no form {form!r}; one of {', '.join(quantized.forms)}")
        self._quantized, self._score, self._form = quantized, score, form
        self._always = quantized.settings.keep_float
        self._known: dict[frozenset[str], float] = {}

    @property
    def trials(self) -> int:
        """How many networks were scored."""
        return len(self._known)

    def __call__(self, kept: Iterable[str]) -> float:
        key = frozenset(kept)
        if key not in self._known:
            model = self._quantized.with_float_layers((*self._always, *sorted(key)), self._form)
            self._known[key] = float(self._score(model))
        return self._known[key]
