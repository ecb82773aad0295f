"""Two runs side by side as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.reporting import numbers
from toolkit.reporting.catalogue import GROUPS, kind_of
from toolkit.reporting.compare import Difference
from toolkit.reporting.html import template_environment, write_page
from toolkit.variants import Variant

OTHERS = "Others"
SIGNS = {
    "better": "\N{CHECK MARK}",
    "worse": "\N{MULTIPLICATION X}",
    "changed": "\N{ALMOST EQUAL TO}",
    "not shown": "?",
    "not comparable": "?",
    "only in A": "\N{MINUS SIGN}",
    "only in B": "+",
}
MEANINGS = (
    ("better", "the 95 % interval of the difference excludes zero, or the number is an exact count"),
    ("worse", "likewise, in the other direction"),
    ("changed", "likewise, of a number that is neither good nor bad"),
    ("not shown", "chance cannot be excluded"),
    ("not comparable", "not the same test, or another unit"),
    ("only in A or B", "the other run has no such number"),
)


@dataclass(frozen=True)
class Line:
    """One difference as it is shown."""

    metric: str
    subject: str
    protocol: str
    a: str
    b: str
    difference: str
    interval: str
    outcome: str
    state: str
    why: str

    @property
    def sign(self) -> str:
        """The outcome as a sign, so that it is not told by colour alone."""
        return SIGNS.get(self.outcome, "=")


@dataclass(frozen=True)
class Group:
    """Differences of one kind, those that matter first."""

    title: str
    anchor: str
    lines: tuple[Line, ...]


def render_comparison(differences: Sequence[Difference], path: Path, name_a: str = "A", name_b: str = "B") -> Path:
    """Write the page.

    Args:
        differences: of :func:`toolkit.reporting.compare.compare_runs`.
        path: the HTML file; its folder is made.
        name_a, name_b: names of the runs, escaped here.

    Raises:
        ArtifactError: the file cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    write_page(path, comparison_html(differences, name_a, name_b))
    return path


def comparison_html(differences: Sequence[Difference], name_a: str = "A", name_b: str = "B") -> str:
    """The text of the page (see :func:`render_comparison`)."""
    shown = [entry for entry in differences if entry.outcome != "same"]
    text: str = (
        template_environment()
        .get_template("compare.html.j2")
        .render(
            name_a=name_a,
            name_b=name_b,
            headline=headline(differences),
            groups=_groups(shown),
            same=_groups([entry for entry in differences if entry.outcome == "same"]),
            equal=len(differences) - len(shown),
            total=len(differences),
            meanings=MEANINGS,
        )
    )
    return text


def headline(differences: Sequence[Difference]) -> tuple[str, str]:
    """State (``pass``, ``fail``, ``open``) and one sentence for the top of the page."""
    counts = {outcome: sum(entry.outcome == outcome for entry in differences) for outcome in ("better", "worse")}
    lost = sum(entry.outcome == "only in A" for entry in differences)
    missing = f"; missing, though A has them: {lost}" if lost else ""
    if counts["worse"]:
        return "fail", f"Worse in B: {counts['worse']}; better: {counts['better']}{missing}"
    if lost:
        return "open", f"Nothing is shown to be worse in B; better: {counts['better']}{missing}"
    if counts["better"]:
        return "pass", f"Nothing is shown to be worse in B; better: {counts['better']}"
    return "pass", "No difference is shown"


def _groups(differences: Sequence[Difference]) -> tuple[Group, ...]:
    order = ["worse", "better", "only in A", "only in B", "changed", "not shown", "not comparable", "same"]
    found = []
    for title in (*GROUPS, OTHERS):
        mine = [entry for entry in differences if (kind_of(entry.name).group or OTHERS) == title]
        mine.sort(key=lambda entry: order.index(entry.outcome))
        if mine:
            found.append(Group(title, title.lower().replace(" ", "-"), tuple(_line(entry) for entry in mine)))
    return tuple(found)


def _line(entry: Difference) -> Line:
    unit = next((metric.unit for metric in (entry.a, entry.b) if metric is not None), "1")
    states = {"better": "good", "worse": "bad", "only in A": "bad"}
    return Line(
        metric=kind_of(entry.name).label,
        subject=_title(entry.variant),
        protocol=entry.protocol,
        a=_shown(entry.a),
        b=_shown(entry.b),
        difference="" if entry.difference is None else numbers.signed(entry.difference, unit),
        interval="" if entry.interval is None else numbers.between(*entry.interval, unit),
        outcome=entry.outcome,
        state=states.get(entry.outcome, ""),
        why=entry.why,
    )


def _title(variant: str) -> str:
    if variant.count("-") != 4:
        return variant
    parts = Variant.from_key(variant)
    return f"{parts.network} {parts.precision.upper()} ({parts.engine})"


def _shown(metric: object) -> str:
    value, unit = getattr(metric, "value", None), getattr(metric, "unit", "1")
    return "not measured" if value is None else numbers.text(value, unit)
