"""A plan of cuts as a picture: what every cut takes, what it leaks where known, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.optional import require
from toolkit.planning.splits import EdgeLimits, Split

EDGE, WIRE, CLOUD, LIMIT, MEMORY, PRIVACY = "#4477aa", "#ddaa33", "#bbbbbb", "#aa3377", "#228833", "#cc3311"


def plot_splits(splits: Sequence[Split], limits: EdgeLimits, path: Path) -> None:
    """Write the picture; its format follows the suffix (svg, png, pdf).

    Above: the edge's time with its interval, and over each cut that breaks a limit what PATROL may keep of its
    channels for it to fit. In the middle: all times. Below: memory, and privacy where it is known.
    """
    figures = require("matplotlib.figure", "host")
    figure = figures.Figure(figsize=(max(6.0, 0.6 * len(splits) + 2), 8.5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    _edge(axes[0], splits, limits)
    _times(axes[1], splits)
    _memory(axes[2], splits, limits)
    axes[2].set_xticks(range(len(splits)), [split.cut for split in splits], rotation=60, ha="right", fontsize=8)
    figure.savefig(str(path), dpi=110)


def _edge(axis: Any, splits: Sequence[Split], limits: EdgeLimits) -> None:
    at = range(len(splits))
    found = [split.edge.latency_ms for split in splits]
    errors = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
    hatches = ["//" if split.over else "" for split in splits]
    values = [one.value for one in found]
    axis.bar(at, values, color=EDGE, hatch=hatches, yerr=errors, ecolor="0.3", label="edge (predicted, 90 %)")
    if limits.ms is not None:
        axis.axhline(limits.ms, color=LIMIT, linewidth=1, label=f"limit, {limits.ms:g} ms")
    for x, split in zip(at, splits, strict=True):
        if split.over:
            axis.annotate(kept(split), (x, split.edge.latency_ms.high), ha="center", va="bottom", fontsize=7)
    axis.margins(y=0.15)
    first = splits[0].edge
    title = f"{first.module}, {first.mode}, {first.precision}"
    if any(split.over for split in splits):
        title += "; hatched: breaks a limit, above it what PATROL may keep of the channels"
    axis.set_title(title, fontsize=8)
    axis.set_ylabel("ms")
    axis.legend(fontsize=8, loc="upper left")


def kept(split: Split) -> str:
    """What PATROL may keep of a cut's channels for it to fit, in a few letters."""
    return "none fits" if split.fitting_width is None else f"keep {split.fitting_width:.0%}"


def _times(axis: Any, splits: Sequence[Split]) -> None:
    at = range(len(splits))
    edge, wire = [split.edge.latency_ms.value for split in splits], [split.wire_ms for split in splits]
    axis.bar(at, edge, color=EDGE, label="edge (predicted)")
    axis.bar(at, wire, bottom=edge, color=WIRE, label="wire and round trip")
    if any(split.cloud_ms for split in splits):
        bottom = [a + b for a, b in zip(edge, wire, strict=True)]
        axis.bar(at, [split.cloud_ms or 0.0 for split in splits], bottom=bottom, color=CLOUD, label="cloud")
    axis.set_ylabel("ms")
    axis.legend(fontsize=8, loc="upper right")


def _memory(axis: Any, splits: Sequence[Split], limits: EdgeLimits) -> None:
    found = [split.edge.memory_mb for split in splits]
    errors = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
    values = [one.value for one in found]
    axis.bar(range(len(splits)), values, color=MEMORY, yerr=errors, ecolor="0.3", label="memory (predicted)")
    if limits.mb is not None:
        axis.axhline(limits.mb, color=LIMIT, linewidth=1, label=f"limit, {limits.mb:g} MB")
    axis.margins(y=0.25)
    axis.set_ylabel("MB")
    axis.legend(fontsize=8, loc="upper left")
    known = [(x, split.privacy) for x, split in enumerate(splits) if split.privacy is not None]
    if known:
        beside = axis.twinx()
        beside.plot(*zip(*known, strict=True), "o", color=PRIVACY, label="privacy, as given")
        beside.set_ylabel("privacy")
        beside.legend(fontsize=8, loc="upper right")
