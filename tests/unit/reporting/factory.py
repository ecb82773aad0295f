"""A made-up report with every part, and drawn pictures; for tests only."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from toolkit.checks import Verdict
from toolkit.metrics import Metric, MetricSet
from toolkit.reporting import (
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
from toolkit.reporting.input import Pictures

MACHINE = "Made-up CPU, 2 cores, Linux 6.1"
DENSE = "dense-fp32-float-w8-onnxruntime"
MASKED = "masked-fp32-float-w8-onnxruntime"
SLIM = "slim-fp32-float-w8-onnxruntime"
INT8 = "slim-int8-cpu-w8-onnxruntime"
ENGINE = "slim-int8-b-w8-tensorrt_rtx"
VARIANTS = (
    ReportVariant(DENSE, "dense FP32", "dense"),
    ReportVariant(MASKED, "PATROL FP32", "PATROL"),
    ReportVariant(SLIM, "slim FP32", "slim"),
    ReportVariant(INT8, "slim INT8", "INT8", deployed=True),
    ReportVariant(ENGINE, "slim INT8, TensorRT-RTX", "engine"),
)
MEASURED = (DENSE, MASKED, SLIM, INT8)
ATTACKERS = ("inverse network", "ridge")


def draw_cars(count: int, size: int = 64, seed: int = 0) -> Pictures:
    """Side views of simple cars in several colours, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, size * 4, size * 4, 3), np.uint8)
    for picture in pictures:
        scale = size * 4 / 256
        color = tuple(int(value) for value in rng.integers(40, 230, 3))
        picture[:] = rng.integers(130, 190)
        picture[int(170 * scale) :] = rng.integers(70, 110)

        def polygon(
            points: list[tuple[int, int]], fill: tuple[int, ...], image: Any = picture, k: float = scale
        ) -> None:
            cv2.fillPoly(image, [(np.array(points) * k).astype(np.int32)], fill, cv2.LINE_AA)

        roof = int(rng.integers(80, 105))
        polygon(
            [(28, 180), (28, 140), (70, 132), (95, roof), (175, roof), (205, 132), (232, 142), (232, 180)], color
        )
        polygon([(80, 132), (100, roof + 8), (132, roof + 8), (132, 132)], (60, 75, 90))
        polygon([(140, 132), (140, roof + 8), (170, roof + 8), (192, 132)], (60, 75, 90))
        for x in (75, 185):
            cv2.circle(picture, (int(x * scale), int(182 * scale)), int(20 * scale), (25, 25, 28), -1, cv2.LINE_AA)
            cv2.circle(
                picture, (int(x * scale), int(182 * scale)), int(9 * scale), (150, 150, 155), -1, cv2.LINE_AA
            )
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures])


def blurred(pictures: Pictures, sigma: float, seed: int) -> Pictures:
    """What an attacker might rebuild."""
    rng = np.random.default_rng(seed)
    soft = np.stack([cv2.GaussianBlur(picture, (0, 0), sigma) for picture in pictures]).astype(np.float64)
    return np.clip(soft + rng.normal(0, 2, soft.shape), 0, 255).astype(np.uint8)


def metric(name: str, value: float, variant: str, **more: Any) -> Metric:
    fields = {"n": 203, "machine": MACHINE, "split": "test", **more}
    return Metric.model_validate({**fields, "name": name, "value": value, "variant": variant})


def make_metrics() -> MetricSet:
    metrics = MetricSet()
    for variant, value in zip(MEASURED, (0.931, 0.918, 0.917, 0.912), strict=True):
        for name, offset in (("reid.map", 0.0), ("reid.rank1", -0.012)):
            center = value + offset
            interval = (center - 0.034, center + 0.029)
            metrics.add(metric(name, center, variant, interval=interval, protocol="two_camera"))
    for variant, parameters, macs in (
        (DENSE, 683_072, 147_456_000),
        (MASKED, 683_072, 147_456_000),
        (SLIM, 301_588, 66_060_288),
        (INT8, 301_588, 66_060_288),
    ):
        metrics.add(metric("edge.parameters", parameters, variant, unit="count"))
        metrics.add(metric("edge.macs", macs, variant, unit="count"))
    sizes = ((DENSE, 2_741_300), (MASKED, 2_741_300), (SLIM, 1_214_000), (INT8, 331_000), (ENGINE, 412_345))
    for variant, size in sizes:
        metrics.add(metric("size.engine", size, variant, unit="bytes"))
    for variant, value in ((DENSE, 2.85), (SLIM, 1.31), (INT8, 0.52)):
        for name, factor in (("latency.p50", 1.0), ("latency.p99", 1.6)):
            time = value * factor
            metrics.add(metric(name, time, variant, unit="ms", interval=(time * 0.97, time * 1.04), n=400))
    orin = {"machine": "Jetson Orin Nano 8GB, 15 W", "provenance": "predicted", "unit": "ms"}
    metrics.add(metric("latency.p50", 1.9, DENSE, interval=(1.3, 2.8), **orin))
    metrics.add(metric("latency.p50", 0.8, ENGINE, interval=(0.5, 1.2), **orin))
    for variant, value in zip(MEASURED, (7_412.5, 3_400.2, 3_388.0, 3_120.4), strict=True):
        metrics.add(metric("wire.bytes_raw", 8192 if variant == DENSE else 4096, variant, unit="bytes"))
        metrics.add(metric("wire.bytes_entropy", value, variant, unit="bytes"))
    _add_attacks(metrics)
    return metrics


