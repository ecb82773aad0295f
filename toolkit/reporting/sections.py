"""The sections of a report after the verdict and the path; a section without data is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from toolkit.checks.verdict import Verdict
from toolkit.reporting import numbers, plots
from toolkit.reporting.blocks import Section
from toolkit.reporting.catalogue import kind_of
from toolkit.reporting.input import ReportInput
from toolkit.reporting.privacy import pictures, privacy
from toolkit.reporting.svg import SERIES, Chart

MAX_CURVES = 60
SECONDARY = ("gradient", "learning_rate", "adversary", "masks", "lipschitz")
"""First parts of the names of curves that few readers need."""
PHASES = {"dense": "Dense network", "patrol": "PATROL", "finetune": "Fine-tuning of the slim network"}
_ERRORS = {
    "relative": "relative error (root mean square)",
    "wire": "relative error at the wire (root mean square)",
    "dB": "signal over noise in dB",
}


def sections(data: ReportInput, publish: bool, budget: int) -> list[Section]:
    """All sections with something in them.

    Args:
        data: what to show.
        publish: leave real pictures out.
        budget: bytes that pictures may take.
    """
    made = (
        pictures(data, publish, budget),
        privacy(data, publish),
        _latency(data),
        _wire(data),
        _devices(data),
        _slimming(data),
        _quantization(data),
        _training(data),
        _verdicts(data),
        _numbers(data),
        _manifest(data),
    )
    return [section for section in made if section.blocks]


def _training(data: ReportInput) -> Section:
    section = Section("training", "Training")
    total = sum(len(named) for named in data.curves.values())
    if total:
        section.say(f"Every term as it was logged{_on(data)}; each chart has its own scale.")
    if total > MAX_CURVES:
        section.say(f"The first {MAX_CURVES} of {total} curves are shown; the run's folder has all of them.")
    room = MAX_CURVES
    for phase, named in data.curves.items():
        terms = sorted(named, key=_rank)[:room]
        room -= len(terms)
        first = [term for term in terms if term.partition(".")[0] not in SECONDARY]
        losses, others = _curve_charts(phase, named, first), [term for term in terms if term not in first]
        if losses or others:
            section.head(PHASES.get(phase, phase))
            section.chart(*losses)
            drawn = _curve_charts(phase, named, others)
            section.more_charts(f"What else was logged: {len(drawn)} charts.", *drawn)
    return section


def _curve_charts(phase: str, named: Mapping[str, Any], terms: list[str]) -> list[Chart]:
    """One chart per term; terms that differ in their last part only, such as one per block, share charts."""
    families: dict[str, list[str]] = {}
    for term in terms:
        family = term.partition(".")[0] if term.startswith("lipschitz.") else term
        families.setdefault(family, []).append(term)
    charts = []
    for family, members in families.items():
        for start in range(0, len(members), len(SERIES)):
            part = members[start : start + len(SERIES)]
            caption = part[0] if len(part) == 1 else f"{family}, per block"
            labels = {term if len(part) == 1 else term.partition(".")[2]: named[term] for term in part}
            name = f"curve-{phase}-{family}-{start}".replace(".", "-").replace(" ", "-")
            charts.append(plots.curves_chart(_identifier(name), caption, labels))
    return [chart for chart in charts if chart is not None]


def _rank(term: str) -> tuple[int, str]:
    """Losses first, the learning rate and the gradient's norm last."""
    groups = ("loss.total", "loss.", "validation", "adversary", "masks", "lipschitz")
    first = next((place for place, group in enumerate(groups) if term.startswith(group)), len(groups))
    return first, term


