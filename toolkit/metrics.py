"""The metrics of a run: every number with its unit, spread, origin and what it was measured on.

A metric that was not measured is absent, never zero (docs/architecture.md, contracts).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from toolkit.errors import ArtifactError

SCHEMA_VERSION = 1
Provenance = Literal["measured", "predicted", "emulated"]


class Metric(BaseModel):
    """One number.

    Attributes:
        name: dotted name, e.g. ``reid.map``, ``privacy.ssim_normalized``, ``latency.p50``.
        value: the number, in ``unit``.
        unit: ``1`` for a ratio, ``ms``, ``bytes``, ``dB``, ``count`` ...
        n: number of samples (queries, pictures, runs) behind the value.
        interval: 95 % interval (low, high), when there is one.
        provenance: measured here, predicted for a device, or emulated on another one.
        variant: key of the variant it belongs to (``toolkit.variants``), empty for the whole run.
        machine: what it was measured on, in a few words.
        protocol: how (re-ID protocol, attacker name, timing protocol).
        split: the split whose pictures were used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    value: float
    unit: str = "1"
    n: int = Field(ge=1)
    interval: tuple[float, float] | None = None
    provenance: Provenance = "measured"
    variant: str = ""
    machine: str = ""
    protocol: str = ""
    split: str = ""

    @field_validator("name")
    @classmethod
    def _dotted(cls, name: str) -> str:
        if not name or name != name.strip().lower() or " " in name:
            raise ValueError(f"a metric's name is lower case and dotted, without spaces: {name!r}")
        return name


class MetricSet:
    """Metrics in the order they were added, found by name, variant and protocol."""

    def __init__(self, metrics: Iterable[Metric] = ()) -> None:
        self._metrics: list[Metric] = []
        for metric in metrics:
            self.add(metric)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def add(self, metric: Metric) -> None:
        """Add one metric.

        Raises:
            ValueError: the same name, variant, protocol, split and machine is there already.
        """
        key = _key(metric)
        if any(_key(other) == key for other in self._metrics):
            raise ValueError(f"metric added twice: {key}")
        self._metrics.append(metric)

    def find(self, name: str, variant: str | None = None, protocol: str | None = None) -> list[Metric]:
        """All metrics of that name, narrowed by variant and protocol when given."""
        return [
            metric
            for metric in self._metrics
            if metric.name == name
            and (variant is None or metric.variant == variant)
            and (protocol is None or metric.protocol == protocol)
        ]

    def to_json(self) -> str:
        """The set as the text of ``metrics.json``."""
        body = {
            "schema": SCHEMA_VERSION,
            "metrics": [metric.model_dump(mode="json", exclude_none=True) for metric in self._metrics],
        }
        return json.dumps(body, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "metrics.json") -> MetricSet:
        """Read the text of ``metrics.json``.

        Raises:
            ArtifactError: not JSON, another schema version, or a metric that breaks the schema.
        """
        try:
            body = json.loads(text)
            if body.get("schema") != SCHEMA_VERSION:
                raise ArtifactError(f"{source}: schema {body.get('schema')!r}, expected {SCHEMA_VERSION}")
            return cls(Metric.model_validate(item) for item in body["metrics"])
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise ArtifactError(f"{source} is not a metrics file: {error}") from error

    @classmethod
    def load(cls, path: Path) -> MetricSet:
        """Read a file (see :meth:`from_json` for its errors)."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def _key(metric: Metric) -> tuple[str, ...]:
    return (metric.name, metric.variant, metric.protocol, metric.split, metric.machine)
