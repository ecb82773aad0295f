"""What a run came to, in sentences: the verdict and what the deployed variant is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolkit.checks.formats import summary
from toolkit.checks.verdict import Verdict
from toolkit.metrics import Metric
from toolkit.reporting import numbers
from toolkit.reporting.catalogue import SPEED, kind_of
from toolkit.reporting.input import ReportInput, ReportVariant
from toolkit.reporting.path import attacker_of, doubted, worst


@dataclass(frozen=True)
class Headline:
    """The verdict on top of a report."""

    state: Literal["pass", "fail", "open"]
    text: str
    failures: tuple[str, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Tile:
    """One of the few numbers that a reader wants first."""

    label: str
    value: str
    beside: str
    origin: str


def headline(data: ReportInput) -> Headline:
    """The verdict: what fails and why; what passes; or that nothing was judged."""
    failures = tuple(_failure(data, verdict) for verdict in data.verdicts if not verdict.ok)
    if not data.verdicts:
        text = "NOT JUDGED: no limits were given for this run"
        return Headline("open", text, (), _sentences(data))
    return Headline("fail" if failures else "pass", summary(data.verdicts), failures, _sentences(data))


def tiles(data: ReportInput) -> tuple[Tile, ...]:
    """The deployed variant (else the last one) beside the first one."""
    chosen, first = _ends(data)
    if chosen is None or first is None:
        return ()
    names = ("reid.map", "latency.p50", "wire.bytes_raw", "edge.parameters", "privacy.ssim_normalized")
    return tuple(tile for name in names if (tile := _tile(data, name, chosen, first)) is not None)


def best_metric(data: ReportInput, name: str, variant: str) -> Metric | None:
    """The measured number that stands for a variant (the worst attacker's), else any other."""
    found = data.metrics.find(name, variant)
    measured = [metric for metric in found if metric.provenance == "measured"]
    return worst(measured or found, kind_of(name))


def _ends(data: ReportInput) -> tuple[ReportVariant | None, ReportVariant | None]:
    if not data.variants:
        return None, None
    return data.deployed or data.variants[-1], data.variants[0]


def _tile(data: ReportInput, name: str, chosen: ReportVariant, first: ReportVariant) -> Tile | None:
    metric = best_metric(data, name, chosen.key)
    if metric is None:
        return None
    reference = best_metric(data, name, first.key) if first is not chosen else None
    beside = ""
    if reference is not None and _alike(reference, metric):
        beside = f"{first.title}: {numbers.text(reference.value, reference.unit)}"
    interval = f"{numbers.spread(metric)}, " if metric.interval else ""
    where = f" on {metric.machine}" if metric.machine else ""
    return Tile(
        kind_of(name).label,
        numbers.text(metric.value, metric.unit),
        beside,
        f"{interval}{metric.provenance}{where}",
    )


def _failure(data: ReportInput, verdict: Verdict) -> str:
    subject = " by ".join(part for part in (data.title_of(verdict.variant), verdict.protocol) if part)
    return f"{verdict.name}{f' ({subject})' if subject else ''}: {verdict.why}"


def _sentences(data: ReportInput) -> tuple[str, ...]:
    chosen, first = _ends(data)
    if chosen is None or first is None:
        return ()
    lines = [f"The {'deployed' if chosen.deployed else 'last'} variant is {chosen.title}."]
    for name, words in (
        ("reid.map", "It finds vehicles with an mAP of {value}."),
        ("latency.p50", "Its edge half takes {value} per picture in the median, {origin}."),
        ("wire.bytes_raw", "It sends {value} per picture."),
    ):
        metric = best_metric(data, name, chosen.key)
        if metric is not None:
            lines.append(words.format(value=_value(data, metric, first, chosen), origin=_on(metric)))
    return (*lines, *_privacy(data, chosen, first))


def _privacy(data: ReportInput, chosen: ReportVariant, first: ReportVariant) -> list[str]:
    metric = best_metric(data, "privacy.ssim_normalized", chosen.key)
    if metric is None:
        if data.metrics.find("privacy.ssim", chosen.key):
            return ["It was attacked, but the floor is so near to what attackers reach that nothing can be told."]
        return ["No attack was run on it, so nothing is known about its privacy."]
    lines = [
        f"The strongest attacker ({attacker_of(metric) or 'unnamed'}) rebuilds pictures with a normalized SSIM of"
        f" {_value(data, metric, first, chosen)}; 0 is what can be had without the codes, 1 the picture itself."
    ]
    if doubted(data, metric):
        lines.append("Not every attacker converged or is trusted, so this may be too low.")
    return lines


def _value(data: ReportInput, metric: Metric, first: ReportVariant, chosen: ReportVariant) -> str:
    """``0.912 (0.878 to 0.941; dense FP32: 0.931)``."""
    parts = [numbers.spread(metric)] if metric.interval else []
    reference = best_metric(data, metric.name, first.key) if first is not chosen else None
    if reference is not None and _alike(reference, metric):
        parts.append(f"{first.title}: {numbers.text(reference.value, reference.unit)}")
    return numbers.text(metric.value, metric.unit) + (f" ({'; '.join(parts)})" if parts else "")


def _alike(one: Metric, other: Metric) -> bool:
    """Of one origin, and times of one machine, so that they may stand beside each other."""
    same_machine = one.machine == other.machine or kind_of(one.name).group != SPEED
    return one.provenance == other.provenance and same_machine


def _on(metric: Metric) -> str:
    where = f" {'for' if metric.provenance == 'predicted' else 'on'} {metric.machine}" if metric.machine else ""
    return metric.provenance + where
