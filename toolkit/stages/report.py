"""Stage ``report``: every metric of the run in one file, and the page that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from toolkit.metrics import MetricSet
from toolkit.runs import file_sha256
from toolkit.settings import RunSettings
from toolkit.stages.base import METRICS, Context, Stage
from toolkit.stages.build import VARIANTS
from toolkit.stages.check import judge
from toolkit.stages.data import RunData
from toolkit.stages.export import WHOLE, networks_of, wire_of
from toolkit.stages.measured import COLUMNS, Measured, read_measured, record_files
from toolkit.stages.plates import plate_grid
from toolkit.stages.predicted import PREDICTIONS
from toolkit.stages.profile import LATENCY
from toolkit.stages.quantize import SENSITIVITY
from toolkit.variants import Variant

MEASURING = ("train", "slim", "export", "quantize", "build", "profile", "attack", "evaluate")


class ReportStage(Stage):
    """``metrics.json``, ``report.html`` and ``report.md``."""

    name = "report"
    version = 4
    sections = ("report", "check")
    inputs = ("data", *MEASURING)

    def files(self, settings: RunSettings) -> dict[str, str]:
        from toolkit.stages.check import CheckStage

        records = record_files(settings.report.measured)
        return {**CheckStage().files(settings), **{path.name: file_sha256(path) for path in records}}

    def run(self, context: Context) -> None:
        from toolkit.reporting.html import render_report
        from toolkit.reporting.markdown import write_markdown

        context.metrics = collect_metrics(context)
        data = report_input(context)
        render_report(data, context.folder / "report.html", context.settings.report.publish)
        write_markdown(data, context.folder / "report.md")
        context.summary["metrics"] = len(context.metrics)


def collect_metrics(context: Context) -> MetricSet:
    """The metrics of all stages."""
    merged = MetricSet()
    for stage in MEASURING:
        if context.run.has(stage, METRICS):
            for metric in MetricSet.load(context.run.path(stage, METRICS)):
                merged.add(metric)
    for device in _measured(context):
        for metric in device.metrics():
            merged.add(metric)
    return merged


def _measured(context: Context) -> list[Measured]:
    return read_measured(context.settings.report.measured, context.run, context.settings.wire.bits)


def report_input(context: Context) -> Any:
    """Everything that the report shows, from the artifacts of the stages."""
    from toolkit.reporting.input import ReportInput

    settings, run = context.settings, context.run
    data = RunData.load(context)
    attacks = _attacks(context)
    has_training = run.has("train", "curves.json")
    curves = context.read_json("train", "curves.json") if has_training else {}
    if run.has("slim", "curves.json"):
        curves |= context.read_json("slim", "curves.json")
    latency = context.read_json("profile", LATENCY)
    measured = _measured(context)
    return ReportInput(
        name=settings.name,
        title=settings.report.title or f"PATROL Edge: {settings.name}",
        metrics=context.metrics,
        created=run.manifest.created,
        machine=context.machine,
        variants=_variants(context),
        verdicts=tuple(judge(settings, context.metrics, context.machine)),
        curves=curves,
        channels=_channels(context),
        quantization=_quantization(context),
        sensitivity=_sensitivity(context),
        latency_samples={key: np.array(samples) for key, samples in latency["samples_ms"].items()},
        ratios=_ratios(latency),
        layer_times=_layer_times(latency),
        attackers=_attackers(attacks),
        anchors=_anchors(attacks, data),
        pictures=_grid(context, data, attacks),
        plates=plate_grid(context, data, attacks),
        contains_real_pictures=not data.synthetic,
        wire=_wire(context),
        devices=_devices(context),
        measured=_measured_table(measured),
        power={item.machine: item.power for item in measured if item.power},
        manifest=run.manifest.model_dump(mode="json", exclude={"settings"}),
        settings=yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True), sort_keys=False),
        notes=_notes(context),
        warnings=_warnings(attacks),
    )


def _variants(context: Context) -> tuple[Any, ...]:
    from toolkit.reporting.input import ReportVariant

    body = context.read_json("build", VARIANTS)
    rows = []
    for row in body["variants"]:
        if not row["runs"]:
            continue
        precision = row["precision"].upper()
        beside = row["network"] == WHOLE
        stage: Any = "" if beside else "INT8" if precision == "INT8" else row["network"]
        title = f"whole network on the device, {precision}" if beside else f"{row['network']} {precision}"
        rows.append(ReportVariant(row["key"], title, stage, row["key"] == body["deployed"]))
    return tuple(rows)


def _channels(context: Context) -> tuple[Any, ...]:
    from toolkit.reporting.input import LayerChannels

    if not context.run.has("slim", "layers.json"):
        return ()
    return tuple(
        LayerChannels(row["layer"], row["before"], row["after"], row["why"])
        for row in context.read_json("slim", "layers.json")
    )


def _quantization(context: Context) -> tuple[Any, ...]:
    from toolkit.reporting.input import QuantizationDecision

    decisions = context.read_json("quantize", "decisions.json")["decisions"]
    return tuple(
        QuantizationDecision(
            tensor=item["tensor"],
            method=item["method"],
            threshold=item["threshold"],
            error=_root(item["wire_error"].get(item["method"])),
            error_unit="wire",
            note=item["note"],
        )
        for item in decisions
        if item["kind"] == "activation"
    )


def _sensitivity(context: Context) -> tuple[tuple[str, float], ...]:
    layers = context.read_json("quantize", SENSITIVITY)["layers"]
    return tuple((row["layer"], row["loss_only"]) for row in layers)


def _root(value: float | None) -> float | None:
    return None if value is None else float(np.sqrt(value))


def _ratios(latency: dict[str, Any]) -> tuple[Any, ...]:
    from toolkit.reporting.input import LatencyRatio

    return tuple(
        LatencyRatio(
            row["variant"], row["reference"], row["ratio"], tuple(row["interval"]), row["rounds"], row["verdict"]
        )
        for row in latency["ratios"]
    )


def _layer_times(latency: dict[str, Any]) -> dict[str, Any]:
    from toolkit.reporting.input import LayerTime

    return {
        key: [LayerTime(row["layer"], row["ms"], row.get("precision", "")) for row in rows]
        for key, rows in latency.get("layers", {}).items()
    }


def _attacks(context: Context) -> dict[str, Any]:
    from toolkit.privacy.result import AttackResult

    keys = [row["key"] for row in context.read_json("build", VARIANTS)["variants"] if row["runs"]]
    return {key: AttackResult.load(context.run.folder("attack", key)) for key in keys}


def _attackers(attacks: dict[str, Any]) -> tuple[Any, ...]:
    from toolkit.reporting.input import Attacker

    rows = []
    for key, result in attacks.items():
        for attacker in result.attackers:
            fit = attacker.fit
            size = f"{fit.parameters:,} parameters, {fit.pairs:,} pairs, {fit.steps:,} steps{_gains(fit)}"
            curves = {"validation SSIM": fit.curve} if fit.curve else {}
            scores = {"SSIM": float(np.mean(attacker.ssim)), "MSE": float(np.mean(attacker.mse))}
            rows.append(Attacker(attacker.label, key, fit.converged, curves, scores, attacker.problems, size))
    return tuple(rows)


def _gains(fit: Any) -> str:
    """What the last doubling of the steps and twice the pictures gained, where that was tested."""
    tested = {"steps": fit.gain if fit.steps and fit.converged is not None else None, "pictures": fit.data_gain}
    found = [f"twice the {what} gained {gain:.3f} SSIM" for what, gain in tested.items() if gain is not None]
    return "".join(f", {text}" for text in found)


def _anchors(attacks: dict[str, Any], data: RunData) -> Any:
    from toolkit.reporting.input import Anchors

    first = next(iter(attacks.values())).anchors
    shuffled = float(np.mean(first.shuffled_ssim)) if first.shuffled_ssim else float("nan")
    kind = f"mean picture SSIM {np.mean(first.mean_ssim):.3f}, decoder trained on shuffled pairs {shuffled:.3f}"
    rows = data.rows["attacker_train"]
    mean = data.pictures[rows].mean(axis=0).round().astype(np.uint8)
    return Anchors({"": first.floor_ssim}, kind, mean)


def _grid(context: Context, data: RunData, attacks: dict[str, Any]) -> Any:
    from toolkit.reporting.input import PictureGrid, PictureRow

    first = next(iter(attacks.values()))
    shown = first.shown[: context.settings.report.pictures]
    if not shown:
        return None
    count = len(shown)
    rows = []
    for key, result in attacks.items():
        for attacker in result.attackers:
            if attacker.label not in result.reconstructions:
                continue
            pictures = result.reconstructions[attacker.label][:count]
            scores = {"SSIM": [attacker.ssim[place] for place in shown]}
            variant = Variant.from_key(key)
            title = f"{variant.network} {variant.precision.upper()}, {attacker.label}"
            rows.append(PictureRow(title, pictures, scores))
    originals = first.reconstructions["original"][:count]
    return PictureGrid(originals, tuple(rows), note="Test pictures at even distances, the same in every row.")


def _wire(context: Context) -> tuple[Any, ...]:
    from toolkit.reporting.input import Fact

    variants = context.read_json("build", VARIANTS)["variants"]
    noise = {row["network"]: row["noise"] for row in variants if "noise" in row}
    facts = []
    for network in networks_of(context)[0]:
        fmt = wire_of(context, network)
        shape = f"{fmt.channels} x {fmt.height} x {fmt.width}"
        note = f"{fmt.bits} bits, step {fmt.step:.6g}, codes {fmt.low} to {fmt.high}"
        note += f", private noise of {noise[network]:g} steps" if network in noise else ""
        facts.append(Fact(f"{network} wire", shape, note))
    return tuple(facts)


def _devices(context: Context) -> Any:
    from toolkit.reporting.input import Table

    rows = context.read_json("profile", PREDICTIONS)["rows"]
    if not rows:
        return None
    cells = tuple(
        (
            row["device"],
            row["mode"],
            f"{row['network']} {row['precision'].upper()}",
            "{:.3g} ({:.3g} to {:.3g})".format(*row["latency_ms"]),
            "{:.3g}".format(row["memory_mb"][0]),
            f"{row['launch_share']:.0%}",
        )
        for row in rows
    )
    columns = (
        "device",
        "power mode",
        "edge half",
        "#latency in ms (90 % interval)",
        "#memory in MB",
        "#launching",
    )
    caption = (
        "Edge half with TensorRT at batch 1. Memory is weights and activations, without the runtime. Launching is "
        "the share of the time that does not shrink with the channels."
    )
    return Table(columns, cells, caption, "predicted")


def _measured_table(measured: list[Measured]) -> Any:
    from toolkit.reporting.input import Table

    if not measured:
        return None
    caption = "Deployed edge half on devices, at batch 1; equal codes: against this run's test vectors."
    return Table(COLUMNS, tuple(item.cells() for item in measured), caption, "measured")


def _notes(context: Context) -> tuple[str, ...]:
    notes = [
        "Latency was measured with ONNX Runtime on this machine's CPU; it says nothing about a Jetson or TensorRT."
    ]
    for row in context.read_json("build", VARIANTS)["variants"]:
        if not row["runs"]:
            state = "parsed and built" if row["built"] else f"not built ({row['why']})"
            notes.append(f"{row['engine']}: the strongly typed INT8 network was {state}; it was not run here.")
    return tuple(notes)


def _warnings(attacks: dict[str, Any]) -> tuple[str, ...]:
    """What speaks against the attacks, each once, with the variants that it holds for."""
    found: dict[str, list[str]] = {}
    for key, result in attacks.items():
        variant = Variant.from_key(key)
        for problem in result.all_problems():
            found.setdefault(problem, []).append(f"{variant.network} {variant.precision.upper()}")
    return tuple(f"{problem}; on {', '.join(dict.fromkeys(titles))}" for problem, titles in found.items())


def report_path(run_folder: Path) -> Path:
    """Where a run's report lies."""
    return run_folder / "report" / "report.html"
