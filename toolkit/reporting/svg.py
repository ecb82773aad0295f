"""Matplotlib figures as small inline SVG that follow the page: its font, its width, light and dark.

Figures are drawn in marker colours that are then replaced by CSS variables of the page, so that one SVG serves
both colour schemes. Text stays text (selectable, readable by assistive software).
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 4.6
"""Inches; 331 units wide, so that 9-point text is readable on a phone without scaling."""

INK, MUTED, GRID, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
SERIES = ("#0d0e01", "#0d0e02", "#0d0e03", "#0d0e04", "#0d0e05", "#0d0e06")
DASHES = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    color: f"--s{index}" for index, color in enumerate(SERIES, start=1)
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Chart:
    """A drawn figure.

    Attributes:
        name: stable, used for identifiers.
        caption: what is shown, for everybody.
        alt: what there is to be seen, for those who cannot see it.
        svg: the markup, without fixed size.
    """

    name: str
    caption: str
    alt: str
    svg: str


def draw(name: str, caption: str, alt: str, height: float, paint: Callable[[Figure], None]) -> Chart:
    """Let ``paint`` draw on a figure of ``height`` inches and return it as a chart."""
    with _figure(name, height) as figure:
        paint(figure)
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return Chart(name, caption, alt, _inline(buffer.getvalue(), name, alt))


@contextmanager
def _figure(name: str, height: float) -> Iterator[Figure]:
    matplotlib = require("matplotlib", "host")
    figures = require("matplotlib.figure", "host")
    with _LOCK, matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield figures.Figure(figsize=(WIDTH, height), layout="constrained")


def _inline(text: str, name: str, alt: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    view = re.search(r'viewBox="([^"]+)"', text)
    box = view[1] if view else ""
    label = alt.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    opening = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" role="img" aria-label="{label}">'
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)
    return re.sub(r"\n\s*", "\n", text).strip()
