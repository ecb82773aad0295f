"""Leaks by name: what of a plate, an occupant, a background can be read, not how similar the pictures look.

A recogniser is trained on reconstructions, and another directly on codes; the worse one for privacy counts. A
result is reported only where the same recogniser reads the originals, because a recogniser that cannot read
proves nothing. Content that is the same in every picture of a vehicle is re-identification evidence, which the
task keeps; only content that changes from picture to picture counts as a leak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from toolkit.errors import AttackError
from toolkit.metrics import Metric
from toolkit.privacy.codes import Indices, Pictures
from toolkit.privacy.contents import ContentName, NamedContent
from toolkit.privacy.patches import Reader
from toolkit.privacy.recogniser import Recogniser, RecogniserSettings
from toolkit.privacy.similarity import CHUNK, Values, ssim_map, unit
from toolkit.privacy.statistics import Estimate, estimate, mean

ORIGINAL = "original"


class LeakSettings(BaseModel):
    """Options of :class:`LeakProbe` and of the leaks in a run.

    Attributes:
        contents: what is looked for; what the data does not know or show is left out.
        variants: ``ends``: the first variant (the dense reference) and the deployed one; or ``all``.
        recogniser: the classifier.
        required: accuracy that it must reach on originals for anything to be reported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contents: tuple[ContentName, ...] = Field(default=("plate", "occupants", "background", "camera"), min_length=1)
    variants: Literal["ends", "all"] = "ends"
    recogniser: RecogniserSettings = RecogniserSettings()
    required: float = Field(default=0.9, gt=0, le=1)


@dataclass(frozen=True)
class LeakResult:
    """How well one content can be read.

    Attributes:
        name: of the content, e.g. ``plate``.
        accuracy: by source: ``original``, and each observed one; on test regions, interval over identities. The
            observed ones are absent where the recogniser cannot read originals.
        chance: of always guessing the most frequent class of the training regions.
        regions: number of test regions.
        required: accuracy on originals that makes the others worth reporting.
        per_picture: the content changes from picture to picture, so it is a leak and no identity evidence.
        hits: by source, whether each test region was read right, for paired comparisons of variants.
        owners: identity of each test region.
    """

    name: str
    accuracy: dict[str, Estimate]
    chance: float
    regions: int
    required: float
    per_picture: bool
    hits: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    owners: tuple[str, ...] = ()

    @property
    def reportable(self) -> bool:
        """The recogniser reads originals, and something was observed."""
        return self.accuracy[ORIGINAL].value >= self.required and len(self.accuracy) > 1

    @property
    def worst(self) -> tuple[str, Estimate]:
        """The source from which most can be read.

        Raises:
            AttackError: nothing was read but originals.
        """
        observed = {source: value for source, value in self.accuracy.items() if source != ORIGINAL}
        if not observed:
            raise AttackError(f"{self.name}: the recogniser cannot read originals, so nothing else was read")
        source = max(observed, key=lambda name: observed[name].value)
        return source, observed[source]

    @property
    def advantage(self) -> float:
        """``(accuracy - chance) / (1 - chance)`` of the worst source: 0 is guessing, 1 is reading all."""
        return (self.worst[1].value - self.chance) / (1 - self.chance)

    @property
    def metric(self) -> str:
        """Name of its metric: ``leak.NAME``, or ``identity_evidence.NAME``."""
        return f"{'leak' if self.per_picture else 'identity_evidence'}.{self.name}"

    def metrics(self, variant: str, machine: str, suite: str = "worst") -> list[Metric]:
        """Rows for ``metrics.json``: ``leak.NAME``, its ``.chance`` and what is read from originals.

        The accuracy is absent where the recogniser cannot read originals.

        Args:
            variant: key of the variant.
            machine: in words.
            suite: start of the protocol of the suite whose reconstructions were read (``worst of 3 attackers``),
                so that a check asks whether these attackers are to be trusted.
        """
        base: dict[str, Any] = {"n": self.regions, "variant": variant, "machine": machine, "split": "test"}
        original = self.accuracy[ORIGINAL]
        rows = [
            Metric(name=f"{self.metric}.original", value=original.value, protocol="originals", **base),
            Metric(name=f"{self.metric}.chance", value=self.chance, protocol="most frequent class", **base),
        ]
        if self.reportable:
            source, value = self.worst
            interval = (value.low, value.high)
            protocol = f"{suite}: {source}"
            rows.append(Metric(name=self.metric, value=value.value, interval=interval, protocol=protocol, **base))
        return rows


class LeakProbe:
    """One content of one data set: the recogniser of originals is trained once and serves every variant."""

    def __init__(
        self,
        content: NamedContent,
        identities: Sequence[str],
        train_rows: Indices,
        test_rows: Indices,
        originals: Reader,
        settings: LeakSettings,
    ) -> None:
        """Train the recogniser of originals.

        Args:
            content: where it is, with its class.
            identities: of the pictures, by row.
            train_rows, test_rows: pictures that the adversary owns, and the others.
            originals: the pictures as maps.
            settings: the recogniser.

        Raises:
            AttackError: an identity is on both sides, or a side has no region.
        """
        name, regions = content.name, content.regions
        if {identities[i] for i in train_rows} & {identities[i] for i in test_rows}:
            raise AttackError(f"{name}: training and test pictures share an identity; split by identity")
        self.content, self.settings, self._originals = content, settings, originals
        self._train = np.flatnonzero(np.isin(regions.rows, train_rows))
        self._test = np.flatnonzero(np.isin(regions.rows, test_rows))
        if not len(self._train) or not len(self._test):
            raise AttackError(
                f"{name}: {len(self._train)} training and {len(self._test)} test regions; both sides need some"
            )
        self._owners = [identities[i] for i in regions.rows[self._test]]
        self._reader = Recogniser(regions, settings.recogniser)
        self._reader.fit(originals, self._train)
        self._original = self._reader.hits(originals, self._test)

    @property
    def readable(self) -> bool:
        """The recogniser reads enough of the originals for other readings to mean something."""
        return bool(self._original.mean() >= self.settings.required)

    def measure(self, reconstructions: Mapping[str, Reader], codes: Reader | None) -> LeakResult:
        """Train and test recognisers on what one variant gives away; none where originals cannot be read.

        Args:
            reconstructions: by attacker, the reconstructed pictures as maps. A recogniser trained on them and the
                one trained on originals are both tried.
            codes: the codes as maps.
        """
        regions, test = self.content.regions, self._test
        scores: dict[str, Values] = {ORIGINAL: self._original}
        if self.readable:
            for attacker, read in reconstructions.items():
                scores[f"{attacker}, read by eye"] = self._reader.hits(read, test)
                scores[attacker] = self._trained(read)
            if codes is not None:
                scores["codes"] = self._trained(codes)
        frequent = np.bincount(regions.labels[self._train], minlength=regions.classes).argmax()
        return LeakResult(
            name=self.content.name,
            accuracy={source: estimate([hits], self._owners, mean) for source, hits in scores.items()},
            chance=float((regions.labels[test] == frequent).mean()),
            regions=len(test),
            required=self.settings.required,
            per_picture=self.content.per_picture,
            hits={source: tuple(bool(hit) for hit in hits) for source, hits in scores.items()},
            owners=tuple(self._owners),
        )

    def _trained(self, read: Reader) -> Values:
        recogniser = Recogniser(self.content.regions, self.settings.recogniser)
        recogniser.fit(read, self._train)
        return recogniser.hits(read, self._test)


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
