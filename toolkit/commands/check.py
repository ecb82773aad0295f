"""``patrol-edge check``: the gate, on a configuration or on a run that is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toolkit.checks import formats
from toolkit.checks.baseline import update_baseline
from toolkit.checks.check import check
from toolkit.checks.junit import write_junit
from toolkit.checks.limits import Limits, load_limits
from toolkit.checks.verdict import Verdict, all_hold
from toolkit.commands.options import JsonOption, RunsOption, SetOption
from toolkit.commands.stage import CHECK_FAILED, RunStages, end_with
from toolkit.commands.subject import Subject, find_subject, newest_subject
from toolkit.device import describe_machine
from toolkit.errors import SettingsError
from toolkit.metrics import MetricSet
from toolkit.stages import SUMMARIES

STAGE = "check"
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Outputs:
    """Files that the verdicts go to."""

    junit: Path | None = None
    sarif: Path | None = None
    markdown: Path | None = None


def register(app: typer.Typer, run_stages: RunStages) -> None:
    """Add the command."""

    @app.command(STAGE, help=_help())
    def command(
        subject: Annotated[
            str,
            typer.Argument(
                metavar="[CONFIG|RUN]",
                help="A run's YAML file (see configs/ for examples), whose unfinished stages run first; or a run "
                "folder, the name of a run, or a metrics.json. Without it the newest run.",
            ),
        ] = "",
        limits: Annotated[
            Path | None, typer.Option("--limits", help="YAML file with the limits; without it the run's own.")
        ] = None,
        baseline: Annotated[
            str,
            typer.Option(
                "--baseline",
                help="What `relative_to: baseline` means: a run (its engines are built again here and timed "
                "in turns with this run's) or a metrics.json (for everything but latency).",
            ),
        ] = "",
        update: Annotated[
            bool,
            typer.Option("--update-baseline", help="Write this run's metrics to the --baseline file."),
        ] = False,
        reason: Annotated[str, typer.Option("--reason", help="Why the baseline changes; it is kept.")] = "",
        junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
        sarif: Annotated[Path | None, typer.Option("--sarif", help="Write SARIF 2.1.0 here.")] = None,
        markdown: Annotated[Path | None, typer.Option("--markdown", help="Write Markdown here.")] = None,
        github: Annotated[bool, typer.Option("--github", help="Print GitHub annotations too.")] = False,
        as_json: JsonOption = False,
        runs: RunsOption = Path("runs"),
        changes: SetOption = None,
    ) -> None:
        plain = limits is None and not baseline and not update
        outputs = Outputs(junit, sarif, markdown)
        chosen = _subject(subject, runs, changes, run_stages, STAGE if plain else "report")
        if update:
            _update(chosen, baseline, reason)
            return
        if plain and Path(subject).suffix in YAML and outputs == Outputs() and not (github or as_json):
            _end_as_stage(chosen)
            return
        verdicts = judge(chosen, _limits(limits, chosen), find_subject(baseline, runs) if baseline else None)
        _write(verdicts, outputs, limits)
        _show(verdicts, github, as_json, limits)
        if not all_hold(verdicts):
            raise typer.Exit(CHECK_FAILED)


def _help() -> str:
    summary = SUMMARIES[STAGE]
    return (
        f"{summary[0].upper()}{summary[1:]}. Exit code 0: every limit holds; 1: one does not, or cannot be "
        "judged; 2: wrong use or input."
    )


def judge(subject: Subject, limits: Limits, baseline: Subject | None) -> list[Verdict]:
    """Verdicts of the limits; a latency is compared with a baseline run by timing both here, in turns.

    Raises:
        ArtifactError, EngineError: an engine of either run cannot be built again.
    """
    from toolkit.checks import remeasure

    machine = describe_machine()
    metrics = subject.metrics
    reference: MetricSet | None = baseline.metrics if baseline else None
    if baseline and baseline.run and subject.run and reference is not None:
        keys = remeasure.timed_against_baseline(limits, remeasure.running_variants(subject.run))
        fresh = remeasure.measure_against(subject.run, baseline.run, keys, machine)
        metrics, reference = remeasure.substitute(metrics, reference, fresh, machine)
    return check(metrics, limits, reference, machine)


def _subject(text: str, runs: Path, changes: list[str] | None, run_stages: RunStages, until: str) -> Subject:
    if Path(text).suffix in YAML:
        return find_subject(str(run_stages(Path(text), runs, changes, until).root), runs)
    if changes:
        raise SettingsError("--set changes a configuration; give one instead of a finished run")
    return find_subject(text, runs) if text else newest_subject(runs)


def _end_as_stage(subject: Subject) -> None:
    """What every stage command says, and the verdicts that the run's own check stage wrote."""
    if subject.run is None:
        return
    typer.echo(f"{STAGE}: {subject.run.root / STAGE}")
    rows = json.loads(subject.run.path(STAGE, "verdicts.json").read_text(encoding="utf-8"))
    end_with([Verdict(**row) for row in rows])


def _limits(file: Path | None, subject: Subject) -> Limits:
    if file is not None:
        return load_limits(file)
    own: dict[str, Any] = subject.run.manifest.settings.get("check", {}) if subject.run else {}
    limits = [*own.get("limits", ())]
    if own.get("file"):
        limits += [limit.model_dump() for limit in load_limits(Path(own["file"])).limits]
    if not limits:
        raise SettingsError(f"{subject.name} has no limits of its own; name a file with --limits")
    return Limits.model_validate({"limits": limits})


def _update(subject: Subject, baseline: str, reason: str) -> None:
    if not baseline:
        raise SettingsError("--update-baseline needs --baseline FILE, the metrics file to write")
    path = Path(baseline)
    if path.is_dir():
        raise SettingsError(f"{path} is a run; a baseline file is a metrics.json of its own, name one")
    update_baseline(path, subject.metrics, reason)
    typer.echo(f"baseline {path}: {len(subject.metrics)} metrics of {subject.name}")


def _write(verdicts: Sequence[Verdict], outputs: Outputs, limits: Path | None) -> None:
    if outputs.junit:
        write_junit(verdicts, outputs.junit)
    if outputs.sarif:
        _text(outputs.sarif, formats.to_sarif(verdicts, str(limits or "limits.yaml")))
    if outputs.markdown:
        _text(outputs.markdown, formats.to_markdown(verdicts))


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _show(verdicts: Sequence[Verdict], github: bool, as_json: bool, limits: Path | None) -> None:
    if as_json:
        body = {"holds": all_hold(verdicts), "verdicts": [asdict(verdict) for verdict in verdicts]}
        typer.echo(json.dumps(body, indent=1))
        return
    table = Table(title=formats.summary(verdicts))
    for column in ("verdict", "limit", "bound", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "verdict")
    for state, name, subject, _, bound, why in formats.rows(verdicts):
        colour = "green" if state == "pass" else "red"
        below = f"\n[dim]{escape(subject)}[/]" if subject else ""
        table.add_row(f"[{colour}]{state}[/]", f"{escape(name)}{below}", escape(bound), escape(why))
    Console().print(table)
    if github:
        typer.echo(formats.to_github(verdicts, str(limits or "")), nl=False)
