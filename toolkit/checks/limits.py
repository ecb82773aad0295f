"""The schema of ``limits.yaml``.

One entry judges every metric that its selectors match (``variant``, ``protocol``, ``machine`` and ``split`` are
shell patterns); all of them must hold, so that a limit without a protocol judges the worst attacker::

    schema: 1
    limits:
      - {metric: reid.map, variant: slim-int8-*, min: 0.85}
      - {metric: latency.p50, variant: slim-int8-*, relative_to: slim-fp32-*, ratio_max: 1.0}
      - {metric: reid.map, variant: slim-int8-*, relative_to: baseline, drop_max: 0.005}
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from toolkit.errors import SettingsError
from toolkit.metrics import Provenance

BASELINE = "baseline"
ABSOLUTE = ("min", "max")
RELATIVE = ("ratio_min", "ratio_max", "drop_max", "rise_max")


class Limit(BaseModel):
    """One limit.

    Attributes:
        metric: name of the metric, e.g. ``privacy.ssim_normalized``.
        name: how the verdict is called; the metric and its selectors when empty.
        variant, protocol, machine, split: patterns that narrow the choice; ``*`` takes all.
        provenance: judge numbers of that origin; a prediction never stands in for a measurement.
        at_least: how many metrics must match (e.g. the number of attackers that must have been run).
        min, max: bounds of the value itself.
        relative_to: ``baseline``, or the pattern of another variant of the same run.
        ratio_min, ratio_max: bounds of value / reference.
        drop_max, rise_max: how much lower, or higher, than the reference the value may be, in its unit.
        noise_max: a ratio above its bound whose interval reaches back below it is noise only if the interval
            is not wider than this share of the ratio; a wider one decides nothing and fails.
        separate_sessions: judge times against a baseline that was not measured interleaved with this run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: str = Field(min_length=1)
    name: str = ""
    variant: str = "*"
    protocol: str = "*"
    machine: str = "*"
    split: str = "*"
    provenance: Provenance = "measured"
    at_least: int = Field(default=1, ge=1)
    min: float | None = None
    max: float | None = None
    relative_to: str = ""
    ratio_min: float | None = Field(default=None, gt=0)
    ratio_max: float | None = Field(default=None, gt=0)
    drop_max: float | None = Field(default=None, ge=0)
    rise_max: float | None = Field(default=None, ge=0)
    noise_max: float = Field(default=0.5, gt=0)
    separate_sessions: bool = False

    @field_validator("min", "max", *RELATIVE, mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a limit is a number, not yes or no")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Limit:
        relative = [key for key in RELATIVE if getattr(self, key) is not None]
        absolute = [key for key in ABSOLUTE if getattr(self, key) is not None]
        if not relative and not absolute:
            raise ValueError(
                f"the limit on {self.metric} bounds nothing; give one of {', '.join(ABSOLUTE + RELATIVE)}"
            )
        if relative and not self.relative_to:
            raise ValueError(f"{relative[0]} needs relative_to: a variant, or baseline")
        if self.relative_to and not relative:
            raise ValueError(f"relative_to needs one of {', '.join(RELATIVE)}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    @property
    def title(self) -> str:
        """The name of the verdict, without the metric that was found."""
        if self.name:
            return self.name
        against = f" against {self.relative_to}" if self.relative_to else ""
        return f"{self.metric}{against}"


class Limits(BaseModel):
    """All limits of a gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=1, alias="schema", ge=1, le=1)
    limits: tuple[Limit, ...] = Field(min_length=1)


def load_limits(path: Path) -> Limits:
    """Read a limits file.

    Raises:
        SettingsError: the file cannot be read, is not YAML, has an unknown key (named, with the nearest known
            one), a value of the wrong kind, or no limit at all.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot read the limits {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    return parse_limits(text, str(path))


def parse_limits(text: str, source: str = "limits.yaml") -> Limits:
    """Limits from YAML text (see :func:`load_limits` for its errors)."""
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"{source}{place} is not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(body, dict):
        raise SettingsError(f"{source}: expected a mapping with the key 'limits'")
    try:
        return Limits.model_validate(body)
    except ValidationError as error:
        raise SettingsError(f"{source}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem: dict[str, Any] = dict(error.errors()[0])
    location = problem["loc"]
    place = _place(location)
    if problem["type"] == "extra_forbidden":
        key = str(location[-1])
        known = list(Limit.model_fields) if len(location) > 1 else ["schema", "limits"]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
        return f"unknown key {key!r}{place}{hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    field = f"{location[-1]}: " if location and isinstance(location[-1], str) else ""
    return f"{field}{message}{place}"


def _place(location: tuple[int | str, ...]) -> str:
    numbers = [part for part in location if isinstance(part, int)]
    return f" (limit {numbers[0] + 1})" if numbers else ""
