"""``patrol-edge engine`` and ``engine-times``: a bundle's engine, built, verified and timed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.errors import SettingsError

KINDS = ("tensorrt", "tensorrt_rtx", "onnxruntime")


def engine(
    bundle: Annotated[Path, typer.Argument(help="The folder of an unpacked bundle.")],
    out: Annotated[Path, typer.Option(help="The engine file to write; its sidecar comes beside it.")],
    kind: Annotated[str, typer.Option("--engine", help="tensorrt, tensorrt_rtx or onnxruntime.")] = "tensorrt",
    form: Annotated[str | None, typer.Option(help="Network to build: a, b or float; else what fits.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
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
