"""``patrol-edge split``: every cut of a backbone on a device and a link."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from targets.jetson.catalogue import find_module
from toolkit.errors import SettingsError
from toolkit.planning.splits import EdgeLimits, Link, Network, Split, plan_splits

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def split(
    backbone: Annotated[str, typer.Argument(help="A backbone, such as resnet18.")],
    device: Annotated[str, typer.Option(help="Module, see: patrol-edge devices.")],
    mode: Annotated[str | None, typer.Option(help="Power mode; the default one if not given.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "int8",
    size: Annotated[str, typer.Option(help="Picture: side, or HEIGHTxWIDTH.")] = "256",
    bits: Annotated[int, typer.Option(min=2, max=8, help="Per code on the wire.")] = 8,
    mbit: Annotated[float, typer.Option(help="Bandwidth upwards, megabits a second.")] = 50.0,
    round_trip: Annotated[float, typer.Option(help="Milliseconds.")] = 10.0,
    max_ms: Annotated[float | None, typer.Option(help="Limit on the edge half's time.")] = None,
    max_mb: Annotated[float | None, typer.Option(help="Limit on its memory.")] = None,
    max_mj: Annotated[float | None, typer.Option(help="Limit on its energy.")] = None,
    cloud: Annotated[float | None, typer.Option(help="Speed of the server, GMAC a millisecond.")] = None,
    privacy: Annotated[Path | None, typer.Option(help="JSON: a number per cut.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it: svg, png or pdf.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tabulate every cut: edge (predicted), wire and cloud time, memory, energy, privacy where known."""
    module = find_module(device)
    limits = EdgeLimits(max_ms, max_mb, max_mj)
    found = plan_splits(
        Network(backbone, *_size(size)),
        module,
        module.mode(mode),
        Link(mbit, round_trip),
        precision=precision.lower(),
        bits=bits,
        limits=limits,
        cloud_gmacs_per_ms=cloud,
        privacy=json.loads(privacy.read_text(encoding="utf-8")) if privacy else None,
    )
    if plot is not None:
        from toolkit.planning.plot import plot_splits

        plot_splits(found, limits, plot)
    if as_json:
        typer.echo(json.dumps([_row(one) for one in found], indent=1))
    else:
        Console().print(_table(found))


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise SettingsError(f"size {text} is neither a side nor HEIGHTxWIDTH")
    return int(parts[0]), int(parts[-1])


def _row(one: Split) -> dict[str, Any]:
    row = asdict(one)
    row["edge"].pop("layers")
    return row | {"total_ms": asdict(one.total_ms)}


def _table(found: tuple[Split, ...]) -> Table:
    first = found[0].edge
    title = f"Cuts on {first.module}, mode {first.mode}, {first.precision}"
    caption = (
        "edge (low and high of the 90 % interval), MB and mJ are predicted; over: limits that the cut breaks; "
        "keep: share of the channels that PATROL may keep for it to fit; less: MACs that are gone then"
    )
    table = Table(title=title, caption=caption, box=None, padding=(0, 1), pad_edge=False)
    columns = ("cut", "edge ms", "low", "high", "kB", "wire ms", "cloud", "total", "MB", "mJ", "privacy")
    for column in (*columns, "over", "keep", "less"):
        table.add_column(column, justify="left" if column == "cut" else "right")
    for one in found:
        edge, latency = one.edge, one.edge.latency_ms
        table.add_row(
            one.cut,
            *(f"{value:.2f}" for value in (latency.value, latency.low, latency.high)),
            f"{one.wire_bytes / 1000:.1f}",
            f"{one.wire_ms:.1f}",
            "-" if one.cloud_ms is None else f"{one.cloud_ms:.2f}",
            f"{one.total_ms.value:.1f}",
            f"{edge.memory_mb.value:.1f}",
            "-" if edge.energy_mj is None else f"{edge.energy_mj.value:.0f}",
            "-" if one.privacy is None else f"{one.privacy:.3f}",
            ",".join(one.over) or "-",
            "none" if one.fitting_width is None else f"{one.fitting_width:.1%}",
            "-" if one.removed is None else f"{one.removed:.0%}",
        )
    return table
