"""Everything that a report shows. What was not measured is absent: None, or an empty collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.checks.verdict import Verdict
from toolkit.errors import DataError
from toolkit.metrics import MetricSet, Provenance

Pictures = NDArray[np.uint8]
Curve = Sequence[tuple[float, float]]
Stage = Literal["dense", "PATROL", "slim", "INT8", "engine"]


@dataclass(frozen=True)
class ReportVariant:
    """One column of the path.

    Attributes:
        key: ``toolkit.variants.Variant.key``; the metrics are found by it.
        title: for people, e.g. ``slim INT8``.
        stage: the step of the path that it stands for; empty beside the path.
        deployed: the variant that goes to the device.
    """

    key: str
    title: str
    stage: Stage | Literal[""] = ""
    deployed: bool = False


@dataclass(frozen=True)
class LayerChannels:
    """Channels of one layer before and after slimming, and why (mask, alignment, frozen, removed block)."""

    layer: str
    before: int
    after: int
    why: str = ""


@dataclass(frozen=True)
class QuantizationDecision:
    """How one tensor was quantized.

    Attributes:
        tensor: its name in the graph.
        method: of the threshold, e.g. ``entropy``; ``float`` when the tensor was left alone.
        threshold: largest magnitude that is kept, in the tensor's unit; None for a tensor left alone.
        error: that quantizing this tensor alone leaves on calibration pictures; None if not measured.
        error_unit: ``relative`` (root mean square error over root mean square, of the tensor), ``wire`` (the same
            at the wire's feature) or ``dB`` (signal over noise, of the tensor).
        note: e.g. why it was left in floating point.
    """

    tensor: str
    method: str
    threshold: float | None = None
    error: float | None = None
    error_unit: Literal["relative", "wire", "dB"] = "relative"
    note: str = ""


@dataclass(frozen=True)
class LatencyRatio:
    """Interleaved ratio of two variants' medians with its 95 % interval; below 1 ``variant`` is faster.

    ``words`` says what it comes to (e.g. by a margin); empty: judged by whether the interval excludes 1.
    """

    variant: str
    reference: str
    ratio: float
    interval: tuple[float, float]
    rounds: int
    words: str = ""


@dataclass(frozen=True)
class LayerTime:
    """Mean time of one layer, in ms."""

    layer: str
    ms: float
    precision: str = ""


@dataclass(frozen=True)
class Attacker:
    """One attack on one variant.

    Attributes:
        name: of the attacker.
        variant: key of the attacked variant.
        converged: whether its validation curve had flattened; None when unknown.
        curves: loss by step, e.g. ``{"training": ..., "validation": ...}``.
        scores: name to mean over the test pictures, e.g. ``{"SSIM": 0.61, "MSE": 0.012}``.
        problems: why its failure would prove nothing.
        note: knowledge, size, pictures.
    """

    name: str
    variant: str
    converged: bool | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PictureRow:
    """Reconstructions in the order of the originals.

    Attributes:
        title: variant and attacker.
        pictures: uint8 (N, H, W, 3), RGB.
        scores: name to one number per picture, shown under it.
    """

    title: str
    pictures: Pictures
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureGrid:
    """Originals and what attackers made of them.

    Attributes:
        originals: uint8 (N, H, W, 3), RGB.
        rows: one per variant and attacker.
        captions: one per picture (identity, plate text), or empty.
        note: which pictures, how they were chosen.
    """

    originals: Pictures
    rows: tuple[PictureRow, ...] = ()
    captions: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        count = _checked(self.originals, "the originals")
        for row in self.rows:
            if _checked(row.pictures, f"the row {row.title!r}") != count:
                raise DataError(f"the row {row.title!r} has {len(row.pictures)} pictures for {count} originals")
            for name, scores in row.scores.items():
                if len(scores) != count:
                    raise DataError(f"the row {row.title!r} has {len(scores)} {name} for {count} originals")
        if self.captions and len(self.captions) != count:
            raise DataError(f"{len(self.captions)} captions for {count} originals")


@dataclass(frozen=True)
class Anchors:
    """What the privacy numbers are measured against.

    Attributes:
        floor: SSIM that an attacker without the codes reaches, per variant key (empty key: for all).
        kind: which of the two floors was the better (mean picture, shuffled pairs), with words.
        mean_picture: uint8 (H, W, 3), or None.
    """

    floor: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""
    mean_picture: Pictures | None = None


@dataclass(frozen=True)
class Fact:
    """One line of a list of facts, e.g. of the wire format."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of texts, e.g. the devices; every row is as long as ``columns``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    provenance: Provenance | Literal[""] = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise DataError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns: {row!r}")


@dataclass(frozen=True)
class ReportInput:
    """Everything that a report shows; only ``name`` and ``metrics`` are always there.

    Attributes:
        name: of the run.
        metrics: every number; the tables of the report are made from it.
        title: heading; the run's name when empty.
        created: date and time as text.
        machine: what the run was made on.
        variants: in the order of the path; the first is the reference of all comparisons.
        verdicts: of the gate, or empty when it was not asked.
        curves: phase to loss term to points (step, value).
        channels: per layer.
        quantization: per tensor.
        sensitivity: dB of signal to noise that the wire loses when only this layer is quantized, per layer.
        latency_samples: variant key to single times in ms, float (N,).
        ratios: interleaved comparisons.
        layer_times: variant key to layers in order of execution.
        power: device to points (seconds, watts).
        attackers: every attack that was run.
        anchors: floor and mean picture.
        pictures: the picture grid.
        plates: crops of plates, large enough to judge.
        contains_real_pictures: pictures show real roads: ``publish`` leaves them out.
        wire: facts on what is sent.
        devices: what is predicted for devices.
        measured: what was measured on devices.
        manifest: of the run, JSON-like.
        settings: the run's YAML.
        notes: what a reader should know.
        warnings: what a reader must know.
    """

    name: str
    metrics: MetricSet
    title: str = ""
    created: str = ""
    machine: str = ""
    variants: tuple[ReportVariant, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    channels: tuple[LayerChannels, ...] = ()
    quantization: tuple[QuantizationDecision, ...] = ()
    sensitivity: tuple[tuple[str, float], ...] = ()
    latency_samples: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    ratios: tuple[LatencyRatio, ...] = ()
    layer_times: Mapping[str, Sequence[LayerTime]] = field(default_factory=dict)
    power: Mapping[str, Curve] = field(default_factory=dict)
    attackers: tuple[Attacker, ...] = ()
    anchors: Anchors | None = None
    pictures: PictureGrid | None = None
    plates: PictureGrid | None = None
    contains_real_pictures: bool = True
    wire: tuple[Fact, ...] = ()
    devices: Table | None = None
    measured: Table | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    settings: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def title_of(self, key: str) -> str:
        """A variant's title; its key when the report does not list it."""
        return next((variant.title for variant in self.variants if variant.key == key), key)

    @property
    def deployed(self) -> ReportVariant | None:
        """The variant that goes to the device."""
        return next((variant for variant in self.variants if variant.deployed), None)


def _checked(pictures: Pictures, what: str) -> int:
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3 or 0 in pictures.shape:
        raise DataError(f"{what} of a picture grid are {pictures.dtype} {pictures.shape}, not uint8 (N, H, W, 3)")
    return len(pictures)