def _add_attacks(metrics: MetricSet) -> None:
    for index, variant in enumerate((DENSE, SLIM, INT8)):
        for attacker, start in zip(ATTACKERS, (0.52, 0.31), strict=True):
            value = start - 0.17 * index
            more = {"protocol": attacker, "split": "test"}
            interval = (value - 0.02, value + 0.02)
            metrics.add(metric("privacy.ssim_normalized", value, variant, interval=interval, **more))
            metrics.add(metric("privacy.ssim", 0.39 + 0.61 * value, variant, **more))
            metrics.add(metric("privacy.r2", value + 0.12, variant, **more))
            metrics.add(metric("privacy.psnr", 15 + 12 * value, variant, unit="dB", **more))
            converged = 0 if (variant, attacker) == (SLIM, "ridge") else 1
            metrics.add(metric("privacy.converged", converged, variant, **more))
        metrics.add(metric("leak.plate_accuracy", 0.81 - 0.38 * index, variant, protocol="plate reader"))
        read = f"worst of {len(ATTACKERS)} attackers: codes"
        value = 0.7 - 0.2 * index
        metrics.add(metric("leak.plate", value, variant, interval=(value - 0.05, value + 0.05), protocol=read))
        metrics.add(metric("leak.plate.chance", 0.1, variant, protocol="most frequent class"))
        for name, original in (("leak.plate", 0.97), ("leak.occupants", 0.61), ("identity_evidence.colour", 0.94)):
            metrics.add(metric(f"{name}.original", original, variant, protocol="originals"))
        for name in ("reference.embedding.ssim", "reference.noise.ssim", "excess.r2", "seeds.r2"):
            metrics.add(metric(f"privacy.{name}", 0.2, variant, protocol=read))
        metrics.add(metric("leak.background.ssim", 0.4, variant, protocol=read))
        metrics.add(metric("leak.background.ssim_floor", 0.3, variant, protocol="mean picture"))


def make_curves() -> dict[str, dict[str, list[tuple[float, float]]]]:
    rng = np.random.default_rng(1)
    steps = np.arange(0, 1200, 10)

    def curve(start: float, end: float, noise: float) -> list[tuple[float, float]]:
        values = end + (start - end) * np.exp(-steps / 250) + rng.normal(0, noise, steps.size)
        return [(float(step), float(value)) for step, value in zip(steps, values, strict=True)]

    return {
        "dense": {"identity": curve(6.2, 1.1, 0.05), "triplet": curve(0.9, 0.05, 0.02)},
        "PATROL": {
            "task": curve(6.0, 1.2, 0.05),
            "mask": curve(1.0, 0.44, 0.005),
            "Lipschitz": curve(900, 2.0, 0.05),
            "adversary (reconstruction)": curve(0.02, 0.09, 0.003),
        },
    }


def make_grid(count: int = 8, size: int = 64) -> PictureGrid:
    originals = draw_cars(count, size)
    rng = np.random.default_rng(3)
    rows = []
    for index, title in enumerate(("dense FP32", "slim FP32", "slim INT8")):
        for attacker, more in zip(ATTACKERS, (0.0, 2.0), strict=True):
            scores = np.clip(0.62 - 0.15 * index - 0.05 * more + rng.normal(0, 0.03, count), 0, 1)
            row = PictureRow(
                f"{title}, {attacker}",
                blurred(originals, (1.2 + 2.2 * index + more) * size / 64, index),
                {"SSIM": scores.round(3).tolist(), "R²": (scores + 0.1).round(3).tolist()},
            )
            rows.append(row)
    captions = tuple(f"vehicle {index:03d}" for index in range(count))
    return PictureGrid(originals, tuple(rows), captions, "Drawn pictures, the first of each vehicle.")


def make_samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {key: value * rng.lognormal(0, 0.08, 400) for key, value in ((DENSE, 2.85), (SLIM, 1.31), (INT8, 0.52))}


