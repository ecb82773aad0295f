"""``patrol-edge devices``: the catalogue of Jetson modules, and what one of them can run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from targets.jetson.catalogue import UNVERIFIED, Module, find_module, modules, sources
from targets.jetson.explain import explain

NameArgument = Annotated[str | None, typer.Argument(help="Key, printed name or part number of one module.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def devices(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """List the Jetson modules, or say what one of them can run."""
    if as_json:
        found: Any = describe(find_module(name)) if name else [describe(module) for module in modules()]
        typer.echo(json.dumps(found, indent=1))
    elif name is None:
        Console().print(_overview())
    else:
        _print_one(find_module(name))


def describe(module: Module) -> dict[str, Any]:
    """Everything the catalogue knows of a module, as JSON."""
    return {
        "key": module.key,
        "name": module.name,
        "family": module.family,
        "generation": module.generation,
        "compute_capability": ".".join(str(part) for part in module.compute_capability),
        "parts": list(module.parts),
        "headline": module.headline,
        "note": module.note,
        "figures": {name: asdict(figure) for name, figure in module.figures.items()},
        "modes": [asdict(mode) | {"label": mode.label} for mode in module.modes],
        "explanation": asdict(explain(module)),
    }


def _figure(module: Module, name: str) -> str:
    """A figure for the table; a question mark stands behind what has no source."""
    figure = module.figures.get(name)
    if figure is None:
        return "-"
    return f"{figure.value:g}{'' if figure.verified else '?'}"


def _overview() -> Table:
    table = Table(title="Jetson modules", caption="? = from no source; rates are dense; modes: devices NAME")
    columns = {
        "SMs": "sms", "GPU MHz": "gpu_mhz", "INT8 TOPS": "int8_dense_tops", "FP16 TFLOPS": "fp16_dense_tflops",
        "DLA": "dla_cores", "DRAM GB": "dram_gb", "GB/s": "dram_gbps",
    }  # fmt: skip
    for column in ("module", "CC", *columns, "TensorRT"):
        table.add_column(column, overflow="fold")
    for module in modules():
        capability = ".".join(str(part) for part in module.compute_capability)
        figures = [_figure(module, name) for name in columns.values()]
        table.add_row(module.key, capability, *figures, explain(module).tensorrt.split(" with")[0])
    return table


def _print_one(module: Module) -> None:
    console, said = Console(), explain(module)
    facts = Table(title=module.name, show_header=False)
    facts.add_column(overflow="fold")
    facts.add_column(overflow="fold")
    capability = ".".join(str(part) for part in module.compute_capability)
    rows = {
        "GPU": f"{module.generation}, compute capability {capability}",
        "headline": module.headline,
        "precisions": ", ".join(said.precisions),
        "INT8": said.int8,
        "DLA": said.dla,
        "TensorRT": said.tensorrt,
        "newest JetPack": f"{said.newest.jetpack} (TensorRT {said.newest.tensorrt}, CUDA {said.newest.cuda})",
        "Python": ", ".join(said.python),
        "network form": ", ".join(f"{form} for TensorRT {version}" for version, form in said.forms.items()),
        **{f"note {i}": note for i, note in enumerate(said.notes, 1)},
    }
    for what, text in rows.items():
        facts.add_row(what, escape(text))
    console.print(facts)
    console.print(_figures(module))
    console.print(_modes(module))


def _figures(module: Module) -> Table:
    table = Table(title="Figures and their sources")
    for column in ("figure", "value", "source"):
        table.add_column(column, overflow="fold")
    for name, figure in module.figures.items():
        source = sources().get(figure.source, figure.source)
        table.add_row(name, f"{figure.value:g} {figure.unit}", escape(source))
    return table


def _modes(module: Module) -> Table:
    table = Table(title="Power modes", caption="? = from no source")
    for column in ("mode", "id", "SMs", "GPU MHz", "memory MHz", "DLA MHz", "CPU cores", "default"):
        table.add_column(column, overflow="fold")
    for mode in module.modes:
        cells = []
        for name in ("sms", "gpu_mhz", "emc_mhz", "dla_mhz", "cpu_cores"):
            value = getattr(mode, name)
            doubt = name in mode.unverified or mode.source == UNVERIFIED
            cells.append("-" if value is None else f"{value:g}{'?' if doubt else ''}")
        table.add_row(mode.label, str(mode.id), *cells, "yes" if mode.default else "")
    return table
