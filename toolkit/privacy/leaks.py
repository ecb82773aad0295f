"""Leaks by name: what of a plate, an occupant, a background can be read, not how similar the pictures look.

A recogniser is trained on reconstructions, and another directly on codes; the worse one for privacy counts. A
result is reported only where the same recogniser reads the originals, because a recogniser that cannot read
proves nothing. Content that is the same in every picture of a vehicle is re-identification evidence, which the
task keeps; only content that changes from picture to picture counts as a leak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from toolkit.errors import AttackError
from toolkit.metrics import Metric
from toolkit.privacy.codes import Indices, Pictures
from toolkit.privacy.patches import Reader, Regions
from toolkit.privacy.recogniser import Recogniser, RecogniserSettings
from toolkit.privacy.similarity import CHUNK, Values, ssim_map, unit
from toolkit.privacy.statistics import Estimate, estimate, mean

ORIGINAL = "original"


class LeakSettings(BaseModel):
    """Options of :func:`measure_leak`.

    Attributes:
        recogniser: the classifier.
        required: accuracy that it must reach on originals for anything to be reported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recogniser: RecogniserSettings = RecogniserSettings()
    required: float = Field(default=0.9, gt=0, le=1)


@dataclass(frozen=True)
class LeakResult:
    """How well one content can be read.

    Attributes:
        name: of the content, e.g. ``plate``.
        accuracy: by source: ``original``, and each observed one; on test regions, interval over identities.
        chance: of always guessing the most frequent class of the training regions.
        regions: number of test regions.
        required: accuracy on originals that makes the others worth reporting.
        per_picture: the content changes from picture to picture, so it is a leak and no identity evidence.
    """

    name: str
    accuracy: dict[str, Estimate]
    chance: float
    regions: int
    required: float
    per_picture: bool

    @property
    def reportable(self) -> bool:
        """The recogniser reads originals."""
        return self.accuracy[ORIGINAL].value >= self.required

    @property
    def worst(self) -> tuple[str, Estimate]:
        """The source from which most can be read."""
        observed = {source: value for source, value in self.accuracy.items() if source != ORIGINAL}
        source = max(observed, key=lambda name: observed[name].value)
        return source, observed[source]

    @property
    def advantage(self) -> float:
        """``(accuracy - chance) / (1 - chance)`` of the worst source: 0 is guessing, 1 is reading all."""
        return (self.worst[1].value - self.chance) / (1 - self.chance)

    def metrics(self, variant: str, machine: str) -> list[Metric]:
        """Rows for ``metrics.json``; the accuracy is absent where the recogniser cannot read originals."""
        source, value = self.worst
        kind = "leak" if self.per_picture else "identity_evidence"
        base: dict[str, Any] = {"n": self.regions, "variant": variant, "machine": machine, "split": "test"}
        original = self.accuracy[ORIGINAL]
        rows = [
            Metric(name=f"{kind}.{self.name}.original", value=original.value, protocol="originals", **base),
            Metric(name=f"{kind}.{self.name}.chance", value=self.chance, protocol="most frequent class", **base),
        ]
        if self.reportable:
            interval = (value.low, value.high)
            name = f"{kind}.{self.name}.accuracy"
            rows.append(Metric(name=name, value=value.value, interval=interval, protocol=source, **base))
        return rows


def measure_leak(
    name: str,
    regions: Regions,
    identities: Sequence[str],
    train_rows: Indices,
    test_rows: Indices,
    originals: Reader,
    reconstructions: Mapping[str, Reader],
    codes: Reader | None,
    settings: LeakSettings,
    *,
    per_picture: bool,
) -> LeakResult:
    """Train and test recognisers of one content.

    Args:
        name: of the content.
        regions: where it is, with its class.
        identities: of the pictures, by row.
        train_rows, test_rows: pictures that the adversary owns, and the others.
        originals: the pictures as maps.
        reconstructions: by attacker, the reconstructed pictures as maps. A recogniser trained on them and the
            one trained on originals are both tried.
        codes: the codes as maps.
        settings: the recogniser.
        per_picture: whether the content changes from picture to picture.

    Raises:
        AttackError: an identity is on both sides, or a side has no region.
    """
    if {identities[i] for i in train_rows} & {identities[i] for i in test_rows}:
        raise AttackError(f"{name}: training and test pictures share an identity; split by identity")
    train = np.flatnonzero(np.isin(regions.rows, train_rows))
    test = np.flatnonzero(np.isin(regions.rows, test_rows))
    if not len(train) or not len(test):
        raise AttackError(f"{name}: {len(train)} training and {len(test)} test regions; both sides need some")
    owners = [identities[i] for i in regions.rows[test]]
    frequent = np.bincount(regions.labels[train], minlength=regions.classes).argmax()
    scores: dict[str, Values] = {}
    reader = Recogniser(regions, settings.recogniser)
    reader.fit(originals, train)
    scores[ORIGINAL] = reader.hits(originals, test)
    for attacker, read in reconstructions.items():
        scores[f"{attacker}, read by eye"] = reader.hits(read, test)
        scores[attacker] = _trained(regions, settings, read, train, test)
    if codes is not None:
        scores["codes"] = _trained(regions, settings, codes, train, test)
    return LeakResult(
        name=name,
        accuracy={source: estimate([hits], owners, mean) for source, hits in scores.items()},
        chance=float((regions.labels[test] == frequent).mean()),
        regions=len(test),
        required=settings.required,
        per_picture=per_picture,
    )


def region_ssim(reconstructed: Pictures, original: Pictures, masks: np.ndarray) -> Values:
    """SSIM of each picture inside its mask, NaN where the mask is empty.

    Args:
        reconstructed, original: ``(N, H, W, 3)`` uint8.
        masks: ``(N, H, W)`` bool; for the background, the complement of the vehicle's mask.

    Raises:
        AttackError: shapes do not match.
    """
    if reconstructed.shape != original.shape or masks.shape != original.shape[:3]:
        raise AttackError(f"pictures {original.shape}, {reconstructed.shape} and masks {masks.shape} do not match")
    out = np.empty(len(original))
    for start in range(0, len(original), CHUNK):
        part = slice(start, start + CHUNK)
        x, y = (torch.from_numpy(unit(p[part])).permute(0, 3, 1, 2) for p in (reconstructed, original))
        values = ssim_map(x, y, data_range=1.0).mean(1).numpy()
        weight = masks[part].sum((1, 2))
        with np.errstate(invalid="ignore"):
            out[part] = (values * masks[part]).sum((1, 2)) / weight
    return out


def _trained(regions: Regions, settings: LeakSettings, read: Reader, train: Indices, test: Indices) -> Values:
    recogniser = Recogniser(regions, settings.recogniser)
    recogniser.fit(read, train)
    return recogniser.hits(read, test)
