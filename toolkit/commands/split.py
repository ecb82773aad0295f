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
    caption = (
        "edge (with the ends of its 90 % interval), MB and mJ are predicted; over: limits that the cut breaks; "
        "keep: channels that PATROL may keep for it to fit; less: MACs that are gone then"
    )
    title = f"Cuts on {first.module}, mode {first.mode}, {first.precision}"
    table = Table(title=title, caption=caption, box=None, padding=(0, 1), pad_edge=False)
    cells = [_cells(one) for one in found]
    for column in tuple(cells[0]):
        texts = [row[column] for row in cells]
        if any(text != "-" for text in texts) or column in ("cut", "over"):
            table.add_column(column, justify="left" if column == "cut" else "right", no_wrap=True)
        else:
            for row in cells:
                del row[column]
    for row in cells:
        table.add_row(*row.values())
    return table


def _cells(one: Split) -> dict[str, str]:
    edge, latency = one.edge, one.edge.latency_ms
    dense = not one.over
    return {
        "cut": one.cut,
        "edge": f"{latency.value:.2f}",
        "low": f"{latency.low:.2f}",
        "high": f"{latency.high:.2f}",
        "wire": f"{one.wire_ms:.1f}",
        "cloud": "-" if one.cloud_ms is None else f"{one.cloud_ms:.2f}",
        "total": f"{one.total_ms.value:.1f}",
        "kB": f"{one.wire_bytes / 1000:.0f}",
        "MB": f"{edge.memory_mb.value:.1f}",
        "mJ": "-" if edge.energy_mj is None else f"{edge.energy_mj.value:.0f}",
        "privacy": "-" if one.privacy is None else f"{one.privacy:.3f}",
        "over": ",".join(one.over) or "-",
        "keep": "-" if dense else "none" if one.fitting_width is None else f"{one.fitting_width:.0%}",
        "less": "-" if dense or one.removed is None else f"{one.removed:.0%}",
    }
