"""The table of leaks by name: what can be read from reconstructions and codes, beside originals and chance."""

from __future__ import annotations

from toolkit.metrics import Metric
from toolkit.reporting import numbers
from toolkit.reporting.blocks import Section
from toolkit.reporting.input import ReportInput
from toolkit.reporting.path import attacker_of

FAMILIES = {"leak": "leak", "identity_evidence": "identity evidence"}
COLUMNS = ("variant", "content", "#from originals", "#chance", "#from what is sent", "by", "counts as")
OUTSIDE = ".ssim"


def leaks(section: Section, data: ReportInput) -> None:
    """Add the table to a section; nothing where no leak was looked for."""
    rows = [row for variant in data.variants for row in _rows(data, variant.key)]
    if not rows:
        return
    section.head("Leaks by name")
    section.say(
        "A recogniser is trained on reconstructions and another on the codes, told where to look; the better one"
        " counts. Where it cannot read originals, its failure would prove nothing and no number is given. Only"
        " what changes from picture to picture is a leak: the rest helps to find the vehicle again, which is the"
        " task."
    )
    section.table("Share of the test regions that were read right.", COLUMNS, rows)


def _rows(data: ReportInput, variant: str) -> list[tuple[str, ...]]:
    rows = []
    for family, counts in FAMILIES.items():
        for metric in data.metrics:
            if metric.variant != variant or not metric.name.startswith(f"{family}."):
                continue
            base, _, last = metric.name.rpartition(".")
            if last == "original":
                rows.append(_read(data, base, variant, metric, counts))
            elif metric.name.endswith(OUTSIDE):
                rows.append(_outside(data, base, metric, counts))
    return rows


def _read(data: ReportInput, base: str, variant: str, original: Metric, counts: str) -> tuple[str, ...]:
    chance = next(iter(data.metrics.find(f"{base}.chance", variant)), None)
    found = next(iter(data.metrics.find(base, variant)), None)
    return (
        data.title_of(variant),
        base.partition(".")[2],
        numbers.text(original.value),
        numbers.text(chance.value) if chance else "\N{EN DASH}",
        _value(found) if found else "not reported: originals cannot be read",
        attacker_of(found) if found else "",
        counts,
    )


def _outside(data: ReportInput, base: str, metric: Metric, counts: str) -> tuple[str, ...]:
    floor = next(iter(data.metrics.find(f"{base}.ssim_floor", metric.variant)), None)
    return (
        data.title_of(metric.variant),
        f"{base.partition('.')[2]}, SSIM outside the vehicle",
        "1",
        f"{numbers.text(floor.value)} (mean picture)" if floor else "\N{EN DASH}",
        _value(metric),
        attacker_of(metric),
        counts,
    )


def _value(metric: Metric) -> str:
    spread = numbers.spread(metric)
    return numbers.text(metric.value, metric.unit) + (f" ({spread})" if spread else "")
