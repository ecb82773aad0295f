"""The path table: one row per metric, one column per variant, with origin, spread and change."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.metrics import Metric
from toolkit.reporting import numbers
from toolkit.reporting.catalogue import GROUPS, PATH, Kind, kind_of
from toolkit.reporting.input import ReportInput


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        text: the number with its unit.
        spread: its interval, or empty.
        change: against the first variant, e.g. ``×0.44``; empty for the first.
        good: the change is an improvement (None: no change, intervals that meet, or no better direction).
        origin: provenance, machine, samples and protocol, where the row does not say it for all.
        share: of the row's largest value, 0 to 1, for a bar.
        note: e.g. an attacker that did not converge.
    """

    text: str
    spread: str = ""
    change: str = ""
    good: bool | None = None
    origin: str = ""
    share: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One metric across the variants; a cell is None where it was not measured.

    Attributes:
        label: for people.
        name: of the metric.
        provenance: of all its numbers.
        origin: machine, samples, protocol, as far as they are the same for all.
        cells: one per variant.
    """

    label: str
    name: str
    provenance: str
    origin: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Group:
    """Rows under one heading."""

    title: str
    rows: tuple[Row, ...]


def worst(metrics: list[Metric], kind: Kind) -> Metric | None:
    """The one metric that stands for a variant: the largest of several attackers, else the first."""
    if not metrics:
        return None
    return max(metrics, key=lambda metric: metric.value) if kind.worst else metrics[0]


BESIDE_A_LEAK = (".original", ".chance", ".ssim_floor")  # in the table of leaks
IN_SANDWICHES = ("certificate.with_noise.", ".frames")  # in the table of certificates


def path_table(data: ReportInput) -> tuple[Group, ...]:
    """The groups that have at least one number."""
    names = [*PATH, *_more_names(data)]
    groups = []
    for title in GROUPS:
        rows = [row for name in names if kind_of(name).group == title for row in _rows(data, name)]
        if rows:
            groups.append(Group(title, tuple(rows)))
    return tuple(groups)


def _more_names(data: ReportInput) -> list[str]:
    """Leaks by name, certificates and energy, which a run may or may not have."""
    wanted = (
        "leak.",
        "energy.",
        "power.",
        "privacy.certificate",
        "privacy.bound",
        "privacy.excess",
        "quantization.",
    )
    found = {metric.name for metric in data.metrics if metric.name.startswith(wanted)}
    elsewhere = {name for name in found if name.endswith(BESIDE_A_LEAK) or any(p in name for p in IN_SANDWICHES)}
    return sorted(found - set(PATH) - elsewhere)


def _rows(data: ReportInput, name: str) -> list[Row]:
    """One row per origin (measured here, predicted for a device ...), so that they are never mixed."""
    kind = kind_of(name)
    places: dict[tuple[str, str], None] = {}
    for metric in data.metrics.find(name):
        if any(metric.variant == variant.key for variant in data.variants):
            bound = metric.provenance != "measured" or kind.group == "Speed and memory"
            places[metric.provenance, metric.machine if bound else ""] = None
    return [_row(data, name, provenance, machine) for provenance, machine in places]


def _row(data: ReportInput, name: str, provenance: str, machine: str) -> Row:
    kind = kind_of(name)
    chosen: list[Metric | None] = []
    for variant in data.variants:
        found = [
            metric
            for metric in data.metrics.find(name, variant.key)
            if metric.provenance == provenance and (not machine or metric.machine == machine)
        ]
        chosen.append(worst(found, kind))
    origins = {_origin(data, metric, kind) for metric in chosen if metric is not None}
    several = len(origins) > 1
    shared = "" if several else origins.pop()
    largest = max((abs(metric.value) for metric in chosen if metric is not None), default=0.0)
    cells = tuple(
        None if metric is None else _cell(data, metric, chosen[0], kind, several, largest) for metric in chosen
    )
    return Row(kind.label, name, provenance, shared, cells)


def _cell(
    data: ReportInput, metric: Metric, reference: Metric | None, kind: Kind, several: bool, largest: float
) -> Cell:
    change, good = "", None
    if reference is not None and reference is not metric:
        change, good = _change(metric, reference, kind)
    return Cell(
        text=numbers.text(metric.value, metric.unit),
        spread=numbers.spread(metric),
        change=change,
        good=good,
        origin=_origin(data, metric, kind) if several else "",
        share=max(0.0, metric.value / largest) if largest else 0.0,
        note=_note(data, metric, kind),
    )


def _change(metric: Metric, reference: Metric, kind: Kind) -> tuple[str, bool | None]:
    difference = metric.value - reference.value
    bounded = metric.unit == "1"
    if bounded or reference.value <= 0:
        change = numbers.signed(difference, metric.unit)
    else:
        change = numbers.times(metric.value / reference.value)
    if difference == 0:
        return "=", None
    if kind.better == "neither" or _overlap(metric, reference):
        return change, None
    return change, (difference > 0) == (kind.better == "higher")


def _overlap(one: Metric, other: Metric) -> bool:
    """Both have intervals and these meet: the difference is not shown to be one."""
    if one.interval is None or other.interval is None:
        return False
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def _note(data: ReportInput, metric: Metric, kind: Kind) -> str:
    if not kind.worst:
        return ""
    attacker = attacker_of(metric)
    if doubted(data, metric):
        return f"{attacker}, not trusted: at least this much"
    return attacker


def attacker_of(metric: Metric) -> str:
    """Who reached a privacy number: ``worst of 3 attackers: ridge`` was ridge."""
    return metric.protocol.rpartition(": ")[2]


def doubted(data: ReportInput, metric: Metric) -> bool:
    """An attacker on this variant did not converge or is not trusted, so that the true number may be higher."""
    wide = None if metric.name.startswith("privacy.") else metric.protocol
    names = ("privacy.converged", "privacy.trusted")
    return any(state.value < 1 for name in names for state in data.metrics.find(name, metric.variant, wide))


def _origin(data: ReportInput, metric: Metric, kind: Kind) -> str:
    parts = []
    if metric.machine and metric.machine != data.machine:
        parts.append(f"{'for' if metric.provenance == 'predicted' else 'on'} {metric.machine}")
    if not kind.exact:
        parts.append(f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{metric.n:,}")
    if metric.protocol and not kind.worst:
        parts.append(metric.protocol)
    return ", ".join(parts)
