"""Reports: one self-contained HTML file, and Markdown for pull requests."""

from toolkit.reporting.compare import compare_runs
from toolkit.reporting.html import render_report
from toolkit.reporting.input import (
    Anchors,
    Attacker,
    Fact,
    LatencyRatio,
    LayerChannels,
    LayerTime,
    PictureGrid,
    PictureRow,
    QuantizationDecision,
    ReportInput,
    ReportVariant,
    Table,
)
from toolkit.reporting.markdown import write_markdown

__all__ = [
    "Anchors",
    "Attacker",
    "Fact",
    "LatencyRatio",
    "LayerChannels",
    "LayerTime",
    "PictureGrid",
    "PictureRow",
    "QuantizationDecision",
    "ReportInput",
    "ReportVariant",
    "Table",
    "compare_runs",
    "render_report",
    "write_markdown",
]
