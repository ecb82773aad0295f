"""What commands need of the pipeline, without importing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import typer

from toolkit.checks.verdict import Verdict
from toolkit.runs import RunFolder

CHECK_FAILED = 1


class RunStages(Protocol):
    """Runs every unfinished stage of a configuration up to ``until``."""

    def __call__(self, config: Path, runs: Path, changes: list[str] | None, until: str | None) -> RunFolder: ...


def end_with(verdicts: Sequence[Verdict]) -> None:
    """Print the failures and the count; exit code 1 when one failed."""
    rows = [asdict(verdict) for verdict in verdicts]
    failed = [row for row in rows if not row["ok"]]
    for row in failed:
        typer.echo(f"FAILED {row['name']}: {row['why']}")
    typer.echo(f"check: {len(rows) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(CHECK_FAILED)
