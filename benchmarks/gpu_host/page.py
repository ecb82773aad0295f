"""The page of an engine benchmark, from its JSON: ``python -m benchmarks.gpu_host.page bench.json bench.md``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COMPUTE_LIMIT = 0.03
Row = dict[str, Any]


def write_page(body: Row, path: Path) -> None:
    """Write the tables."""
    path.write_text("\n".join(_lines(body)) + "\n", encoding="utf-8")


def _lines(body: Row) -> list[str]:
    emulated = f"emulated: {body['emulate']} on this host, never a Jetson's milliseconds"
    gpu = f"{body['gpu']}, driver for CUDA {body['driver']}, TensorRT {body['tensorrt']}"
    lines = [
        f"# TensorRT engines on a GPU host ({emulated if body['emulate'] else 'measured'})\n",
        f"{gpu}, tactics {body['tactics']}, tuned for batch {body['typical']}, FP32 without TF32. "
        "Times are medians in milliseconds.\n",
    ]
    for key, model in body["models"].items():
        lines.append(f"\n## {key}\n")
        lines += _model(model) if "error" not in model else ["failed:\n", *_indented(model["error"])]
    cache = body.get("cache")
    if cache:
        lines.append(
            f"\nTiming cache ({cache['file']}): cold {cache['cold_s']:.1f} s, warm {cache['warm_s']:.1f} s, "
            f"{cache['times']:.1f} times faster (wanted: 5).\n"
        )
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _model(model: Row) -> list[str]:
    lines = [*_latencies(model), *_ratios(model), *_bare(model), *_built(model)]
    lines += [f"\nNot built: {row['variant']} ({row['file']}): {row['why']}" for row in model["failed"]]
    for name, rows in model.get("layers", {}).items():
        top = "; ".join(f"{layer} ({operator}) {share:.0%}" for layer, operator, _, share in rows[:4])
        lines.append(f"\nMost time in {name}, batch 1: {top}")
    return lines


def _table(columns: str, rows: list[list[Any]]) -> list[str]:
    names = columns.split(", ")
    lines = ["", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]


def _latencies(model: Row) -> list[str]:
    rows = []
    for row in model["latency"]:
        if "phases" not in row:
            continue
        phases = [_ms(row["phases"].get(name)) for name in ("compute", "h2d", "d2h", "end_to_end")]
        moved = "unknown" if row["clocks"] is None else "yes" if row["clocks"]["moved"] else "no"
        energy = f"{row['joules'] * 1000:.2f}" if row["joules"] else ""
        head = [row["variant"], row["batch"], row["graph"], phases[0], _ms(row["p50"])]
        rows.append([*head, *phases[1:], moved, energy])
    names = "variant, batch, graph, compute, without transfers, H2D, D2H, end to end, clocks moved, mJ per run"
    return _table(names, rows)


def _ratios(model: Row) -> list[str]:
    rows = []
    for row in model["ratios"]:
        low, high = row["interval"]
        cells = [row["faster"], row["than"], row["batch"], row["graph"]]
        rows.append([*cells, f"{row['times']:.2f}", f"{low:.2f} to {high:.2f}"])
    return _table("variant, than, batch, graph, times faster, interval", rows)


def _bare(model: Row) -> list[str]:
    rows = []
    for row in model["latency"]:
        if "bare" in row:
            ratio = row["compute"] / row["bare"]
            mark = "" if abs(ratio - 1) <= COMPUTE_LIMIT else " (missed)"
            other = _ms(row["trtexec"]) or "not installed"
            cells = [row["variant"], row["batch"], _ms(row["compute"]), _ms(row["bare"])]
            rows.append([*cells, f"{ratio:.3f}{mark}", other])
    return _table("variant, batch, compute as reported, CUDA events alone, ratio, trtexec", rows) if rows else []


def _built(model: Row) -> list[str]:
    rows = []
    for row in model["built"]:
        rules = [finding["rule"] for finding in row["findings"]]
        counts = ", ".join(f"{rules.count(rule)} {rule}" for rule in sorted(set(rules))) or "none"
        size = f"{row['engine_bytes'] / 1e6:.2f}"
        rows.append([row["variant"], f"{row['build_s']:.1f}", size, row["wire_output"], counts])
    return _table("variant, build in s, plan in MB, wire, warnings of the lint", rows)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    write_page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
