"""A sweep's table as Markdown, and its Pareto plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.optional import require
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.sections import evidence, text
from toolkit.sweeps.table import Group, Row, collect_groups, write_rows

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000", "#994f00")
COLUMNS = (
    "method", "mAP", "rank-1", "change of mAP", "edge MACs", "wire", "coded", "R²", "normalized SSIM",
    "change of SSIM",
)  # fmt: skip


def write_report(sweep: Sweep) -> tuple[Path, Path]:
    """Write ``table.md``, ``table.json`` and ``pareto.png`` of what is finished; paths of table and plot."""
    groups = collect_groups(sweep)
    rows = [entry.row for group in groups for entry in group.entries]
    write_rows(rows, sweep.root / "table.json")
    table = sweep.root / "table.md"
    table.write_text(to_markdown(sweep, groups), encoding="utf-8")
    plot = sweep.root / "pareto.png"
    plot_rows(rows, plot)
    return table, plot


def to_markdown(sweep: Sweep, groups: Sequence[Group]) -> str:
    """Rows in the order of the methods, one table for every point of the axes, and what they prove."""
    rows = [entry.row for group in groups for entry in group.entries]
    seeds = sorted({row.seeds for row in rows})
    reference = sweep.settings.reference
    lines = [
        f"# {sweep.settings.name}",
        "",
        f"{_count(seeds)} seeds a row. In brackets: 95 % intervals over identities. Changes are to {reference}, "
        "paired over queries and pictures. R² and normalized SSIM are those of the strongest attacker on the "
        "codes that are sent: 0 is what can be had without them, 1 the picture itself. MACs are the "
        "edge half's.",
    ]
    for point in list(dict.fromkeys(tuple(row.point.items()) for row in rows)):
        title = ", ".join(f"{name} {value}" for name, value in point)
        lines += ["", *([f"## {title}", ""] if title else [])]
        lines += ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
        lines += [_line(row) for row in rows if tuple(row.point.items()) == point]
    lines += ["", *evidence(groups, sweep.settings.evidence), *_notes(rows)]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    over = " (over)" if row.budget is not None and row.macs > row.budget * 1.0001 else ""
    cells = (
        row.method,
        text(row.map),
        text(row.rank1),
        text(row.map_change, sign=True),
        f"{row.macs / 1e6:.2f} M{over}",
        f"{row.bytes_raw:,.0f} B",
        f"{row.bytes_entropy:,.0f} B",
        text(row.r2),
        text(row.ssim),
        text(row.ssim_change, sign=True),
    )
    return "| " + " | ".join(cells) + " |"


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    budgets = sorted({row.budget for row in rows if row.budget is not None})
    if budgets:
        notes.append(
            "Edge budget of the pruned rows: " + ", ".join(f"{b / 1e6:.2f} M" for b in budgets) + " MACs."
        )
    if any(row.seeds > 1 for row in rows):
        spread = max(row.map_spread for row in rows), max(row.ssim_spread for row in rows)
        notes.append(
            f"Standard deviation over seeds: up to {spread[0]:.3f} of mAP, {spread[1]:.3f} of normalized SSIM."
        )
    worst = sorted({label for row in rows for label in row.attackers})
    notes.append(f"Strongest attackers: {', '.join(worst)}.")
    if any(row.converged < 1 for row in rows):
        notes.append("Convergence of the attackers was not tested everywhere, so the leakage may be too low.")
    return notes


def _count(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other beats in both mAP and leakage, by falling leakage."""
    best = [
        row
        for row in rows
        if not any(
            other.map.value >= row.map.value
            and other.ssim.value <= row.ssim.value
            and (other.map.value, other.ssim.value) != (row.map.value, row.ssim.value)
            for other in rows
        )
    ]
    return sorted(best, key=lambda row: row.ssim.value)


def plot_rows(rows: Sequence[Row], path: Path) -> None:
    """mAP against worst-case leakage with intervals; the line is the front."""
    figures = require("matplotlib.figure", "host")
    figure = figures.Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    methods = list(dict.fromkeys(row.method for row in rows))
    for number, method in enumerate(methods):
        own = [row for row in rows if row.method == method]
        x, y = [row.ssim.value for row in own], [row.map.value for row in own]
        spread = {
            "xerr": [[r.ssim.value - r.ssim.low for r in own], [r.ssim.high - r.ssim.value for r in own]],
            "yerr": [[r.map.value - r.map.low for r in own], [r.map.high - r.map.value for r in own]],
        }
        colour = COLOURS[number % len(COLOURS)]
        axis.errorbar(x, y, **spread, fmt="o", color=colour, label=method, capsize=2, elinewidth=0.8)
        for row in own:
            text = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in row.point.items())
            axis.annotate(text, (row.ssim.value, row.map.value), fontsize=7, xytext=(4, 4),
                          textcoords="offset points")  # fmt: skip
    edge = front(rows)
    axis.plot([r.ssim.value for r in edge], [r.map.value for r in edge], color="0.6", linewidth=0.8, zorder=0)
    axis.set_xlabel("normalized SSIM of the strongest attacker (less is more private)")
    axis.set_ylabel("mAP")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25)
    figure.savefig(str(path), dpi=120)
