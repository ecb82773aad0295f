"""A plan of cuts as a picture: edge, wire and cloud time of every cut, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.optional import require
from toolkit.planning.splits import EdgeLimits, Split

EDGE = "#4477aa"


def plot_splits(splits: Sequence[Split], limits: EdgeLimits, path: Path) -> None:
    """Write the picture; its format follows the suffix (svg, png, pdf)."""
    figures = require("matplotlib.figure", "host")
    figure = figures.Figure(figsize=(max(5.0, 0.6 * len(splits) + 2), 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    at = range(len(splits))
    found = [split.edge.latency_ms for split in splits]
    edge, wire = [one.value for one in found], [split.wire_ms for split in splits]
    errors = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
    hatches = ["//" if split.over else "" for split in splits]
    above.bar(at, edge, color=EDGE, hatch=hatches, yerr=errors, ecolor="0.3", label="edge (predicted, 90 %)")
    if limits.ms is not None:
        above.axhline(limits.ms, color="#aa3377", linewidth=1, label=f"limit, {limits.ms:g} ms")
    below.bar(at, edge, color=EDGE, label="edge (predicted)")
    below.bar(at, wire, bottom=edge, color="#ddaa33", label="wire and round trip")
    if any(split.cloud_ms for split in splits):
        bottom = [a + b for a, b in zip(edge, wire, strict=True)]
        below.bar(at, [split.cloud_ms or 0.0 for split in splits], bottom=bottom, color="#bbbbbb", label="cloud")
    below.set_xticks(list(at), [split.cut for split in splits], rotation=60, ha="right", fontsize=8)
    first = splits[0].edge
    above.set_title(f"{first.module}, {first.mode}, {first.precision}; hatched: breaks a limit", fontsize=9)
    for axis in (above, below):
        axis.set_ylabel("ms")
        axis.legend(fontsize=8, loc="upper left" if axis is above else "upper right")
    figure.savefig(str(path), dpi=110)
