"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path, typer.Argument(help="The run's YAML file; see configs/ for examples.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds the run folders.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting: section.key=value. Can be given several times."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
