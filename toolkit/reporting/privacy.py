"""The sections on privacy: attackers, floor, anchors, and the pictures they made."""

from __future__ import annotations

from toolkit.metrics import Metric
from toolkit.reporting import numbers, plots
from toolkit.reporting.blocks import Section
from toolkit.reporting.input import Attacker, PictureGrid, ReportInput
from toolkit.reporting.pictures import data_uri, show_grid
from toolkit.reporting.words import best_metric

COLUMNS = ("variant", "attacker", "#normalized SSIM", "#SSIM", "#R²", "#PSNR", "#n", "converged", "note")
SHOWN = ("privacy.ssim_normalized", "privacy.ssim", "privacy.r2", "privacy.psnr")


def privacy(data: ReportInput, publish: bool) -> Section:
    """Attackers, trade-off, convergence and anchors."""
    section = Section("privacy", "Privacy")
    pairs = _pairs(data)
    if pairs:
        section.say(
            "A privacy number is an attack's failure, so it is as good as the attack. Normalized SSIM is 0 for"
            " what can be had without the codes (the floor) and 1 for the picture itself; R² is 0 for the mean"
            " picture. Lower is more private."
        )
    normalized = [
        (f"{data.title_of(variant)}: {attacker}", metric.value, metric.interval)
        for variant, attacker in pairs
        if (metric := _one(data, SHOWN[0], variant, attacker)) is not None
    ]
    section.chart(
        plots.intervals_chart(
            "attackers",
            "What each attacker rebuilds.",
            normalized,
            "normalized SSIM",
            0.0,
            "floor: without the codes",
        ),
        _tradeoff(data),
    )
    caption = f"Every attack on every variant, {_origins(data)}, with 95 % intervals."
    section.table(caption, COLUMNS, [_attack_row(data, *pair) for pair in pairs])
    _convergence(section, data)
    _anchors(section, data, publish)
    return section


def pictures(data: ReportInput, publish: bool, budget: int) -> Section:
    """The picture grid, and crops of plates."""
    section = Section("pictures", "Pictures")
    if publish and data.contains_real_pictures and (data.pictures or data.plates):
        section.say("The pictures of this run show real roads and are left out of this published report.")
        return section
    _grid(section, data.pictures, "Originals and reconstructions", "Picture", budget * 2 // 3)
    _grid(section, data.plates, "Number plates", "Plate", budget // 3)
    return section


def _grid(section: Section, grid: PictureGrid | None, title: str, what: str, budget: int) -> None:
    if grid is None:
        return
    shown = show_grid(grid, budget, what)
    section.head(title)
    section.say(grid.note)
    if shown.left_out:
        section.say(f"{shown.left_out} more pictures did not fit into this file.")
    section.grid(title, shown)


def _pairs(data: ReportInput) -> list[tuple[str, str]]:
    """(variant, attacker) in the order of the variants."""
    order = {variant.key: index for index, variant in enumerate(data.variants)}
    found = {(metric.variant, metric.protocol) for metric in data.metrics if metric.name in SHOWN}
    found |= {(attacker.variant, attacker.name) for attacker in data.attackers}
    return sorted(found, key=lambda pair: (order.get(pair[0], len(order)), pair))


def _one(data: ReportInput, name: str, variant: str, attacker: str) -> Metric | None:
    found = data.metrics.find(name, variant, attacker)
    return found[0] if found else None


def _attack_row(data: ReportInput, variant: str, attacker: str) -> tuple[str, ...]:
    metrics = [_one(data, name, variant, attacker) for name in SHOWN]
    cells = [_with_spread(metric) for metric in metrics]
    count = next((metric.n for metric in metrics if metric is not None), None)
    run = next((run for run in data.attackers if (run.variant, run.name) == (variant, attacker)), None)
    return (
        data.title_of(variant),
        attacker,
        *cells,
        "" if count is None else f"{count:,}",
        _converged(data, variant, attacker, run),
        run.note if run else "",
    )


def _origins(data: ReportInput) -> str:
    found = {
        f"{metric.provenance} on {metric.machine}" if metric.machine else metric.provenance
        for metric in data.metrics
        if metric.name in SHOWN
    }
    return " and ".join(sorted(found)) or "measured"


def _converged(data: ReportInput, variant: str, attacker: str, run: Attacker | None) -> str:
    found = _one(data, "privacy.converged", variant, attacker)
    state = found.value >= 1 if found is not None else (run.converged if run else None)
    return {True: "yes", False: "NO: proves nothing", None: "unknown"}[state]


def _with_spread(metric: Metric | None) -> str:
    if metric is None:
        return "\N{EN DASH}"
    spread = f" ({numbers.spread(metric)})" if metric.interval else ""
    return numbers.text(metric.value, metric.unit) + spread


def _tradeoff(data: ReportInput) -> plots.Chart | None:
    points = []
    for variant in data.variants:
        utility = best_metric(data, "reid.map", variant.key)
        leak = best_metric(data, "privacy.ssim_normalized", variant.key)
        if utility is not None and leak is not None:
            ends = leak.interval, utility.interval
            points.append(plots.Point(variant.title, leak.value, utility.value, *ends))
    caption = (
        "Privacy against recognition: up and to the left is better. The grey line is the Pareto front, the crosses"
        " are 95 % intervals."
    )
    return plots.tradeoff_chart("tradeoff", caption, points, "worst normalized SSIM", "mAP")


def _convergence(section: Section, data: ReportInput) -> None:
    charts = [
        plots.curves_chart(
            f"attack-{index}",
            f"{attacker.name} on {data.title_of(attacker.variant)}.",
            dict(attacker.curves),
            "loss",
        )
        for index, attacker in enumerate(data.attackers)
    ]
    if any(charts):
        section.head("Convergence of the attackers")
        section.chart(*charts)


def _anchors(section: Section, data: ReportInput, publish: bool) -> None:
    anchors = data.anchors
    if anchors is None:
        return
    section.head("Anchors")
    section.say(anchors.kind)
    rows = [(data.title_of(key) if key else "all", numbers.text(value)) for key, value in anchors.floor.items()]
    section.table("SSIM that is reached without the codes.", ("variant", "#floor"), rows)
    if anchors.mean_picture is not None and not (publish and data.contains_real_pictures):
        section.picture(
            "The mean picture: what an attacker guesses who sees nothing.", data_uri(anchors.mean_picture)
        )
