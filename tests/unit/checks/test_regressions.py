"""Twenty seeded regressions: the gate catches every one, and passes clean runs on a noisy machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from toolkit.checks import Verdict, against, all_hold, check, parse_limits
from toolkit.metrics import Metric, MetricSet

DENSE = "dense-fp32-float-w8-onnxruntime"
SLIM = "slim-fp32-float-w8-onnxruntime"
INT8 = "slim-int8-cpu-w8-onnxruntime"
HERE = "Test CPU, 2 cores, Linux 6"
ELSEWHERE = "Other CPU, 64 cores, Linux 6"
ATTACKERS = ("inverse_network", "ridge")

LIMITS = parse_limits(
    f"""
schema: 1
limits:
  - {{metric: reid.map, variant: {INT8}, min: 0.85}}
  - {{metric: reid.map, variant: {INT8}, relative_to: baseline, drop_max: 0.005}}
  - {{metric: latency.p50, variant: {INT8}, relative_to: {SLIM}, ratio_max: 1.0}}
  - {{metric: latency.p50, variant: {INT8}, relative_to: baseline, ratio_max: 1.05}}
  - {{metric: memory.peak, variant: {INT8}, max: 400e6}}
  - {{metric: size.engine, variant: {INT8}, relative_to: baseline, ratio_max: 1.1}}
  - {{metric: edge.parameters, variant: {INT8}, relative_to: {DENSE}, ratio_max: 0.7}}
  - {{metric: quantization.coverage, variant: {INT8}, min: 0.95}}
  - {{metric: wire.bytes_raw, variant: {INT8}, max: 4096}}
  - {{metric: wire.bytes_entropy, variant: {INT8}, relative_to: baseline, ratio_max: 1.05}}
  - {{metric: privacy.ssim_normalized, variant: {INT8}, max: 0.35, at_least: 2}}
  - {{metric: privacy.ssim_normalized, variant: {INT8}, relative_to: baseline, rise_max: 0.02}}
  - {{metric: leak.plate_accuracy, variant: {INT8}, max: 0.05}}
  - {{metric: latency.p50, variant: {INT8}, machine: jetson-orin-nano, provenance: predicted, max: 4.0}}