def make_verdicts() -> tuple[Verdict, ...]:
    return (
        Verdict(
            "reid.map", True, 0.912, ">= 0.85", "0.912 holds >= 0.85 (measured, n=203)", "holds", "reid.map", INT8
        ),
        Verdict(
            "plates stay unread",
            False,
            0.05,
            "<= 0.02",
            "0.05 breaks <= 0.02 (measured, n=203)",
            "exceeded",
            "leak.plate_accuracy",
            INT8,
            "plate reader",
        ),
        Verdict(
            "privacy.ssim_normalized",
            False,
            None,
            "max 0.3",
            "ridge did not converge, so its failure proves nothing; train it longer",
            "not-converged",
            "privacy.ssim_normalized",
            SLIM,
            "ridge",
        ),
    )


def make_report(**changes: Any) -> ReportInput:
    """Every part is there; ``changes`` replaces fields."""
    layers = [f"layer{stage}.{block}.conv{conv}" for stage in (1, 2) for block in (0, 1) for conv in (1, 2)]
    rng = np.random.default_rng(4)
    fields: dict[str, Any] = {
        "name": "two-camera-demo",
        "title": "Made-up run, every part shown",
        "created": "2026-11-23 10:00 UTC",
        "machine": MACHINE,
        "metrics": make_metrics(),
        "variants": VARIANTS,
        "verdicts": make_verdicts(),
        "curves": make_curves(),
        "channels": tuple(
            LayerChannels(
                layer, 64 if layer < "layer2" else 128, int(rng.integers(20, 64)), "mask below threshold"
            )
            for layer in layers
        ),
        "quantization": (
            *(
                QuantizationDecision(f"/{layer}/Conv_output_0", "entropy", 3.2, float(rng.uniform(0.003, 0.03)))
                for layer in layers
            ),
            QuantizationDecision("/stem/Conv_output_0", "float", note="first layer left alone"),
        ),
        "sensitivity": tuple((layer, float(rng.uniform(0, 0.006))) for layer in layers),
        "latency_samples": make_samples(),
        "ratios": (
            LatencyRatio(SLIM, DENSE, 0.46, (0.45, 0.472), 400),
            LatencyRatio(INT8, SLIM, 0.397, (0.39, 0.405), 400),
        ),
        "layer_times": {
            INT8: [LayerTime(layer, float(rng.uniform(0.02, 0.1)), "INT8") for layer in layers],
        },
        "power": {INT8: [(second / 4, 4.1 + 0.4 * float(rng.normal())) for second in range(80)]},
        "attackers": tuple(
            Attacker(
                attacker,
                variant,
                (variant, attacker) != (SLIM, "ridge"),
                {
                    "training": [(step, 0.08 * 0.9**step + 0.01) for step in range(40)],
                    "validation": [(step, 0.08 * 0.9**step + 0.015) for step in range(40)],
                },
                {"SSIM": 0.6, "MSE": 0.012},
                ("convergence was not tested (screening)",) if (variant, attacker) == (SLIM, "ridge") else (),
                "knows the network; 2.6 M parameters",
            )
            for variant in (DENSE, SLIM)
            for attacker in ATTACKERS[: 2 if variant == SLIM else 1]
        ),
        "anchors": Anchors(
            {DENSE: 0.393, INT8: 0.393}, "The mean picture was the better floor.", draw_cars(1)[0] // 2 + 60
        ),
        "pictures": make_grid(),
        "plates": make_grid(4, 128),
        "contains_real_pictures": False,
        "wire": (
            Fact("shape", "64 x 8 x 8", "channels, height, width"),
            Fact("bits", "8"),
            Fact("step", "0.0213"),
        ),
        "devices": Table(
            ("device", "power mode", "TensorRT", "latency"),
            (("Jetson Orin Nano 8GB", "15 W", "10.3", "0.8 ms (0.5 to 1.2)"),),
            "What the edge half needs on each device.",
            "predicted",
        ),
        "manifest": {
            "name": "two-camera-demo",
            "seed": 7,
            "versions": {"python": "3.11", "torch": "2.13.0"},
            "artifacts": [{"path": "export/edge.onnx", "bytes": 1_214_000, "sha256": "ab" * 32}],
        },
        "settings": "name: two-camera-demo\nseed: 7\n",
        "notes": ("The pictures are drawn.",),
        "warnings": ("One attacker did not converge.",),
    }
    return ReportInput(**{**fields, **changes})


def without_charts(**changes: Any) -> ReportInput:
    """Drawing takes most of the time: a report without the parts that are drawn."""
    drawn = ("curves", "latency_samples", "layer_times", "power")
    empty: dict[str, Any] = {"ratios": (), "attackers": (), "channels": (), "quantization": (), "sensitivity": ()}
    return make_report(**{**{key: {} for key in drawn}, **empty, **changes})
