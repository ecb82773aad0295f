"""``patrol-edge sweep``: many networks as resumable jobs, into one table and one plot."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import RunsOption, SetOption
from toolkit.commands.together import refuse
from toolkit.errors import TrainingError

logger = logging.getLogger(__name__)


def sweep(
    config: Annotated[Path, typer.Argument(help="The sweep's YAML file; see configs/ for examples.")],
    runs: RunsOption = Path("runs"),
    changes: SetOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs at the same time, each with the sweep's threads.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster that shares the folder; runs there instead.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would run and how long it takes.")] = False,
) -> None:
    """Train, attack and compare every method of CONFIG. Killed jobs are taken up again by the same command."""
    from toolkit.stages.estimate import minutes
    from toolkit.sweeps.folders import Sweep, Unit
    from toolkit.sweeps.report import write_report
    from toolkit.sweeps.settings import load_sweep
    from toolkit.sweeps.times import Remaining, sweep_seconds
    from toolkit.sweeps.worker import run_local, unmade, use_threads

    refuse("sweep", "start it without torchrun and give --jobs")
    settings = load_sweep(config, changes or [])
    use_threads(settings.threads)
    opened = Sweep(runs / settings.name, settings) if plan else Sweep.open(runs / settings.name, settings)
    expected = sweep_seconds(opened)
    waiting = sum(unit.job is not None and unit.name in expected for unit in opened.units)
    typer.echo(
        f"sweep {settings.name}: {waiting} of {len(opened.jobs)} jobs to do, about "
        f"{minutes(sum(expected.values()) / jobs)} with {jobs} at a time of {settings.threads} thread(s) each"
    )
    if plan:
        for name, seconds in expected.items():
            typer.echo(f"  {name}: about {minutes(seconds)}")
        return
    left = Remaining(expected)

    def report(unit: Unit, seconds: float) -> None:
        count, rest = left.done(unit.name, seconds)
        logger.info("%s: done in %s; %d left, about %s", unit.name, minutes(seconds), count, minutes(rest))

    if ray is not None:
        from toolkit.sweeps.cluster import run_on_ray

        run_on_ray(opened, ray, report)
    else:
        run_local(opened, jobs, report)
    missing = unmade(opened)
    if len(missing) < len(opened.jobs):
        table, plot = write_report(opened)
        typer.echo(f"table: {table}\nplot: {plot}")
    if missing:
        name, reason = next(iter(missing.items()))
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise TrainingError(f"{name}{more}: {reason}; the same command tries it again")
