"""``patrol-edge predict``: latency, memory and energy of an ONNX file on a Jetson, predicted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from targets.jetson.catalogue import find_module
from targets.jetson.layers import LayerGraph, read_layers
from targets.jetson.predictor import Interval, Prediction
from targets.jetson.predictor import predict as predict_graph
from toolkit.errors import SettingsError
from toolkit.planning.layers import layers_from_onnx

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
SLOWEST = 8


def predict(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or the layers.json written from one.")],
    device: Annotated[str, typer.Option(help="Module, see: patrol-edge devices.")],
    mode: Annotated[str | None, typer.Option(help="Power mode; the module's default one if not given.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp16",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 1,
    layers_out: Annotated[Path | None, typer.Option("--layers", help="Also write layers.json here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict latency, memory and energy on a Jetson. Nothing is measured."""
    graph = read_graph(model, batch)
    if layers_out is not None:
        layers_out.write_text(graph.to_json(), encoding="utf-8")
    module = find_module(device)
    found = predict_graph(graph, module, module.mode(mode), precision.lower())
    if mode is None and "default" in module.mode().unverified:
        note = f"no mode was given: {found.mode} is taken, which is assumed to be the one a new device starts in"
        found = replace(found, notes=(*found.notes, note))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _print(found, graph)


def read_graph(path: Path, batch: int = 1) -> LayerGraph:
    """The fused network of an ONNX file or a ``layers.json``.

    Raises:
        SettingsError: there is no such file.
    """
    if not path.is_file():
        raise SettingsError(f"there is no file {path}; name an ONNX file or a layers.json")
    return read_layers(path) if path.suffix == ".json" else layers_from_onnx(path, batch=batch)


def _print(found: Prediction, graph: LayerGraph) -> None:
    console = Console()
    title = f"Predicted: {found.network} on {found.module}, mode {found.mode}, {found.precision}"
    table = Table(title=title, caption="90 % of published rows that the fit did not see lie in such an interval")
    for column in ("predicted", "value", "from", "to", "unit"):
        table.add_column(column)
    values: list[tuple[str, Interval | None, str]] = [
        ("latency", found.latency_ms, "ms"),
        ("memory", found.memory_mb, "MB"),
        ("energy", found.energy_mj, f"mJ, {found.energy_scope}"),
    ]
    for name, value, unit in values:
        if value is not None:
            table.add_row(name, *(f"{number:.3g}" for number in (value.value, value.low, value.high)), unit)
    console.print(table)
    slowest = Table(title=f"Slowest of {len(graph.layers)} fused layers ({graph.macs / 1e9:.2f} GMAC)")
    for column in ("layer", "kind", "precision", "predicted ms", "bound by"):
        slowest.add_column(column, overflow="fold")
    for layer in sorted(found.layers, key=lambda one: -one.ms)[:SLOWEST]:
        slowest.add_row(escape(layer.name), layer.kind, layer.precision, f"{layer.ms:.4f}", layer.bound)
    console.print(slowest)
    for note in found.notes:
        console.print(f"[dim]note: {escape(note)}[/]")
