"""``patrol-edge report``: the report of a run, or two runs side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.commands.options import JsonOption, RunsOption, SetOption
from toolkit.commands.stage import RunStages
from toolkit.commands.subject import find_subject
from toolkit.errors import SettingsError
from toolkit.reporting.compare import Difference, compare_runs, to_markdown, to_rows
from toolkit.stages import SUMMARIES

STAGE = "report"


def register(app: typer.Typer, run_stages: RunStages) -> None:
    """Add the command."""

    @app.command(STAGE, help=_help())
    def command(
        config: Annotated[
            Path | None, typer.Argument(help="The run's YAML file; see configs/ for examples.")
        ] = None,
        runs: RunsOption = Path("runs"),
        changes: SetOption = None,
        compare: Annotated[
            tuple[str, str] | None,
            typer.Option(
                "--compare",
                metavar="RUN_A RUN_B",
                help="Compare two runs instead: folders, names of runs, or metrics.json files.",
            ),
        ] = None,
        output: Annotated[
            Path,
            typer.Option("--output", help="Page that --compare writes; a .md file beside it holds the table."),
        ] = Path("compare.html"),
        as_json: JsonOption = False,
    ) -> None:
        if compare is not None:
            if config is not None or changes:
                raise SettingsError("--compare takes two finished runs and no configuration")
            _compare(*compare, runs, output, as_json)
            return
        if config is None:
            raise SettingsError("report needs a configuration, or --compare RUN_A RUN_B")
        finished = run_stages(config, runs, changes, STAGE)
        typer.echo(f"{STAGE}: {finished.root / STAGE}")


def _help() -> str:
    summary = SUMMARIES[STAGE]
    return (
        f"{summary[0].upper()}{summary[1:]}, after the stages before it that are not finished; or, with "
        "--compare, show what differs between two runs and whether it is more than chance."
    )


def _compare(first: str, second: str, runs: Path, output: Path, as_json: bool) -> None:
    from toolkit.commands.paired import paired_intervals
    from toolkit.reporting.difference import render_comparison

    a, b = find_subject(first, runs), find_subject(second, runs)
    differences = compare_runs(a.metrics, b.metrics, paired_intervals(a.run, b.run))
    render_comparison(differences, output, a.name, b.name)
    output.with_suffix(".md").write_text(to_markdown(differences, a.name, b.name), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps([_plain(entry) for entry in differences], indent=1))
        return
    listed = [entry for entry in differences if entry.outcome != "same"]
    table = Table(title=f"{b.name} against {a.name}: {len(listed)} of {len(differences)} numbers differ")
    for column in ("metric", "A", "B", "B - A", "outcome"):
        table.add_column(column, overflow="fold")
    for label, variant, protocol, first_text, second_text, change, outcome, _ in to_rows(listed):
        subject = " / ".join(part for part in (variant, protocol) if part)
        cells = (first_text, second_text, change, outcome)
        table.add_row(f"{escape(label)}\n[dim]{escape(subject)}[/]", *(escape(cell) for cell in cells))
    Console().print(table)
    typer.echo(f"page: {output}")


def _plain(entry: Difference) -> dict[str, Any]:
    row = asdict(entry)
    for side in ("a", "b"):
        metric = getattr(entry, side)
        row[side] = None if metric is None else metric.model_dump(mode="json")
    return row
