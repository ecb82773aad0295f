"""The table of certificates: attack <= truth <= certificate, by content, variant and frames of a scene."""

from __future__ import annotations

import re

from toolkit.metrics import Metric
from toolkit.reporting import numbers
from toolkit.reporting.blocks import Section
from toolkit.reporting.input import ReportInput

NAME = re.compile(
    r"privacy\.certificate\.(?P<row>with_noise\.)?(?P<content>[a-z_]+?)(\.frames(?P<frames>\d+))?"
    r"(?P<side>\.attack|\.truth)?"
)
COLUMNS = ("content", "variant", "#frames", "#attack", "#truth", "#certificate", "how")
ROW = " (row with private noise)"
CAPTION = "How often the variants of a scene are told apart, with 95 % intervals of what was sampled."


def certificates(section: Section, data: ReportInput) -> None:
    """Add the table to a section; nothing where no certificate was made."""
    found: dict[tuple[str, str, str, int], dict[str, Metric]] = {}
    for metric in data.metrics:
        parts = NAME.fullmatch(metric.name)
        if parts is not None:
            key = (parts["row"] or "", parts["content"], metric.variant, int(parts["frames"] or 1))
            found.setdefault(key, {})[(parts["side"] or "").removeprefix(".")] = metric
    rows = [
        (
            content,
            data.title_of(variant) + (ROW if row else ""),
            str(frames),
            *(_cell(metric) for metric in (sides.get("attack"), sides.get("truth", sides[""]), sides[""])),
            sides[""].protocol,
        )
        for (row, content, variant, frames), sides in sorted(found.items(), key=_order)
        if "" in sides
    ]
    if rows:
        section.head("What anyone could tell")
        section.say(
            "Scenes in which one content alone changes, seen by an adversary who knows everything else. The "
            "certificate bounds every adversary; the truth is the best guess on the codes themselves, on a wire "
            "without noise the certificate itself; the attack is this run's own."
        )
        section.table(CAPTION, COLUMNS, rows)


def _order(item: tuple[tuple[str, str, str, int], object]) -> tuple[str, str, int]:
    """By content and frames; variants keep the order of the run."""
    row, content, _, frames = item[0]
    return row, content, frames


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "\N{EN DASH}"
    spread = numbers.spread(metric)
    return numbers.text(metric.value, metric.unit) + (f"\n{spread}" if spread else "")
