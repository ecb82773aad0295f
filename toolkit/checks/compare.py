"""One number against a reference: ratios and differences that know their noise."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.checks.limits import BASELINE, Limit
from toolkit.checks.select import RATIO, SAMPLED, against, family, is_machine_bound
from toolkit.checks.verdict import Reason, Verdict
from toolkit.metrics import Metric, MetricSet

MEDIANS = ("latency.p50", "latency.median")


class NotComparable(Exception):  # noqa: N818 - an outcome, not an error of the user
    """Two numbers say nothing about each other; the message says why."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Spread:
    """A ratio or a difference, with its 95 % interval when there is one."""

    value: float
    interval: tuple[float, float] | None = None
    how: str = ""


@dataclass(frozen=True)
class Comparison:
    """The outcome of one bound."""

    value: float
    unit: str
    ok: bool
    limit: str
    why: str
    reason: Reason

    def verdict(self, limit: Limit, metric: Metric) -> Verdict:
        """The verdict on ``metric``."""
        return Verdict(
            name=limit.title,
            ok=self.ok,
            value=self.value,
            limit=self.limit,
            why=self.why,
            reason=self.reason,
            metric=metric.name,
            variant=metric.variant,
            protocol=metric.protocol,
            unit=self.unit,
        )


def compare(
    metric: Metric, reference: Metric, limit: Limit, bound: str, metrics: MetricSet, machine: str | None
) -> Comparison:
    """Judge one relative bound.

    Raises:
        NotComparable: another unit, origin, test set or machine; or times without an interval.
    """
    _same_kind(metric, reference, limit, machine)
    is_ratio = bound.startswith("ratio")
    spread = _ratio(metric, reference, limit, metrics) if is_ratio else _difference(metric, reference, bound)
    if is_machine_bound(metric) and limit.relative_to == BASELINE and spread.interval is None:
        raise NotComparable(
            "not-comparable", f"{metric.name} has no interval, so noise cannot be told from change"
        )
    return _judge(spread, metric, reference, limit, bound)


def _same_kind(metric: Metric, reference: Metric, limit: Limit, machine: str | None) -> None:
    if metric.unit != reference.unit:
        raise NotComparable("not-comparable", f"{metric.unit} cannot be compared with {reference.unit}")
    if metric.provenance != reference.provenance:
        raise NotComparable(
            "not-comparable", f"a {metric.provenance} number cannot be compared with a {reference.provenance} one"
        )
    if family(metric.name) in SAMPLED and metric.n != reference.n:
        raise NotComparable(
            "not-comparable", f"not the same test: {metric.n} samples here, {reference.n} in the reference"
        )
    emulated = metric.provenance == "emulated"
    if not emulated and not is_machine_bound(metric):
        return
    if metric.machine != reference.machine or (emulated and not metric.machine):
        kind = "emulated numbers" if emulated else "times"
        raise NotComparable(
            "other-machine",
            f"{kind} of different machines: {metric.machine or 'unnamed'} here,"
            f" {reference.machine or 'unnamed'} in the reference; measure both on one machine",
        )
    elsewhere = machine is not None and metric.provenance != "predicted" and metric.machine != machine
    if elsewhere and limit.relative_to == BASELINE:
        raise NotComparable(
            "other-machine", f"measured on {metric.machine or 'an unnamed machine'}, not on {machine}"
        )


def _ratio(metric: Metric, reference: Metric, limit: Limit, metrics: MetricSet) -> Spread:
    to_baseline = limit.relative_to == BASELINE
    if metric.name in MEDIANS:
        found = metrics.find(RATIO, metric.variant, against(BASELINE if to_baseline else reference.variant))
        here = [entry for entry in found if entry.machine == metric.machine]
        if here:
            return Spread(here[0].value, here[0].interval, "interleaved")
    measured = metric.provenance != "predicted"
    if to_baseline and measured and is_machine_bound(metric) and not limit.separate_sessions:
        raise NotComparable(
            "not-comparable",
            f"{metric.name} of two sessions differs by more than the model; profile with the baseline run, so that"
            f" both are measured interleaved ({RATIO}, {against(BASELINE)}), or set separate_sessions: true",
        )
    if reference.value <= 0 or metric.value < 0:
        raise NotComparable(
            "not-comparable",
            f"no ratio of {metric.value:g} to {reference.value:g}; use drop_max or rise_max instead",
        )
    interval = None
    if metric.interval and reference.interval and reference.interval[0] > 0:
        interval = (metric.interval[0] / reference.interval[1], metric.interval[1] / reference.interval[0])
    return Spread(metric.value / reference.value, interval, "of two intervals" if interval else "")


def _difference(metric: Metric, reference: Metric, bound: str) -> Spread:
    sign = -1.0 if bound == "drop_max" else 1.0
    interval = None
    if metric.interval and reference.interval:
        ends = (
            sign * (metric.interval[0] - reference.interval[1]),
            sign * (metric.interval[1] - reference.interval[0]),
        )
        interval = (min(ends), max(ends))
    return Spread(sign * (metric.value - reference.value) + 0.0, interval)  # never -0


def _judge(spread: Spread, metric: Metric, reference: Metric, limit: Limit, bound: str) -> Comparison:
    allowed = getattr(limit, bound)
    lower = bound == "ratio_min"
    kind = bound.split("_", maxsplit=1)[0]
    unit = "1" if kind == "ratio" else metric.unit
    text = f"{kind} {'>=' if lower else '<='} {allowed:g}"
    numbers = f"{metric.value:.6g} against {reference.value:.6g}: {kind} {spread.value:.4g}{_interval(spread)}"

    def outcome(ok: bool, reason: Reason, words: str) -> Comparison:
        return Comparison(spread.value, unit, ok, text, f"{numbers} {words}", reason)

    if spread.value >= allowed if lower else spread.value <= allowed:
        return outcome(True, "holds", f"is {'at least' if lower else 'at most'} {allowed:g}")
    if is_machine_bound(metric) and spread.interval is not None and _inside(allowed, spread.interval):
        low, high = spread.interval
        if high - low > limit.noise_max * abs(spread.value):
            return outcome(False, "too-noisy", "decides nothing; measure longer or on a quieter machine")
        return outcome(True, "holds", f"is beyond {allowed:g}, but by no more than the noise")
    return outcome(False, "exceeded", f"is {'below' if lower else 'above'} {allowed:g}")


def _inside(value: float, interval: tuple[float, float]) -> bool:
    return interval[0] <= value <= interval[1]


def _interval(spread: Spread) -> str:
    if spread.interval is None:
        return ""
    how = f", {spread.how}" if spread.how else ""
    return f" [{spread.interval[0]:.4g}, {spread.interval[1]:.4g}{how}]"