"""
)

Key = tuple[str, str, str, str]


class Run:
    """Made-up numbers that a test changes one at a time."""

    def __init__(self) -> None:
        self.entries: dict[Key, Metric] = {}
        self._quality()
        self._privacy()
        self._times()

    def put(self, name: str, value: float, variant: str = INT8, **more: object) -> None:
        metric = Metric.model_validate(
            {"n": 200, "machine": HERE, **more, "name": name, "value": value, "variant": variant}
        )
        self.entries[name, variant, metric.protocol, metric.provenance] = metric

    def change(
        self, name: str, variant: str = INT8, protocol: str = "", provenance: str = "measured", **to: object
    ) -> None:
        key = (name, variant, protocol, provenance)
        self.entries[key] = self.entries[key].model_copy(update=to)

    def remove(self, name: str, variant: str = INT8, protocol: str = "", provenance: str = "measured") -> None:
        del self.entries[name, variant, protocol, provenance]

    def metrics(self) -> MetricSet:
        return MetricSet(self.entries.values())

    def _quality(self) -> None:
        for variant, value, parameters in ((DENSE, 0.93, 683072), (SLIM, 0.92, 302000), (INT8, 0.915, 302000)):
            self.put("reid.map", value, variant, protocol="two_camera", interval=(value - 0.03, value + 0.03))
            self.put("edge.parameters", parameters, variant, unit="count")
        self.put("size.engine", 410_000, unit="bytes")
        self.put("quantization.coverage", 1.0)
        self.put("wire.bytes_raw", 2048, unit="bytes")
        self.put("wire.bytes_entropy", 1100, unit="bytes")

    def _privacy(self) -> None:
        for attacker, value in zip(ATTACKERS, (0.30, 0.21), strict=True):
            self.put("privacy.ssim_normalized", value, protocol=attacker)
            self.put("privacy.converged", 1, protocol=attacker)
        self.put("leak.plate_accuracy", 0.01, protocol="plate_reader")
        self.put("privacy.converged", 1, protocol="plate_reader")

    def _times(self) -> None:
        for variant, value in ((DENSE, 2.9), (SLIM, 1.3), (INT8, 0.5)):
            self.put("latency.p50", value, variant, unit="ms", interval=(value * 0.97, value * 1.03))
        self.put("latency.ratio", 0.385, protocol=against(SLIM), interval=(0.37, 0.40))
        self.put("latency.ratio", 1.0, protocol=against("baseline"), interval=(0.98, 1.02))
        self.put("memory.peak", 120e6, unit="bytes")
        self.put(
            "latency.p50", 3.1, machine="jetson-orin-nano", provenance="predicted", unit="ms", interval=(2.4, 3.9)
        )


def _judge(run: Run, baseline: Run) -> list[Verdict]:
    return check(run.metrics(), LIMITS, baseline.metrics(), machine=HERE)


Change = Callable[[Run, Run], None]
PRIVATE = "privacy.ssim_normalized"
REGRESSIONS: dict[str, tuple[str, Change]] = {
    "mAP one point lower": ("exceeded", lambda r, b: r.change("reid.map", protocol="two_camera", value=0.905)),
    "mAP below the floor": ("exceeded", lambda r, b: r.change("reid.map", protocol="two_camera", value=0.84)),
    "slower layer": (
        "exceeded",
        lambda r, b: r.change("latency.ratio", protocol=against("baseline"), value=1.12, interval=(1.08, 1.16)),
    ),
    "one layer back to FP32": ("exceeded", lambda r, b: r.change("quantization.coverage", value=0.9)),
    "INT8 slower than FP32": (
        "exceeded",
        lambda r, b: r.change("latency.ratio", protocol=against(SLIM), value=1.2, interval=(1.15, 1.25)),
    ),
    "more memory": ("exceeded", lambda r, b: r.change("memory.peak", value=900e6)),
    "larger engine": ("exceeded", lambda r, b: r.change("size.engine", value=500_000)),
    "not slimmed": ("exceeded", lambda r, b: r.change("edge.parameters", value=683072)),
    "wider wire": ("exceeded", lambda r, b: r.change("wire.bytes_raw", value=8192)),
    "codes that compress worse": ("exceeded", lambda r, b: r.change("wire.bytes_entropy", value=1400)),
    "weaker defence": ("exceeded", lambda r, b: r.change(PRIVATE, protocol="inverse_network", value=0.5)),
    "slightly weaker defence": (
        "exceeded",
        lambda r, b: r.change(PRIVATE, protocol="inverse_network", value=0.33),
    ),
    "plate can be read": (
        "exceeded",
        lambda r, b: r.change("leak.plate_accuracy", protocol="plate_reader", value=0.4),
    ),
    "missing metric": ("absent", lambda r, b: r.remove("wire.bytes_entropy")),
    "attacker left out": ("absent", lambda r, b: r.remove(PRIVATE, protocol="inverse_network")),
    "attacker did not converge": (
        "not-converged",
        lambda r, b: r.change("privacy.converged", protocol="inverse_network", value=0),
    ),
    "convergence unknown": ("not-converged", lambda r, b: r.remove("privacy.converged", protocol="plate_reader")),
    "baseline of another host": (
        "not-comparable",
        lambda r, b: (
            r.remove("latency.ratio", protocol=against("baseline")),
            b.change("latency.p50", machine=ELSEWHERE),
        ),
    ),
    "another test set": ("not-comparable", lambda r, b: r.change("reid.map", protocol="two_camera", n=50)),
    "noise that hides everything": (
        "too-noisy",
        lambda r, b: r.change("latency.ratio", protocol=against("baseline"), value=1.4, interval=(0.7, 2.1)),
    ),
    "slower predicted on the device": (
        "exceeded",
        lambda r, b: r.change("latency.p50", provenance="predicted", value=4.6),
    ),
    "baseline lost a metric": ("no-baseline", lambda r, b: b.remove("size.engine")),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regression_is_caught(name: str) -> None:
    reason, change = REGRESSIONS[name]
    run, baseline = Run(), Run()
    change(run, baseline)
    verdicts = _judge(run, baseline)
    assert not all_hold(verdicts)
    assert reason in {verdict.reason for verdict in verdicts if not verdict.ok}
    assert all(verdict.why for verdict in verdicts)


def test_there_are_twenty_of_them() -> None:
    assert len(REGRESSIONS) >= 20


def test_clean_run_passes() -> None:
    verdicts = _judge(Run(), Run())
    assert all_hold(verdicts), [verdict for verdict in verdicts if not verdict.ok]
    assert len(verdicts) == 14 + 2  # two attackers under each of two limits


@pytest.mark.parametrize("seed", range(20))
def test_clean_runs_on_a_noisy_machine_pass(seed: int) -> None:
    """The true ratio is 1; a noisy machine moves the estimate and widens its interval with it."""
    rng = np.random.default_rng(seed)
    run, baseline = Run(), Run()
    spread = rng.uniform(0.01, 0.08)
    ratio = 1 + spread * rng.uniform(-1, 1)
    run.change(
        "latency.ratio",
        protocol=against("baseline"),
        value=ratio,
        interval=(ratio - 2 * spread, ratio + 2 * spread),
    )
    for variant, value in ((DENSE, 2.9), (SLIM, 1.3), (INT8, 0.5)):
        slower = value * rng.uniform(0.9, 1.3)
        run.change("latency.p50", variant=variant, value=slower, interval=(slower * 0.8, slower * 1.2))
    assert all_hold(_judge(run, baseline))


def test_variant_that_was_not_steady_is_still_compared() -> None:
    """On a noisy machine one of two variants may not settle; their interleaved ratio holds all the same."""
    run, baseline = Run(), Run()
    run.change("latency.p50", INT8, protocol="", value=0.5)
    for side, suffix in ((run, ", not steady"), (baseline, "")):
        for key in [key for key in side.entries if key[0] == "latency.p50" and key[3] == "measured"]:
            unsteady = suffix if key[1] == INT8 else ""
            entry = side.entries[key]
            side.entries[key] = entry.model_copy(update={"protocol": f"CPU, interleaved{unsteady}"})
    failed = [verdict.why for verdict in _judge(run, baseline) if not verdict.ok]
    assert failed == []
