"""``patrol-edge init``: a commented configuration for a device and a data set."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated

import typer

from targets.errors import CatalogueError
from targets.jetson.catalogue import find_module
from toolkit.commands.starter import KINDS, LARGE, DataKind, Starter
from toolkit.errors import SettingsError

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
SIZES = (32, 1024)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    file: Annotated[Path, typer.Argument(help="The YAML file to write; an existing one is left alone.")] = Path(
        "run.yaml"
    ),
    data: Annotated[str, typer.Option(help=f"Data set: {', '.join(KINDS)}.")] = "fleet",
    root: Annotated[Path | None, typer.Option(help="Folder of the data set; a fleet needs none.")] = None,
    device: Annotated[str, typer.Option(help="Jetson module, such as orin-nano-8gb; empty: the host alone.")] = "",
    size: Annotated[
        int,
        typer.Option(
            help="Side of the network's input in pixels; 0: 64, or 128 for VeRi-776, VehicleID and VERI-Wild."
        ),
    ] = 0,
    backbone: Annotated[str, typer.Option(help="Backbone, such as resnet18, mobilenet_v2.")] = "resnet18",
    cut: Annotated[str, typer.Option(help="Block after which the edge half ends.")] = "layer2",
    name: Annotated[str, typer.Option(help="Name of the run; empty: made of data set and device.")] = "",
) -> None:
    """Write a commented configuration for a device and a data set."""
    kind = _kind(data)
    key = _device(device)
    if file.exists():
        raise SettingsError(f"{file} exists and is left alone; name another file, or remove it first")
    side = size or (128 if kind in LARGE else 64)
    if not SIZES[0] <= side <= SIZES[1]:
        raise SettingsError(f"--size is {size}; a network takes pictures of {SIZES[0]} to {SIZES[1]} pixels")
    _check_model(backbone, cut)
    found, has_fold = _look_into(kind, root)
    chosen = _NOT_A_NAME.sub("-", name or f"{kind}-{key}".strip("-")).strip("-.")
    starter = Starter(chosen, kind, root, key, side, backbone, cut, found, has_fold)
    _write(file, starter.text())
    typer.echo(f"wrote {file}{f' ({found})' if found else ''}")
    typer.echo(f"next: patrol-edge run {file}")


def _kind(data: str) -> DataKind:
    for kind in KINDS:
        if kind == data:
            return kind
    raise SettingsError(f"there is no data set kind {data!r}; one of {', '.join(KINDS)}")


def _device(device: str) -> str:
    if not device:
        return ""
    try:
        return find_module(device).key
    except CatalogueError as error:
        raise SettingsError(f"--device: {error}") from error


def _check_model(backbone: str, cut: str) -> None:
    """Refuse an unknown backbone or cut now; without torch ``run`` will."""
    if importlib.util.find_spec("torch") is None:
        return
    from toolkit.models.registry import cut_points

    known = cut_points(backbone)
    if cut not in known:
        raise SettingsError(f"{backbone} has no cut {cut!r}; one of {', '.join(known)}")


def _look_into(kind: DataKind, root: Path | None) -> tuple[str, bool]:
    """What the folder holds in words, and whether it brings its own test list; only lists are read."""
    if kind == "fleet":
        return "", True
    if root is None:
        raise SettingsError(f"--data {kind} needs --root, the folder of the data set")
    from toolkit.datasets.settings import DataSettings, open_dataset

    has_fold = (root / "val.txt").exists()
    fold = {} if has_fold or kind != "two_camera" else {"test_fold": 0}
    dataset = open_dataset(DataSettings.model_validate({"kind": kind, "root": root, **fold}))
    identities = {record.identity for record in dataset.records}
    return f"{len(dataset.records):,} pictures of {len(identities):,} vehicles", has_fold


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise SettingsError(f"{file} exists and is left alone; name another file, or remove it first") from error
