"""One judged limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "holds",
    "exceeded",
    "absent",
    "not-converged",
    "no-baseline",
    "not-comparable",
    "other-machine",
    "too-noisy",
]


@dataclass(frozen=True)
class Verdict:
    """Whether one limit holds.

    Attributes:
        name: what was judged, for people.
        ok: the limit holds. Everything that could not be judged is not ok.
        value: the judged number (the value itself, or the ratio or difference); None when there is none.
        limit: the limit as text, e.g. ``<= 0.3``.
        why: one sentence with the numbers, or what was missing and what to do about it.
        reason: the kind of outcome, stable, for machines.
        metric, variant, protocol: what the number belongs to.
        unit: of ``value``.
    """

    name: str
    ok: bool
    value: float | None
    limit: str
    why: str
    reason: Reason = "holds"
    metric: str = ""
    variant: str = ""
    protocol: str = ""
    unit: str = "1"


def all_hold(verdicts: Iterable[Verdict]) -> bool:
    """Every limit holds, and there was at least one."""
    outcomes = [verdict.ok for verdict in verdicts]
    return bool(outcomes) and all(outcomes)
