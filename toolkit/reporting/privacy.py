"""The sections on privacy: attackers, floor, anchors, and the pictures they made."""

from __future__ import annotations

from toolkit.checks.select import same_protocol
from toolkit.metrics import Metric
from toolkit.reporting import numbers, plots
from toolkit.reporting.blocks import Section
from toolkit.reporting.certificates import certificates
from toolkit.reporting.input import PictureGrid, ReportInput
from toolkit.reporting.leaks import leaks
from toolkit.reporting.path import attacker_of
from toolkit.reporting.pictures import data_uri, show_grid
from toolkit.reporting.references import references
from toolkit.reporting.words import best_metric

COLUMNS = ("variant", "#normalized SSIM", "#R²", "#SSIM", "#PSNR", "#n", "converged", "trusted")
SHOWN = ("privacy.ssim_normalized", "privacy.r2", "privacy.ssim", "privacy.psnr")


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
        (_label(data, variant, metric, pairs), metric.value, metric.interval)
        for variant, protocol in pairs
        if (metric := _one(data, SHOWN[0], variant, protocol)) is not None
    ]
    section.chart(
        plots.intervals_chart(
            "attackers",
            "What attackers rebuild, with 95 % intervals.",
            normalized,
            "normalized SSIM",
            0.0,
            "floor: without the codes",
        ),
        _tradeoff(data),
    )
    caption = f"What was reached on every variant, {_origins(data)}, with 95 % intervals."
    section.table(caption, COLUMNS, [_metric_row(data, *pair) for pair in pairs])
    names = list(dict.fromkeys(name for attacker in data.attackers for name in attacker.scores))
    heads = (
        "variant",
        "attacker",
        *(f"#{name}" for name in names),
        "converged",
        "what speaks against it, and notes",
    )
    section.table("Every attacker that was run.", heads, _attacker_rows(data, names))
    leaks(section, data)
    references(section, data)
    certificates(section, data)
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
    """(variant, protocol) in the order of the variants; the worst of a suite is one, whoever it was."""
    order = {variant.key: index for index, variant in enumerate(data.variants)}
    found = {(metric.variant, same_protocol(metric.protocol)) for metric in data.metrics if metric.name in SHOWN}
    return sorted(found, key=lambda pair: (order.get(pair[0], len(order)), pair))


def _label(data: ReportInput, variant: str, metric: Metric, pairs: list[tuple[str, str]]) -> str:
    several = sum(other == variant for other, _ in pairs) > 1
    return f"{data.title_of(variant)}: {attacker_of(metric)}" if several else data.title_of(variant)


def _one(data: ReportInput, name: str, variant: str, protocol: str) -> Metric | None:
    found = data.metrics.find(name, variant)
    return next((metric for metric in found if same_protocol(metric.protocol) == protocol), None)


def _metric_row(data: ReportInput, variant: str, protocol: str) -> tuple[str, ...]:
    metrics = [_one(data, name, variant, protocol) for name in SHOWN]
    count = next((metric.n for metric in metrics if metric is not None), None)
    return (
        f"{data.title_of(variant)}\n{protocol}",
        *(_with_spread(metric, protocol) for metric in metrics),
        "" if count is None else f"{count:,}",
        _state(data, "privacy.converged", variant, protocol),
        _state(data, "privacy.trusted", variant, protocol),
    )


def _state(data: ReportInput, name: str, variant: str, protocol: str) -> str:
    found = _one(data, name, variant, protocol)
    if found is None:
        return "unknown"
    return "yes" if found.value >= 1 else "NO: proves nothing"


def _attacker_rows(data: ReportInput, names: list[str]) -> list[tuple[str, ...]]:
    words = {True: "yes", False: "NO: proves nothing", None: "unknown"}
    return [
        (
            data.title_of(attacker.variant),
            attacker.name,
            *(numbers.text(attacker.scores[name]) if name in attacker.scores else "\N{EN DASH}" for name in names),
            words[attacker.converged],
            "; ".join((*attacker.problems, attacker.note) if attacker.note else attacker.problems),
        )
        for attacker in data.attackers
    ]


def _origins(data: ReportInput) -> str:
    found = {
        f"{metric.provenance} on {metric.machine}" if metric.machine else metric.provenance
        for metric in data.metrics
        if metric.name in SHOWN
    }
    return " and ".join(sorted(found)) or "measured"


def _with_spread(metric: Metric | None, protocol: str) -> str:
    if metric is None:
        return "\N{EN DASH}"
    lines = [numbers.text(metric.value, metric.unit)]
    lines += [numbers.spread(metric)] if metric.interval else []
    lines += [f"by {attacker_of(metric)}"] if metric.protocol != protocol else []
    return "\n".join(lines)


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
            "SSIM" if any("SSIM" in name for name in attacker.curves) else "loss",
        )
        for index, attacker in enumerate(data.attackers)
    ]
    drawn = sum(chart is not None for chart in charts)
    section.more_charts(f"Convergence of the attackers: {drawn} charts.", *charts)


def _anchors(section: Section, data: ReportInput, publish: bool) -> None:
    anchors = data.anchors
    if anchors is None:
        return
    section.head("Anchors")
    section.say(f"{anchors.kind[:1].upper()}{anchors.kind[1:]}.")
    rows = [(data.title_of(key) if key else "all", numbers.text(value)) for key, value in anchors.floor.items()]
    section.table("SSIM that is reached without the codes.", ("variant", "#floor"), rows)
    if anchors.mean_picture is not None and not (publish and data.contains_real_pictures):
        section.picture(
            "The mean picture: what an attacker guesses who sees nothing.", data_uri(anchors.mean_picture)
        )