def _identifier(text: str) -> str:
    """Letters, digits and hyphens only: names of phases and terms come from outside."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text)


def _slimming(data: ReportInput) -> Section:
    section = Section("slimming", "Channels")
    if not data.channels:
        return section
    before = sum(layer.before for layer in data.channels)
    after = sum(layer.after for layer in data.channels)
    share = f" ({after / before:.0%})" if before else ""
    section.say(f"{after:,} of {before:,} channels{share} were kept in {len(data.channels)} layers.")
    chart = plots.channels_chart("channels", "Channels per layer before and after slimming.", data.channels)
    rows = [
        (layer.layer, f"{layer.before:,}", f"{layer.after:,}", _share(layer.after, layer.before), layer.why)
        for layer in data.channels
    ]
    section.beside(chart, "Channels per layer.", ("layer", "#before", "#after", "#kept", "why"), rows)
    return section


def _quantization(data: ReportInput) -> Section:
    section = Section("quantization", "Quantization")
    if data.quantization:
        left = sum(decision.threshold is None for decision in data.quantization)
        total = len(data.quantization)
        section.say(f"{total - left} of {total} tensors are quantized; {left} stay in floating point.")
    caption = "What quantizing one layer alone costs at the wire."
    section.chart(
        *(_error_chart(data, unit) for unit in _ERRORS),
        plots.bars_chart("sensitivity", caption, data.sensitivity, "loss of signal to noise at the wire, dB"),
    )
    rows = [
        (
            decision.tensor,
            decision.method,
            "\N{EN DASH}" if decision.threshold is None else numbers.text(decision.threshold),
            "not measured"
            if decision.error is None
            else numbers.text(decision.error, "dB" if decision.error_unit == "dB" else "1"),
            decision.note,
        )
        for decision in data.quantization
    ]
    section.table(
        "How each tensor's threshold was chosen, and the error it leaves.",
        ("tensor", "method", "#threshold", "#error", "note"),
        rows,
    )
    return section


def _error_chart(data: ReportInput, unit: str) -> Chart | None:
    errors = [
        (decision.tensor, decision.error)
        for decision in data.quantization
        if decision.error is not None and decision.error_unit == unit
    ]
    caption = "Error that quantizing one tensor leaves on the calibration pictures."
    show: Literal["largest", "smallest"] = "smallest" if unit == "dB" else "largest"
    return plots.bars_chart(f"quantization-{unit}", caption, errors, _ERRORS[unit], show)


def _latency(data: ReportInput) -> Section:
    section = Section("latency", "Latency")
    samples = {data.title_of(key): np.asarray(values) for key, values in data.latency_samples.items()}
    if samples:
        section.say(f"Times of single runs, measured{_on(data)}. A time holds for the machine it was taken on.")
    section.chart(
        plots.latency_chart("latency", "Single runs. Solid line: median; dashed: 99th percentile.", samples),
        plots.ratios_chart(
            "ratios",
            "Ratios of medians, measured interleaved, with their 95 % intervals.",
            data.ratios,
            {variant.key: variant.title for variant in data.variants},
        ),
    )
    section.table(
        f"Percentiles in ms, measured{_on(data)}.",
        ("variant", "#median", "#25th to 75th", "#90th", "#99th", "#largest", "#runs"),
        [_percentiles(title, values) for title, values in samples.items() if values.size],
    )
    ratio_rows = [
        (
            f"{data.title_of(ratio.variant)} / {data.title_of(ratio.reference)}",
            numbers.text(ratio.ratio),
            numbers.between(*ratio.interval),
            f"{ratio.rounds:,}",
            ratio.words or _faster(ratio.interval),
        )
        for ratio in data.ratios
    ]
    section.table(
        f"Interleaved comparisons, measured{_on(data)}.",
        ("comparison", "#ratio", "#95 % interval", "#rounds", "in words"),
        ratio_rows,
    )
    section.chart(*_layer_charts(data))
    return section


def _layer_charts(data: ReportInput) -> list[Chart | None]:
    charts = []
    for number, (key, layers) in enumerate(data.layer_times.items()):
        caption = f"Time per layer of {data.title_of(key)}, measured{_on(data)}."
        times = [(_layer_label(layer.layer, layer.precision), layer.ms) for layer in layers]
        charts.append(plots.bars_chart(f"layers-{number}", caption, times, "ms"))
    return charts


def _layer_label(layer: str, operator: str) -> str:
    return layer if operator in layer else f"{layer} {operator}".strip()


def _power_chart(data: ReportInput) -> Chart | None:
    caption = "Power at the device's input rails while its engine ran, measured there."
    return plots.curves_chart("power", caption, dict(data.power), "W", x_label="seconds")


def _wire(data: ReportInput) -> Section:
    section = Section("wire", "Wire")
    rows = [(fact.label, fact.value, fact.note) for fact in data.wire]
    section.table("What is sent for one picture.", ("fact", "value", "note"), rows)
    return section


def _devices(data: ReportInput) -> Section:
    section = Section("devices", "Devices")
    for table in (data.measured, data.devices):
        if table is not None:
            origin = f" ({table.provenance})" if table.provenance else ""
            section.table(f"{table.caption}{origin}", table.columns, table.rows)
    section.chart(_power_chart(data))
    return section


def _verdicts(data: ReportInput) -> Section:
    section = Section("limits", "Limits")
    section.table(
        "Every limit that was judged, failures first.",
        ("verdict", "limit", "of", "#value", "#bound", "why"),
        [_verdict_row(data, verdict) for verdict in sorted(data.verdicts, key=lambda verdict: verdict.ok)],
    )
    return section


def _verdict_row(data: ReportInput, verdict: Verdict) -> tuple[str, ...]:
    subject = " / ".join(part for part in (data.title_of(verdict.variant), verdict.protocol) if part)
    value = "\N{EN DASH}" if verdict.value is None else numbers.text(verdict.value, verdict.unit)
    return ("pass" if verdict.ok else "FAIL", verdict.name, subject, value, verdict.limit, verdict.why)


def _numbers(data: ReportInput) -> Section:
    section = Section("numbers", "All numbers")
    rows = [
        (
            kind_of(metric.name).label,
            metric.name,
            data.title_of(metric.variant) if metric.variant else "",
            metric.protocol,
            numbers.text(metric.value, metric.unit),
            numbers.spread(metric) or "none given",
            f"{metric.n:,}",
            f"{metric.provenance}{f', {metric.machine}' if metric.machine else ''}",
            metric.split,
        )
        for metric in data.metrics
    ]
    section.table(
        "Every number of metrics.json with its 95 % interval, samples, origin and machine.",
        ("what", "name", "variant", "protocol", "#value", "#interval", "#n", "origin", "split"),
        rows,
    )
    return section


def _manifest(data: ReportInput) -> Section:
    section = Section("manifest", "Manifest")
    lists = {key: value for key, value in data.manifest.items() if _is_list(value)}
    rest = {key: value for key, value in data.manifest.items() if key not in lists}
    section.table("What made this run.", ("entry", "value"), list(_flat(rest)))
    for key, entries in lists.items():
        columns = list(dict.fromkeys(column for entry in entries for column in entry))
        rows = [tuple(_plain(entry.get(column, "")) for column in columns) for entry in entries]
        section.table(str(key).capitalize(), [str(column) for column in columns], rows)
    section.listing("Settings", data.settings)
    return section


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}[{index}]")
    else:
        yield prefix, _plain(value)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _is_list(value: Any) -> bool:
    """Entries of one kind, e.g. the artifacts: a table of their own."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _percentiles(title: str, values: np.ndarray) -> tuple[str, ...]:
    low, median, high, ninety, ninety_nine = np.percentile(values, (25, 50, 75, 90, 99))
    shown = [numbers.text(float(value)) for value in (median, ninety, ninety_nine, values.max())]
    spread = numbers.between(float(low), float(high))
    return (title, shown[0], spread, *shown[1:], f"{values.size:,}")


def _faster(interval: tuple[float, float]) -> str:
    if interval[1] < 1:
        return "faster"
    return "slower" if interval[0] > 1 else "no difference shown"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""


def _on(data: ReportInput) -> str:
    return f" on {data.machine}" if data.machine else ""
