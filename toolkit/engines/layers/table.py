"""An engine's layers as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.engines.layers.graph import EngineGraph, EngineTensor
from toolkit.engines.layers.lint import shares_of


def rows(graph: EngineGraph, times_ms: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """One row for each layer, plain values; times are there where they are known."""
    shares = shares_of(graph, times_ms)
    found = []
    for layer in graph.layers:
        row: dict[str, Any] = {
            "layer": layer.title,
            "name": layer.name,
            "kind": layer.kind,
            "precision": layer.precision,
            "input": describe(layer.inputs),
            "output": describe(layer.outputs),
            "tactic": layer.tactic,
            "modules": list(layer.modules),
            "nodes": list(layer.nodes),
        }
        if times_ms and layer.name in times_ms:
            row.update(ms=times_ms[layer.name], share=shares[layer.name])
        found.append(row)
    return found


def describe(tensors: tuple[EngineTensor, ...]) -> str:
    """``64x56x56 int8 chw32`` of the first tensor, and how many there are beside it."""
    if not tensors:
        return ""
    one = tensors[0]
    sides = "x".join(str(side) for side in (one.shape[1:] if len(one.shape) > 1 else one.shape))
    text = " ".join(part for part in (sides, one.dtype, one.layout) if part)
    return text + (f" (+{len(tensors) - 1})" if len(tensors) > 1 else "")


def to_text(graph: EngineGraph, times_ms: Mapping[str, float] | None = None) -> str:
    """Aligned columns for a terminal or a log."""
    table = rows(graph, times_ms)
    columns = ["layer", "kind", "precision", "input", "output"] + (["ms", "share"] if times_ms else [])
    cells = [[_cell(row.get(name), name) for name in columns] for row in table]
    widths = [max(len(name), *(len(row[index]) for row in cells)) for index, name in enumerate(columns)]
    lines = ["  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True))]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any, column: str) -> str:
    if value is None:
        return ""
    if column == "ms":
        return f"{value:.4f}"
    if column == "share":
        return f"{value:.1%}"
    text = str(value)
    return text if len(text) <= 48 else text[:45] + "..."
