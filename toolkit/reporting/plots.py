"""The charts of a report. Each takes numbers and returns a :class:`~toolkit.reporting.svg.Chart`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.optional import require
from toolkit.reporting import numbers
from toolkit.reporting.input import Curve, LatencyRatio, LayerChannels
from toolkit.reporting.labels import distinct, short
from toolkit.reporting.svg import DASHES, GRID, INK, MARKERS, MUTED, SERIES, Chart, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")
MAX_POINTS = 300
MAX_BARS = 40


@dataclass(frozen=True)
class Point:
    """A variant between two measures, with their 95 % intervals."""

    label: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def curves_chart(
    name: str, caption: str, curves: dict[str, Curve], y_label: str = "", x_label: str = "step"
) -> Chart | None:
    """Lines over steps; a logarithmic axis where the values span more than two decades. None without points."""
    drawn = {label: _points(curve) for label, curve in curves.items()}
    drawn = {label: points for label, points in drawn.items() if len(points)}
    if not drawn:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (label, points) in enumerate(drawn.items()):
            single = "o" if len(points) == 1 else ""
            axes.plot(points[:, 0], points[:, 1], label=label, marker=single, markersize=4, **_series(index))
        values = np.concatenate([points[:, 1] for points in drawn.values()])
        if values.min() > 0 and values.max() > 100 * values.min():
            _log(axes, axes.yaxis)
        axes.set_xlabel(x_label)
        if y_label:
            axes.set_ylabel(y_label)
        axes.grid(axis="x", visible=False)
        if len(drawn) > 1:
            _legend(axes, len(drawn))

    ends = "; ".join(
        f"{label} from {numbers.text(points[0, 1])} at {x_label} {points[0, 0]:g}"
        f" to {numbers.text(points[-1, 1])} at {x_label} {points[-1, 0]:g}"
        for label, points in drawn.items()
    )
    return draw(name, caption, f"Line chart. {ends}.", 1.9 + 0.16 * (len(drawn) > 1), paint)


def bars_chart(
    name: str,
    caption: str,
    values: Sequence[tuple[str, float]],
    unit: str,
    show: Literal["largest", "smallest"] = "largest",
) -> Chart | None:
    """Horizontal bars in the given order, of many the ``show`` ones; None without values."""
    finite = [(label, value) for label, value in values if np.isfinite(value)]
    if not finite:
        return None
    sign = 1 if show == "largest" else -1
    shown = _most(finite, lambda entry: sign * entry[1])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        heights = [value for _, value in shown]
        axes.barh(range(len(shown)), heights, height=0.7, color=SERIES[0])
        _rows(axes, [label for label, _ in shown])
        axes.set_xlabel(unit)
        if min(heights) > 0 and max(heights) > 1000 * min(heights):
            _log(axes, axes.xaxis)

    largest = max(shown, key=lambda entry: entry[1])
    alt = (
        f"Bar chart of {len(shown)} values in {unit}. The largest is {largest[0]} with {numbers.text(largest[1])}."
    )
    if len(shown) < len(values):
        caption = f"{caption} The {len(shown)} {show} of {len(values)}."
    return draw(name, caption, alt, 0.55 + 0.17 * len(shown), paint)


def channels_chart(name: str, caption: str, layers: Sequence[LayerChannels]) -> Chart | None:
    """Channels before (outline) and after (filled), one row per layer."""
    if not layers:
        return None
    shown = _most(layers, lambda layer: layer.before - layer.after)
    if len(shown) < len(layers):
        caption = f"{caption} The {len(shown)} of {len(layers)} layers that lost most."

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        rows = range(len(shown))
        outline: dict[str, Any] = {"color": "none", "edgecolor": MUTED, "linewidth": 0.8}
        axes.barh(rows, [layer.before for layer in shown], height=0.7, label="before", **outline)
        axes.barh(rows, [layer.after for layer in shown], height=0.7, color=SERIES[0], label="after")
        _rows(axes, [layer.layer for layer in shown])
        axes.set_xlabel("channels")
        _legend(axes, 2)

    before, after = sum(layer.before for layer in layers), sum(layer.after for layer in layers)
    alt = f"Bar chart of channels in {len(layers)} layers: {before} before and {after} after slimming, in sum."
    return draw(name, caption, alt, 0.75 + 0.17 * len(shown), paint)


def latency_chart(name: str, caption: str, samples: dict[str, NDArray[np.floating]]) -> Chart | None:
    """One histogram per variant over a common axis, with its median and 99th percentile."""
    kept = {label: values[np.isfinite(values)] for label, values in samples.items()}
    kept = {label: values for label, values in kept.items() if values.size}
    if not kept:
        return None
    low = min(float(values.min()) for values in kept.values())
    high = max(float(np.percentile(values, 99.5)) for values in kept.values())
    high = max(high, low * 1.02, low + 1e-6)
    log = low > 0 and high > 8 * low
    edges = np.geomspace(low, high, 61) if log else np.linspace(low, high, 61)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(kept), 1, sharex=True, squeeze=False)
        for index, (axes, (label, values)) in enumerate(zip(grid[:, 0], kept.items(), strict=True)):
            color = SERIES[index % len(SERIES)]
            axes.hist(np.clip(values, low, high), edges, color=color)
            axes.axvline(np.median(values), color=INK, linewidth=1.2)
            axes.axvline(
                min(float(np.percentile(values, 99)), high), color=INK, linewidth=1, linestyle=(0, (2, 2))
            )
            axes.set_title(short(label, 44), loc="left", color=INK, fontsize=8.5)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        if log:
            _log(grid[-1, 0], grid[-1, 0].xaxis)
        grid[-1, 0].set_xlabel("ms per picture" + (" (logarithmic)" if log else ""))

    medians = "; ".join(
        f"{label}: median {numbers.text(float(np.median(values)), 'ms')},"
        f" 99th percentile {numbers.text(float(np.percentile(values, 99)), 'ms')} of {values.size} runs"
        for label, values in kept.items()
    )
    return draw(name, caption, f"Histograms. {medians}.", 0.5 + 0.75 * len(kept), paint)


def intervals_chart(
    name: str,
    caption: str,
    rows: Sequence[tuple[str, float, tuple[float, float] | None]],
    x_label: str,
    line: float | None = None,
    line_label: str = "",
) -> Chart | None:
    """Points with their intervals, one per row, and a line to compare them with."""
    if not rows:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (_, value, interval) in enumerate(rows):
            if interval is not None:
                axes.plot(interval, (index, index), color=SERIES[0], linewidth=2.2, solid_capstyle="butt")
            axes.plot(value, index, marker="o", markersize=5.5, color=SERIES[0])
        if line is not None:
            axes.axvline(line, color=SERIES[1], linewidth=1.2, linestyle=DASHES[1], label=line_label)
            if line_label:
                _legend(axes, 1)
        _rows(axes, [label for label, _, _ in rows])
        axes.margins(x=0.08)
        axes.set_xlabel(x_label)

    alt = "; ".join(f"{label}: {numbers.text(value)}" for label, value, _ in rows)
    return draw(name, caption, f"Points with intervals, {x_label}. {alt}.", 0.65 + 0.24 * len(rows), paint)


def ratios_chart(name: str, caption: str, ratios: Sequence[LatencyRatio], titles: dict[str, str]) -> Chart | None:
    """Interleaved ratios with the line of equal speed."""
    rows = [
        (f"{titles.get(r.variant, r.variant)} / {titles.get(r.reference, r.reference)}", r.ratio, r.interval)
        for r in ratios
    ]
    return intervals_chart(name, caption, rows, "ratio of medians (below 1 is faster)", 1.0, "equal")


def tradeoff_chart(name: str, caption: str, points: Sequence[Point], x_label: str, y_label: str) -> Chart | None:
    """Variants between privacy (x, lower is better) and utility (y, higher is better), with the Pareto front."""
    if len(points) < 2:
        return None
    front = _front(points)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.step(
            [point.x for point in front],
            [point.y for point in front],
            where="post",
            color=GRID,
            linewidth=2,
            zorder=1,
        )
        for index, point in enumerate(points):
            color = SERIES[index % len(SERIES)]
            thin: dict[str, Any] = {"color": color, "linewidth": 1, "alpha": 0.55}
            if point.x_interval is not None:
                axes.plot(point.x_interval, (point.y, point.y), **thin)
            if point.y_interval is not None:
                axes.plot((point.x, point.x), point.y_interval, **thin)
            turn = index + index // len(SERIES)  # so that no two of 36 variants look alike
            mark: dict[str, Any] = {"marker": MARKERS[turn % len(MARKERS)], "markersize": 7, "linestyle": "none"}
            axes.plot(point.x, point.y, color=color, label=short(point.label), **mark)
        axes.margins(0.15)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes, len(points), columns=2)

    alt = "; ".join(
        f"{point.label}: {x_label} {numbers.text(point.x)}, {y_label} {numbers.text(point.y)}" for point in points
    )
    return draw(name, caption, f"Scatter plot. {alt}.", 2.5 + 0.17 * ((len(points) + 1) // 2), paint)


def _front(points: Sequence[Point]) -> list[Point]:
    front: list[Point] = []
    for point in sorted(points, key=lambda entry: (entry.x, -entry.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def _points(curve: Curve) -> NDArray[np.float64]:
    """Finite points, thinned to at most :data:`MAX_POINTS` with both ends kept."""
    points = np.asarray([(float(step), float(value)) for step, value in curve], dtype=np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) > MAX_POINTS:
        points = points[np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)]
    return points


def _series(index: int) -> dict[str, Any]:
    turn = index + index // len(SERIES)
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[turn % len(DASHES)]}


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [short(label) for label in distinct(labels)])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _legend(axes: Axes, entries: int, columns: int = 3) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(columns, entries), borderaxespad=0.1)


def _log(axes: Axes, axis: Any) -> None:
    """A logarithmic axis with plain numbers: 1, 2 and 5 of each decade while these are few, else every decade."""
    ticker = require("matplotlib.ticker", "host")
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,), numticks=8))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _most(entries: Sequence[T], size: Callable[[T], float]) -> list[T]:
    """The :data:`MAX_BARS` largest, in their own order."""
    if len(entries) <= MAX_BARS:
        return list(entries)
    chosen = sorted(range(len(entries)), key=lambda index: -size(entries[index]))[:MAX_BARS]
    return [entries[index] for index in sorted(chosen)]
