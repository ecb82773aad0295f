"""Two runs side by side: differences, and whether they are more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.checks.formats import escape_markdown
from toolkit.checks.select import same_protocol
from toolkit.metrics import Metric, MetricSet
from toolkit.reporting import numbers
from toolkit.reporting.catalogue import SPEED, kind_of

Outcome = Literal["better", "worse", "changed", "same", "not shown", "only in A", "only in B", "not comparable"]
Key = tuple[str, str, str, str, str]
Interval = tuple[float, float]
COLUMNS = ("metric", "variant", "protocol", "A", "B", "difference", "outcome", "why")


@dataclass(frozen=True)
class Difference:
    """One metric in both runs.

    Attributes:
        name, variant, protocol, split: of the metric.
        a, b: the numbers; None where a run has none.
        difference: b - a, in the metric's unit.
        interval: of the difference (95 %), when it is known.
        outcome: what the difference comes to for the reader of run B.
        why: how that was judged.
    """

    name: str
    variant: str
    protocol: str
    split: str
    a: Metric | None
    b: Metric | None
    difference: float | None
    interval: Interval | None
    outcome: Outcome
    why: str


def compare_runs(
    a: MetricSet, b: MetricSet, paired: Mapping[tuple[str, str, str], Interval] | None = None
) -> list[Difference]:
    """Every metric of both runs.

    A difference of sampled numbers counts when its 95 % interval excludes zero. The interval is the paired one
    where the caller has it (paired bootstrap over identities); else the two intervals are taken as independent,
    which for the same test pictures is careful, since their errors go together. Counts and sizes have no
    sampling error. Without intervals nothing is claimed. Times of two sessions are compared only on one machine.

    Args:
        a: the run to start from.
        b: the run to be judged.
        paired: (name, variant, protocol) to the interval of b - a; for the worst of a suite the protocol ends
            before the attacker's name.
    """
    paired = paired or {}
    left, right = _by_key(a), _by_key(b)
    return [_difference(key, left.get(key), right.get(key), paired) for key in dict.fromkeys([*left, *right])]


def to_rows(differences: Sequence[Difference]) -> list[tuple[str, ...]]:
    """Rows of :data:`COLUMNS` for a table."""
    return [
        (
            kind_of(entry.name).label,
            entry.variant,
            entry.protocol,
            _shown(entry.a),
            _shown(entry.b),
            _signed(entry),
            entry.outcome,
            entry.why,
        )
        for entry in differences
    ]


def to_markdown(differences: Sequence[Difference], name_a: str = "A", name_b: str = "B") -> str:
    """A table for a pull request; what did not change is counted, not listed."""
    listed = [entry for entry in differences if entry.outcome != "same"]
    heads = (*COLUMNS[:3], name_a, name_b, *COLUMNS[5:])
    lines = [
        f"## {escape_markdown(name_b)} against {escape_markdown(name_a)}",
        "",
        "| " + " | ".join(escape_markdown(head) for head in heads) + " |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    lines += ["| " + " | ".join(escape_markdown(cell) for cell in row) + " |" for row in to_rows(listed)]
    lines += ["", f"{len(differences) - len(listed)} of {len(differences)} numbers are the same."]
    return "\n".join(lines) + "\n"


def _by_key(metrics: MetricSet) -> dict[Key, Metric]:
    """Times are kept apart by machine; of the other numbers the machine does not matter."""
    keyed: dict[Key, Metric] = {}
    for metric in metrics:
        bound = kind_of(metric.name).group == SPEED or metric.provenance != "measured"
        place = f"{metric.provenance} {metric.machine}" if bound else ""
        key = (metric.name, metric.variant, same_protocol(metric.protocol), metric.split, place)
        keyed.setdefault(key, metric)
    return keyed


def _difference(
    key: Key, a: Metric | None, b: Metric | None, paired: Mapping[tuple[str, str, str], Interval]
) -> Difference:
    name, variant, protocol, split, _ = key
    if a is None or b is None:
        outcome: Outcome = "only in B" if a is None else "only in A"
        return Difference(
            name, variant, protocol, split, a, b, None, None, outcome, "the other run has no such number"
        )
    if a.unit != b.unit:
        why = f"{a.unit} against {b.unit}"
        return Difference(name, variant, protocol, split, a, b, None, None, "not comparable", why)
    value = b.value - a.value
    interval = paired.get((name, variant, protocol)) or _independent(a, b)
    outcome, why = _judge(name, a, b, value, interval)
    if outcome in ("better", "worse", "changed", "not shown") and (name, variant, protocol) in paired:
        why = "paired over identities"
    return Difference(name, variant, protocol, split, a, b, value, interval, outcome, why)


def _judge(name: str, a: Metric, b: Metric, value: float, interval: Interval | None) -> tuple[Outcome, str]:
    kind = kind_of(name)
    if value == 0 and a.interval == b.interval:
        return "same", "equal"
    if not kind.exact and a.n != b.n and kind.group != SPEED:
        return "not comparable", f"not the same test: {a.n} samples against {b.n}"
    if not kind.exact:
        if interval is None:
            return "not shown", "no intervals, so that chance cannot be excluded"
        if interval[0] <= 0 <= interval[1]:
            return "not shown", "the interval of the difference includes zero"
    why = "exact" if kind.exact else "the interval of the difference excludes zero"
    if kind.group == SPEED and not kind.exact:
        why += "; measured in two sessions, not interleaved"
    if kind.better == "neither":
        return "changed", why
    return ("better" if (value > 0) == (kind.better == "higher") else "worse"), why


def _independent(a: Metric, b: Metric) -> Interval | None:
    """Interval of b - a from two independent ones (MOVER: Zou and Donner, Statistics in Medicine 2008)."""
    if a.interval is None or b.interval is None:
        return None
    value = b.value - a.value
    low = value - math.hypot(b.value - b.interval[0], a.interval[1] - a.value)
    high = value + math.hypot(b.interval[1] - b.value, a.value - a.interval[0])
    return low, high


def _shown(metric: Metric | None) -> str:
    return "not measured" if metric is None else numbers.text(metric.value, metric.unit)


def _signed(entry: Difference) -> str:
    if entry.difference is None or entry.a is None:
        return "\N{EN DASH}"
    text = numbers.signed(entry.difference, entry.a.unit)
    return text if entry.interval is None else f"{text} ({numbers.between(*entry.interval, entry.a.unit)})"
