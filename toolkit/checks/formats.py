"""Verdicts for other readers: a terminal's table, Markdown, GitHub annotations, SARIF."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from toolkit.checks.verdict import Verdict

COLUMNS = ("verdict", "limit", "subject", "value", "bound", "why")
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """One row of :data:`COLUMNS` per verdict, failures first."""
    return [
        (
            "pass" if verdict.ok else "FAIL",
            verdict.name,
            _subject(verdict),
            _value(verdict),
            verdict.limit,
            verdict.why,
        )
        for verdict in sorted(verdicts, key=lambda verdict: verdict.ok)
    ]


def summary(verdicts: Sequence[Verdict]) -> str:
    """One sentence: how many limits hold."""
    if not verdicts:
        return "FAILS: nothing was judged"
    failed = sum(not verdict.ok for verdict in verdicts)
    if failed:
        return f"FAILS: {failed} of {len(verdicts)} limits do not hold"
    return f"PASSES: all {len(verdicts)} limits hold" if len(verdicts) > 1 else "PASSES: the limit holds"


def to_markdown(verdicts: Sequence[Verdict]) -> str:
    """The summary and a table, for a pull request."""
    lines = [
        f"**{summary(verdicts)}**",
        "",
        "| | limit | of | value | bound | why |",
        "|---|---|---|---:|---|---|",
    ]
    for row in rows(verdicts):
        cells = [escape_markdown(cell) for cell in row]
        cells[0] = "pass" if row[0] == "pass" else "**FAIL**"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_github(verdicts: Sequence[Verdict], file: str = "") -> str:
    """GitHub workflow commands: one ``::error`` line per failure, one ``::notice`` with the summary.

    Args:
        verdicts: what was judged.
        file: the limits file, relative to the repository, so that the annotation is shown there.
    """
    place = f"file={_property(file)}," if file else ""
    lines = [
        f"::error {place}title={_property(f'{verdict.name} {_subject(verdict)}'.strip())}::{_data(verdict.why)}"
        for verdict in verdicts
        if not verdict.ok
    ]
    lines.append(
        f"::{'error' if lines or not verdicts else 'notice'} title=patrol-edge check::{_data(summary(verdicts))}"
    )
    return "\n".join(lines) + "\n"


def to_sarif(verdicts: Sequence[Verdict], limits_file: str = "limits.yaml", version: str = "0") -> str:
    """SARIF 2.1.0 with one result per failure."""
    failed = [verdict for verdict in verdicts if not verdict.ok]
    reasons = sorted({verdict.reason for verdict in failed})
    location = {"physicalLocation": {"artifactLocation": {"uri": limits_file}, "region": {"startLine": 1}}}
    results: list[dict[str, Any]] = [
        {
            "ruleId": verdict.reason,
            "level": "error",
            "message": {"text": f"{verdict.name} {_subject(verdict)}: {verdict.why}"},
            "locations": [location],
        }
        for verdict in failed
    ]
    driver = {"name": "patrol-edge check", "version": version, "rules": [{"id": reason} for reason in reasons]}
    body = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(body, indent=1) + "\n"


def escape_markdown(text: str) -> str:
    """Text that stays one cell of a table and starts no markup."""
    for character in "\\`*_[]<>|#":
        text = text.replace(
            character, "\\" + character if character not in "<>" else f"&{'lt' if character == '<' else 'gt'};"
        )
    return " ".join(text.split())


def _subject(verdict: Verdict) -> str:
    return " / ".join(part for part in (verdict.variant, verdict.protocol) if part)


def _value(verdict: Verdict) -> str:
    if verdict.value is None:
        return "-"
    unit = f" {verdict.unit}" if verdict.unit not in ("1", "") else ""
    return f"{verdict.value:.4g}{unit}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
