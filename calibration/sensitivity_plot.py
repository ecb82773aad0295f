"""Sensitivity as a plot: per layer one dot for what it costs alone, one for what leaving it out brings."""

from __future__ import annotations

from html import escape

from calibration.sensitivity import Sensitivity

ROW, TOP, LEFT, WIDTH, RIGHT = 22, 64, 300, 420, 90
ALONE, WITHOUT, INK, GRID = "#b3541e", "#1f6f8b", "#222222", "#dddddd"
STYLE = f"font-family='DejaVu Sans, Arial, sans-serif' font-size='12' fill='{INK}'"


def sensitivity_svg(measured: Sensitivity, unit: str) -> str:
    """The table of ``measured`` as one self-contained SVG, layers in the order of the network.

    Args:
        measured: from :func:`calibration.sensitivity.sensitivity`.
        unit: of the score, for the axis, e.g. ``dB SQNR`` or ``mAP``.
    """
    rows = measured.layers
    values = [value for row in rows for value in (row.loss_only, row.gain_without, 0.0)] or [0.0]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return LEFT + (value - low) / span * WIDTH

    height = TOP + ROW * len(rows) + 40
    loss = measured.float_score - measured.int8_score
    title = f"Float {measured.float_score:.4g}, all INT8 {measured.int8_score:.4g}: {loss:.4g} {unit} lost"
    size = f"width='{LEFT + WIDTH + RIGHT}' height='{height}'"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' {size} viewBox='0 0 {LEFT + WIDTH + RIGHT} {height}' {STYLE}>",
        "<rect width='100%' height='100%' fill='white'/>",
        f"<text x='12' y='20' font-weight='bold'>{escape(title)}</text>",
        *_legend(unit),
    ]
    bottom = TOP + ROW * len(rows)
    for tick in sorted({low, 0.0, high}):
        x = place(tick)
        parts.append(f"<line x1='{x:.1f}' y1='{TOP - 6}' x2='{x:.1f}' y2='{bottom}' stroke='{GRID}'/>")
        parts.append(f"<text x='{x:.1f}' y='{bottom + 18}' text-anchor='middle'>{tick:.3g}</text>")
    for number, row in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        name = row.layer if len(row.layer) <= 42 else "..." + row.layer[-39:]
        parts.append(f"<text x='{LEFT - 12}' y='{y + 4:.1f}' text-anchor='end'>{escape(name)}</text>")
        parts += _dots(place(row.loss_only), place(row.gain_without), y)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(unit: str) -> list[str]:
    alone, without = f"lost when it alone is INT8 ({unit})", "won when it alone is left float"
    return [
        f"<circle cx='18' cy='38' r='5' fill='{ALONE}'/><text x='30' y='42'>{escape(alone)}</text>",
        f"<circle cx='338' cy='38' r='5' fill='none' stroke='{WITHOUT}' stroke-width='2'/>"
        f"<text x='350' y='42'>{escape(without)}</text>",
    ]


def _dots(alone: float, without: float, y: float) -> list[str]:
    return [
        f"<line x1='{alone:.1f}' y1='{y:.1f}' x2='{without:.1f}' y2='{y:.1f}' stroke='{GRID}' stroke-width='2'/>",
        f"<circle cx='{alone:.1f}' cy='{y:.1f}' r='5' fill='{ALONE}'/>",
        f"<circle cx='{without:.1f}' cy='{y:.1f}' r='5' fill='none' stroke='{WITHOUT}' stroke-width='2'/>",
    ]
