"""The command line: one command per stage, and `run`, `runs`, `doctor`.

Exit codes: 0 done; 1 a check failed; 2 wrong use or input; 130 interrupted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import errno
import json
import logging
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from calibration.errors import CalibrationError
from targets.errors import TargetError
from toolkit.commands import OWN_STAGES, register
from toolkit.commands.bundle import bundle, deploy
from toolkit.commands.devices import devices
from toolkit.commands.engine import app as engine_app
from toolkit.commands.engine import engine_times
from toolkit.commands.options import ConfigArgument, JsonOption, RunsOption, SetOption
from toolkit.commands.predict import predict
from toolkit.commands.split import split
from toolkit.commands.sweep import sweep
from toolkit.commands.together import Team, lost_others, may_speak
from toolkit.device import started_together
from toolkit.errors import PatrolError

CHECK_FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="patrol-edge",
    help="Prune, quantize, build and prove the privacy of split networks for Jetson-class devices.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command()(bundle)
app.command()(deploy)
app.command()(devices)
app.command(name="engine-times")(engine_times)
app.command()(predict)
app.command()(split)
app.command()(sweep)
runs_app = typer.Typer(help="List runs, or free the disk space of old ones.", no_args_is_help=True)
app.add_typer(engine_app, name="engine")
app.add_typer(runs_app, name="runs")
logger = logging.getLogger("patrol-edge")


@app.callback()
def _setup(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print debug messages.")] = False,
) -> None:
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    level = logging.DEBUG if verbose else logging.INFO
    for name in ("toolkit", "calibration", "targets", "patrol-edge"):
        logging.getLogger(name).setLevel(level)


def _pipeline(
    config: Path, runs: Path, changes: list[str] | None, until: str | None, *, estimated: bool = True
) -> Any:
    from toolkit.pipeline import run_pipeline, stages_for, unfinished
    from toolkit.runs import RunFolder
    from toolkit.settings import environment, load_settings
    from toolkit.stages.estimate import announce

    team = Team() if started_together() else None
    settings = load_settings(config, changes or [])
    settings.use_threads()
    stages_for(settings, until)
    root = runs / settings.name
    if team is not None and team.follows:
        team.follow(settings, root)
        raise typer.Exit
    run = RunFolder.open(
        root,
        name=settings.name,
        settings=settings.model_dump(mode="json"),
        environment=environment(),
    )
    try:
        if estimated:
            announce(settings, run, unfinished(settings, run, until))
        run_pipeline(settings, run, until, None if team is None else partial(team.call, root=root))
        if team is not None:
            team.release()
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from here", INTERRUPTED)
    return run


@app.command()
def run(config: ConfigArgument, runs: RunsOption = Path("runs"), changes: SetOption = None) -> None:
    """Run every stage of CONFIG that is not finished yet, and end with the path of the report."""
    finished = _pipeline(config, runs, changes, None)
    verdicts = json.loads(finished.path("check", "verdicts.json").read_text(encoding="utf-8"))
    typer.echo(f"report: {finished.path('report', 'report.html')}")
    _end_with(verdicts)


def _end_with(verdicts: list[dict[str, Any]]) -> None:
    failed = [verdict for verdict in verdicts if not verdict["ok"]]
    for verdict in failed:
        typer.echo(f"FAILED {verdict['name']}: {verdict['why']}")
    typer.echo(f"check: {len(verdicts) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(CHECK_FAILED)


def _add_stage_commands() -> None:
    from toolkit.stages import SUMMARIES

    register(app, _pipeline)
    own: dict[str, Any] = {"slim": _slim, "quantize": _quantize}

    for name, summary in SUMMARIES.items():
        if name in OWN_STAGES:
            continue
        text = f"{summary[0].upper()}{summary[1:]}, after the stages before it that are not finished."
        app.command(name=name, help=text)(own.get(name) or _stage_command(name))


def _slim(
    config: ConfigArgument,
    runs: RunsOption = Path("runs"),
    changes: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would go, layer by layer, and remove nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    finished = _pipeline(config, runs, changes, "train" if dry_run else "slim", estimated=not dry_run)
    if not dry_run:
        folder = finished.root / "slim"
        typer.echo(folder.joinpath("plan.json").read_text(encoding="utf-8") if as_json else f"slim: {folder}")
        return
    from dataclasses import asdict

    from toolkit.settings import load_settings
    from toolkit.stages.slim import preview
    from toolkit.surgery import describe_plan, format_rows

    rows, plan = preview(load_settings(config, changes or []), finished)
    if as_json:
        layers = [asdict(row) for row in rows]
        typer.echo(json.dumps({"layers": layers, "plan": plan.model_dump(mode="json")}, indent=1))
    else:
        typer.echo("\n".join([format_rows(rows), *describe_plan(plan)]))


def _quantize(
    config: ConfigArgument,
    runs: RunsOption = Path("runs"),
    changes: SetOption = None,
    max_map_drop: Annotated[
        float | None,
        typer.Option(
            "--max-map-drop",
            help="Keep layers in FP16 until INT8 loses at most this much mean average precision, at the least "
            "predicted time; the same as --set quantize.max_map_drop=VALUE.",
        ),
    ] = None,
) -> None:
    if max_map_drop is not None:
        changes = [*(changes or []), f"quantize.max_map_drop={max_map_drop}"]
    finished = _pipeline(config, runs, changes, "quantize")
    typer.echo(f"quantize: {finished.root / 'quantize'}")


def _stage_command(name: str) -> Any:
    def command(config: ConfigArgument, runs: RunsOption = Path("runs"), changes: SetOption = None) -> None:
        finished = _pipeline(config, runs, changes, name)
        typer.echo(f"{name}: {finished.root / name}")

    return command


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do, what is missing and how to install it."""
    from dataclasses import asdict

    from toolkit.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
        return
    table = Table(title="What this machine can do")
    for column in ("what", "state", "detail", "advice"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "absent": "yellow", "warning": "yellow"}
    for finding in findings:
        advice = "" if finding.state == "ok" else finding.advice
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(finding.what, state, escape(finding.detail), escape(advice))
    Console().print(table)


