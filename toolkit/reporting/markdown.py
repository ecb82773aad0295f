"""The report's summary as Markdown, for a pull request."""

from __future__ import annotations

from pathlib import Path

from toolkit.checks.formats import escape_markdown, to_markdown
from toolkit.reporting.input import ReportInput
from toolkit.reporting.path import Cell, path_table
from toolkit.reporting.words import headline


def to_summary(data: ReportInput) -> str:
    """Verdict in words, the failures, the path table, the limits."""
    top = headline(data)
    lines = [f"## {escape_markdown(data.title or data.name)}", "", f"**{escape_markdown(top.text)}**", ""]
    lines += [f"- {escape_markdown(failure)}" for failure in top.failures]
    lines += [""] * bool(top.failures)
    lines += [f"{escape_markdown(' '.join(top.sentences))}", ""] if top.sentences else []
    lines += [f"> **Warning:** {escape_markdown(warning)}\n" for warning in data.warnings]
    groups = path_table(data)
    if groups:
        lines += _table(data)
    if data.verdicts:
        lines += ["<details><summary>All limits</summary>", "", to_markdown(data.verdicts), "</details>", ""]
    return "\n".join(lines)


def write_markdown(data: ReportInput, path: Path) -> Path:
    """Write :func:`to_summary` to a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_summary(data), encoding="utf-8")
    return path


def _table(data: ReportInput) -> list[str]:
    titles = [
        escape_markdown(variant.title) + (" (deployed)" if variant.deployed else "") for variant in data.variants
    ]
    where = [f"On {escape_markdown(data.machine)}, where no machine is named.", ""] if data.machine else []
    lines = [*where, "| | " + " | ".join([*titles, "origin"]) + " |", "|---|" + "---:|" * len(titles) + "---|"]
    for group in path_table(data):
        for row in group.rows:
            origin = ", ".join(part for part in (row.provenance, row.origin) if part)
            cells = [_cell(cell) for cell in row.cells]
            lines.append("| " + " | ".join([escape_markdown(row.label), *cells, escape_markdown(origin)]) + " |")
    return [*lines, ""]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    extra = [part for part in (cell.spread, cell.origin) if part]
    return escape_markdown(cell.text + (f" ({'; '.join(extra)})" if extra else ""))
