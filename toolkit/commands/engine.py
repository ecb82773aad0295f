"""``patrol-edge engine`` and ``engine-times``: a bundle's engine, built and timed here; looks into engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from toolkit.errors import SettingsError

KINDS = ("tensorrt", "tensorrt_rtx", "onnxruntime")
FAILED = 1


class BuildFirst(TyperGroup):
    """``engine FOLDER`` means ``engine build FOLDER``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``build`` before anything that is not a command of its own."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["build", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=BuildFirst,
    help="Build and verify a bundle's engine on this machine, look into engines, compare two.",
    no_args_is_help=True,
)
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Times = Annotated[
    Path | None, typer.Option(help="Times of layers: trtexec's --exportProfile, or JSON of name to milliseconds.")
]


@app.command()
def build(
    bundle: Annotated[Path, typer.Argument(help="The folder of an unpacked bundle.")],
    out: Annotated[Path, typer.Option(help="The engine file to write; its sidecar comes beside it.")],
    kind: Annotated[str, typer.Option("--engine", help="tensorrt, tensorrt_rtx or onnxruntime.")] = "tensorrt",
    form: Annotated[str | None, typer.Option(help="Network to build: a, b or float; else what fits.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build a bundle's engine on this machine and verify it (the stage of a run is: build)."""
    from toolkit.engines.bundled import build_bundled

    if kind not in KINDS:
        raise SettingsError(f"engine {kind} is none of {', '.join(KINDS)}")
    chosen: Any = kind
    found = build_bundled(bundle, out, chosen, form)
    facts = {"form": found.form, "equal": found.equal, "within_one": found.within_one}
    if as_json:
        typer.echo(json.dumps({"path": str(found.path), **facts}))
    else:
        typer.echo(f"{found.path}: form {found.form}, {found.equal:.4f} of the codes equal the host's")


@app.command()
def inspect(
    engine: Annotated[Path, typer.Argument(help="An engine file, its layers as JSON, or an ONNX model.")],
    times: Times = None,
    svg: Annotated[Path | None, typer.Option(help="Draw the layers into this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when the lint warns.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print what an engine runs, layer by layer, and what in it costs time that it need not."""
    from toolkit.engines.layers import draw, lint_layers, read_graph, rows, to_text

    graph, measured = read_graph(engine), _times(times)
    findings = lint_layers(graph, measured)
    if svg is not None:
        svg.write_text(draw(graph, measured), encoding="utf-8")
    if as_json:
        body = {
            "engine": str(engine),
            "source": graph.source,
            "detailed": graph.detailed,
            "inputs": list(graph.inputs),
            "outputs": list(graph.outputs),
            "layers": rows(graph, measured),
            "findings": [finding.to_dict() for finding in findings],
        }
        typer.echo(json.dumps(body, indent=1))
    else:
        typer.echo(to_text(graph, measured))
        for finding in findings:
            share = f" [{finding.share:.1%}]" if finding.share is not None else ""
            typer.echo(f"{finding.severity} {finding.rule}: {finding.layer}{share}: {finding.message}")
        typer.echo(f"{len(graph.layers)} layers, {sum(one.severity == 'warning' for one in findings)} warnings")
    if strict and any(finding.severity == "warning" for finding in findings):
        raise typer.Exit(FAILED)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="An engine file, its layers as JSON, or an ONNX model.")],
    b: Annotated[Path, typer.Argument(help="The other one.")],
    times_a: Times = None,
    times_b: Times = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when they differ.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare two engines layer by layer: precision, layout, kernel, time."""
    from toolkit.engines.layers import compare_graphs, read_graph

    found = compare_graphs(read_graph(a), read_graph(b), _times(times_a), _times(times_b))
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.to_text())
    if strict and not found.same:
        raise typer.Exit(FAILED)


def _times(path: Path | None) -> dict[str, float] | None:
    from toolkit.engines.layers.files import read_times

    return read_times(path) if path is not None else None


def engine_times(
    bundle: Annotated[Path, typer.Argument(help="The folder of an unpacked bundle.")],
    path: Annotated[Path, typer.Option("--engine", help="The engine file that `patrol-edge engine` wrote.")],
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to sample, after warming up.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every sample.")] = False,
) -> None:
    """Time a bundle's engine on this machine (the stage of a run is: profile)."""
    from toolkit.profiling.bundled import time_bundled

    found = time_bundled(bundle, path, seconds)
    times = found.profile
    if as_json:
        samples = [round(float(value), 6) for value in times.samples_ms]
        said = {"times_ms": samples, "protocol": times.protocol, "settled": times.settled, "ended": found.ended}
        typer.echo(json.dumps(said))
    else:
        typer.echo(f"p50 {times.p50:.3f} ms, p90 {times.p90:.3f}, p99 {times.p99:.3f}; {times.protocol}")
