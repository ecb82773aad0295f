"""What the template can show: sections made of paragraphs, charts, tables, grids and listings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from toolkit.reporting.pictures import ShownGrid
from toolkit.reporting.svg import Chart

MAX_ROWS = 400
OPEN_ROWS = 16
BESIDE_LENGTH = 24
"""Longest text, in characters, of a table that stands beside a chart."""


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers are set to the right."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Block:
    """One thing of a section; ``kind`` names the macro that writes it."""

    kind: str
    title: str = ""
    text: str = ""
    charts: tuple[Chart, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    closed: bool = False
    grid: ShownGrid | None = None
    source: str = ""


@dataclass
class Section:
    """A part of the report with its anchor."""

    anchor: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A paragraph; nothing for an empty text."""
        if text:
            self.blocks.append(Block("paragraph", text=text))

    def head(self, title: str) -> None:
        """A heading inside the section."""
        self.blocks.append(Block("heading", title=title))

    def chart(self, *charts: Chart | None) -> None:
        """Charts side by side where there is room; those without data are left out."""
        drawn = tuple(chart for chart in charts if chart is not None)
        if drawn:
            self.blocks.append(Block("charts", charts=drawn))

    def more_charts(self, title: str, *charts: Chart | None) -> None:
        """Charts that few readers need, closed at first."""
        drawn = tuple(chart for chart in charts if chart is not None)
        if drawn:
            self.blocks.append(Block("more_charts", title=title, charts=drawn, closed=True))

    def table(self, caption: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
        """A table; a column whose title starts with ``#`` holds numbers. Long tables are closed at first.

        Lines of a cell after the first are set small.
        """
        if rows:
            self.blocks.append(_table(caption, columns, rows))

    def beside(
        self, chart: Chart | None, caption: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]
    ) -> None:
        """A chart with its table beside it, where there is room; a table with long texts goes below it."""
        wide = any(len(cell) > BESIDE_LENGTH for row in rows for cell in row[1:])
        if chart is None or wide or len(rows) > OPEN_ROWS:
            self.chart(chart)
            self.table(caption, columns, rows)
            return
        self.blocks.append(replace(_table(caption, columns, rows), kind="beside", charts=(chart,)))

    def grid(self, caption: str, grid: ShownGrid) -> None:
        """A picture grid."""
        self.blocks.append(Block("grid", title=caption, grid=grid))

    def picture(self, caption: str, source: str) -> None:
        """One picture."""
        self.blocks.append(Block("picture", title=caption, source=source))

    def listing(self, caption: str, text: str) -> None:
        """Text as it is, closed at first."""
        if text:
            self.blocks.append(Block("listing", title=caption, text=text, closed=True))


def _table(caption: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Block:
    heads = tuple(Column(title.removeprefix("#"), title.startswith("#")) for title in columns)
    if len(rows) > MAX_ROWS:
        caption = f"{caption} The first {MAX_ROWS} of {len(rows)} rows."
    closed = len(rows) > OPEN_ROWS
    return Block("table", title=caption, columns=heads, rows=tuple(rows[:MAX_ROWS]), closed=closed)