@runs_app.command("list")
def runs_list(runs: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """List the runs with their finished stages and their size."""
    from toolkit.runs import folder_size, list_runs

    rows: list[dict[str, Any]] = [
        {
            "name": item.manifest.name,
            "created": item.manifest.created,
            "stages": list(item.manifest.stages),
            "bytes": folder_size(item.root),
        }
        for item in list_runs(runs)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(title=f"Runs in {runs}")
    for column in ("name", "created", "finished stages", "MiB"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row["name"], row["created"], " ".join(row["stages"]), f"{row['bytes'] / 2**20:.0f}")
    Console().print(table)


@runs_app.command("gc")
def runs_gc(
    runs: RunsOption = Path("runs"),
    keep: Annotated[int, typer.Option(help="How many of the newest runs stay whole.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only say what would go.")] = False,
) -> None:
    """Delete all but the newest runs, and what killed stages left behind."""
    from toolkit.runs import folder_size, list_runs

    found = list_runs(runs)
    doomed = [item.root for item in found[: max(len(found) - keep, 0)]]
    doomed += [path for item in found[max(len(found) - keep, 0) :] for path in item.root.glob("*.partial")]
    for path in doomed:
        typer.echo(f"{'deleted' if yes else 'would delete'} {path} ({folder_size(path) / 2**20:.0f} MiB)")
        if yes:
            shutil.rmtree(path)
    if not doomed:
        typer.echo("nothing to delete")


def main() -> None:
    """Entry point of ``patrol-edge``: errors in one line, no traceback."""
    try:
        with lost_others():
            app(standalone_mode=True)
    except (PatrolError, CalibrationError, TargetError) as error:
        _fail(f"error {error.code}: {error}")
    except OSError as error:
        _fail(_described(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("toolkit", "calibration", "targets"):
            raise
        _fail(f"error PE110: {error.name} is not installed; this needs: pip install 'patrol-edge[host]'")


def _described(error: OSError) -> str:
    # NumPy reports a write that was cut short without a number: "4096 requested and 1024 written".
    if error.errno in NO_SPACE or (error.errno is None and "written" in str(error)):
        return f"error PE510: no space left on the disk for {error.filename or 'the run'}; free some, run again"
    return f"error PE520: {error.filename}: {error.strerror}" if error.filename else f"error PE520: {error}"


def _fail(message: str, code: int = WRONG_USE) -> NoReturn:
    if may_speak():
        typer.echo(" ".join(message.split()), err=True)
    raise SystemExit(code)


_add_stage_commands()

if __name__ == "__main__":
    main()
