"""Judges a run's metrics by limits. What cannot be judged is a failure."""

from __future__ import annotations

from collections.abc import Iterator

from toolkit.checks.compare import Comparison, NotComparable, compare
from toolkit.checks.limits import BASELINE, RELATIVE, Limit, Limits
from toolkit.checks.select import (
    absent,
    counterparts,
    distrust,
    is_attack,
    is_machine_bound,
    matches,
    same_protocol,
    select,
)
from toolkit.checks.verdict import Reason, Verdict
from toolkit.metrics import Metric, MetricSet


def check(
    metrics: MetricSet, limits: Limits, baseline: MetricSet | None = None, machine: str | None = None
) -> list[Verdict]:
    """Judge metrics by limits.

    An absent metric, an attacker that did not converge, an emulated number without its host, times of another
    machine and a comparison that decides nothing are all failures, each with its reason.

    Args:
        metrics: of the run to be judged.
        limits: what must hold.
        baseline: metrics that ``relative_to: baseline`` refers to.
        machine: this machine (``toolkit.device.describe_machine``); when given, times that were taken elsewhere
            are not compared with a baseline.

    Returns:
        One verdict per limit, bound and matching metric, in the order of the limits; never empty.
    """
    gate = _Gate(metrics, baseline, machine)
    return [verdict for limit in limits.limits for verdict in gate.judge(limit)]


class _Gate:
    def __init__(self, metrics: MetricSet, baseline: MetricSet | None, machine: str | None) -> None:
        self.metrics = metrics
        self.baseline = baseline
        self.machine = machine

    def judge(self, limit: Limit) -> Iterator[Verdict]:
        found = select(self.metrics, limit)
        if limit.relative_to and limit.relative_to != BASELINE:
            found = [metric for metric in found if not matches(metric.variant, limit.relative_to)]
        if len(found) < limit.at_least:
            yield _refused(limit, "absent", absent(limit, self.metrics))
            return
        for metric in found:
            trouble = self._untrusted(metric, limit)
            if trouble:
                yield _refused(limit, trouble[0], trouble[1], metric)
                continue
            yield from _absolute(metric, limit)
            if limit.relative_to:
                yield from self._relative(metric, limit)
        yield from self._dropped(found, limit)

    def _untrusted(self, metric: Metric, limit: Limit) -> tuple[Reason, str] | None:
        if is_attack(metric):
            why = distrust(metric, self.metrics)
            if why:
                return "not-converged", why
        if metric.provenance == "emulated" and limit.machine == "*" and limit.relative_to != BASELINE:
            return "other-machine", (
                f"{metric.name} is emulated on {metric.machine or 'an unnamed host'} and holds there only;"
                " name that host in the limit (machine: ...)"
            )
        return None

    def _references(self, metric: Metric, limit: Limit) -> list[Metric]:
        if limit.relative_to == BASELINE:
            pool = [other for other in self.baseline or () if other.variant == metric.variant]
        else:
            pool = [other for other in self.metrics if matches(other.variant, limit.relative_to)]
        return counterparts(metric, pool)

    def _relative(self, metric: Metric, limit: Limit) -> Iterator[Verdict]:
        if limit.relative_to == BASELINE and self.baseline is None:
            yield _refused(limit, "no-baseline", "no baseline was given; name one with --baseline", metric)
            return
        references = self._references(metric, limit)
        if not references:
            why = f"{limit.relative_to} has no {metric.name} of the same protocol and split"
            yield _refused(limit, "no-baseline", why, metric)
        for reference in references:
            yield from self._compared(metric, reference, limit)

    def _compared(self, metric: Metric, reference: Metric, limit: Limit) -> Iterator[Verdict]:
        source = self.baseline if limit.relative_to == BASELINE else self.metrics
        if is_attack(reference) and source is not None:
            why = distrust(reference, source)
            if why:
                yield _refused(limit, "not-converged", f"in the reference, {why}", metric)
                return
        for bound in RELATIVE:
            if getattr(limit, bound) is None:
                continue
            try:
                yield compare(metric, reference, limit, bound, self.metrics, self.machine).verdict(limit, metric)
            except NotComparable as refusal:
                yield _refused(limit, refusal.reason, str(refusal), metric)

    def _dropped(self, found: list[Metric], limit: Limit) -> Iterator[Verdict]:
        """What the reference has and this run has not, e.g. the strongest attacker."""
        for variant, reference in self._owed(found, limit):
            have = {_place_of(metric) for metric in found if metric.variant == variant}
            if _place_of(reference) in have:
                continue
            what = " / ".join(part for part in (variant, reference.protocol, reference.split) if part)
            why = f"{limit.relative_to} has {reference.name} for {what}, this run has not"
            yield _refused(limit, "absent", why, reference.model_copy(update={"variant": variant}))

    def _owed(self, found: list[Metric], limit: Limit) -> Iterator[tuple[str, Metric]]:
        """Variants of this run with the numbers of the reference that each of them should have."""
        if limit.relative_to == BASELINE:
            yield from ((other.variant, other) for other in select(self.baseline or (), limit))
        elif limit.relative_to:
            references = select(self.metrics, limit.model_copy(update={"variant": limit.relative_to}))
            for variant in dict.fromkeys(metric.variant for metric in found):
                yield from ((variant, reference) for reference in references)


def _place_of(metric: Metric) -> tuple[str, str]:
    return same_protocol(metric.protocol), metric.split


def _absolute(metric: Metric, limit: Limit) -> Iterator[Verdict]:
    for sign, bound in ((">=", limit.min), ("<=", limit.max)):
        if bound is None:
            continue
        ok = metric.value >= bound if sign == ">=" else metric.value <= bound
        comparison = Comparison(
            value=metric.value,
            unit=metric.unit,
            ok=ok,
            limit=f"{sign} {bound:g}",
            why=f"{metric.value:.6g} is {_place(sign, ok)} {bound:g}{_origin(metric)}",
            reason="holds" if ok else "exceeded",
        )
        yield comparison.verdict(limit, metric)


def _place(sign: str, ok: bool) -> str:
    if ok:
        return "at least" if sign == ">=" else "at most"
    return "below" if sign == ">=" else "above"


def _origin(metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit not in ("1", "") else ""
    place = f" on {metric.machine}" if metric.machine and is_machine_bound(metric) else ""
    return f"{unit} ({metric.provenance}{place}, n={metric.n})"


def _refused(limit: Limit, reason: Reason, why: str, metric: Metric | None = None) -> Verdict:
    bounds = [
        f"{key} {value:g}" for key in ("min", "max", *RELATIVE) if (value := getattr(limit, key)) is not None
    ]
    return Verdict(
        name=limit.title,
        ok=False,
        value=None,
        limit=", ".join(bounds),
        why=why,
        reason=reason,
        metric=limit.metric,
        variant=metric.variant if metric else "",
        protocol=metric.protocol if metric else "",
        unit=metric.unit if metric else "1",
    )
