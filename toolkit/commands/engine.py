"""``patrol-edge engine``: the engine of an unpacked bundle, built and verified on this machine."""

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
