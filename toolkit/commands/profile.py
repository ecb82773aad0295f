"""``patrol-edge profile``: time a run's engines, or two models against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.commands.options import JsonOption, RunsOption, SetOption
from toolkit.commands.stage import RunStages
from toolkit.errors import SettingsError
from toolkit.stages import SUMMARIES

STAGE = "profile"
ENGINES = ("onnxruntime", "tensorrt", "tensorrt_rtx")


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
            tuple[Path, Path] | None,
            typer.Option("--compare", metavar="A B", help="Time two ONNX models or engines in turns instead."),
        ] = None,
        engine: Annotated[str, typer.Option(help="With --compare: builds the ONNX models.")] = "onnxruntime",
        precision: Annotated[str, typer.Option(help="With --compare: fp32, fp16 or int8.")] = "fp32",
        batch: Annotated[int, typer.Option(min=1, help="With --compare: pictures of a run.")] = 1,
        seconds: Annotated[float, typer.Option(min=0.1, help="With --compare: of sampling, for each.")] = 3.0,
        graph: Annotated[bool, typer.Option("--graph", help="With --compare: as CUDA graphs.")] = False,
        emulate: Annotated[
            str | None, typer.Option(help="Stand in for a Jetson module on a GPU host: orin-nano-8gb[:MODE].")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        if compare is None:
            if config is None:
                raise SettingsError("profile needs a configuration, or --compare A B")
            extra = [f"build.emulate={emulate}"] if emulate else []
            finished = run_stages(config, runs, [*(changes or []), *extra], STAGE)
            typer.echo(f"{STAGE}: {finished.root / STAGE}")
            return
        if config is not None or changes:
            raise SettingsError("--compare takes two models or engines and no configuration")
        if engine not in ENGINES:
            raise SettingsError(f"engine {engine} is none of {', '.join(ENGINES)}")
        values = {"engine": engine, "precision": precision, "emulate": emulate, "max_batch": max(batch, 1)}
        _compare(*compare, values, batch, seconds, graph, as_json)


def _help() -> str:
    summary = SUMMARIES[STAGE]
    return (
        f"{summary[0].upper()}{summary[1:]}, after the stages before it that are not finished; or, with "
        "--compare, time two models or engines in turns and say which one is faster."
    )


def _compare(
    a: Path, b: Path, values: dict[str, Any], batch: int, seconds: float, graph: bool, as_json: bool
) -> None:
    from pydantic import ValidationError

    from toolkit.engines.settings import BuildSettings
    from toolkit.profiling import ProfileSettings
    from toolkit.profiling.pair import compare_files

    try:
        build = BuildSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(str(item["msg"]) for item in error.errors())) from error
    settings = ProfileSettings(duration_s=seconds, graph="on" if graph else "off", energy_s=0, rounds=100_000)
    found = compare_files(a, b, build, settings, batch)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    for one in (found.a, found.b):
        low, high = one.interval(50)
        moved = ", clocks moved" if one.clocks is not None and one.clocks.moved else ""
        typer.echo(f"{one.key}: p50 {one.p50:.4f} ms [{low:.4f}, {high:.4f}], p99 {one.p99:.4f} ms{moved}")
    low, high = found.ratio.interval
    typer.echo(f"A / B: {found.ratio.value:.4f} [{low:.4f}, {high:.4f}]: A is {_words(found.ratio.verdict)}")


def _words(verdict: str) -> str:
    return verdict if verdict != "no difference shown" else "not shown to differ from B"
