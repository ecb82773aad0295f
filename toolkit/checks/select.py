"""Which metrics a limit speaks of, and what they may be compared with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from toolkit.checks.limits import Limit
from toolkit.metrics import Metric, MetricSet

MACHINE_BOUND = ("latency", "throughput", "memory", "power", "energy")
SAMPLED = ("reid", "privacy", "leak", "identity_evidence")
ATTACKED = ("privacy", "leak", "identity_evidence")
NOT_AN_ATTACK = (
    "privacy.converged",
    "privacy.trusted",
    "privacy.measurable",
    "privacy.floor",
    "privacy.bound",
    "privacy.certificate",
)
CONVERGED, TRUSTED = "privacy.converged", "privacy.trusted"
_SUITE = "worst of "
UNSTEADY = ", not steady"
RATIO = "latency.ratio"


def against(reference: str) -> str:
    """Protocol of a ``latency.ratio`` metric: measured interleaved with ``reference``.

    Args:
        reference: key of a variant of the same run, or ``baseline`` for the same variant of the baseline run,
            whose engine was rebuilt here.
    """
    return f"against:{reference}"


def same_protocol(protocol: str) -> str:
    """What two protocols must share to be compared.

    The worst of a suite, ``worst of 3 attackers: ridge``, is compared whichever attacker it was, but only with the
    worst of as many. A latency that had not become steady is compared too: its interval says what it is worth.
    """
    return protocol.split(":", 1)[0] if protocol.startswith(_SUITE) else protocol.removesuffix(UNSTEADY)


def family(name: str) -> str:
    """First part of a metric's name."""
    return name.split(".", 1)[0]


def is_machine_bound(metric: Metric) -> bool:
    """The number depends on the machine it was taken on, and on what else that machine was doing."""
    return family(metric.name) in MACHINE_BOUND


def is_attack(metric: Metric) -> bool:
    """The number is what an attacker reached, so that it counts only if the attacker converged."""
    return family(metric.name) in ATTACKED and not metric.name.startswith(NOT_AN_ATTACK)


def matches(text: str, pattern: str) -> bool:
    """The text is the pattern, or fits it as a shell pattern."""
    return text == pattern or fnmatchcase(text, pattern)


def select(metrics: Iterable[Metric], limit: Limit) -> list[Metric]:
    """The metrics that a limit speaks of, in their order."""
    return [
        metric
        for metric in metrics
        if metric.name == limit.metric
        and matches(metric.variant, limit.variant)
        and matches(metric.protocol, limit.protocol)
        and matches(metric.machine, limit.machine)
        and matches(metric.split, limit.split)
        and metric.provenance == limit.provenance
    ]


def counterparts(metric: Metric, candidates: Iterable[Metric]) -> list[Metric]:
    """Candidates that measure the same thing in the same way; of several machines the metric's own only."""
    same = [
        other
        for other in candidates
        if other.name == metric.name
        and same_protocol(other.protocol) == same_protocol(metric.protocol)
        and other.split == metric.split
    ]
    here = [other for other in same if other.machine == metric.machine]
    return here or same


def distrust(metric: Metric, metrics: MetricSet) -> str:
    """Why the attack behind a number proves nothing; empty when it converged and nothing speaks against it."""
    attacker = metric.protocol or "the attack"
    converged = _states(metric, metrics, CONVERGED)
    if not converged:
        return f"nothing says whether {attacker} converged ({CONVERGED} is absent); run the attack stage again"
    if min(converged) < 1:
        return f"{attacker} did not converge, so its failure proves nothing; train it longer"
    if min(_states(metric, metrics, TRUSTED), default=1.0) < 1:
        return f"{attacker} is not trusted ({TRUSTED} is 0); the report says what speaks against it"
    return ""


def _states(metric: Metric, metrics: MetricSet, name: str) -> list[float]:
    """Values of a state of the attacker behind ``metric``; of its suite, where it is the worst of one."""
    return [
        entry.value
        for entry in metrics.find(name, metric.variant)
        if same_protocol(entry.protocol) == same_protocol(metric.protocol)
    ]


def absent(limit: Limit, metrics: MetricSet) -> str:
    """What is missing, with what was found nearby."""
    names = sorted({metric.name for metric in metrics})
    if limit.metric in names:
        have = sorted({_place(metric) for metric in metrics.find(limit.metric)})
        wanted = ", ".join(
            f"{key} {getattr(limit, key)}"
            for key in ("variant", "protocol", "machine", "split")
            if getattr(limit, key) != "*"
        )
        return (
            f"no {limit.provenance} {limit.metric} for {wanted or 'any variant'} (wanted {limit.at_least});"
            f" there is: {'; '.join(have[:6])}"
        )
    near = difflib.get_close_matches(limit.metric, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "; run the stage that measures it"
    return f"{limit.metric} was not measured{hint}"


def _place(metric: Metric) -> str:
    return " / ".join(
        part for part in (metric.provenance, metric.variant, metric.protocol, metric.machine) if part
    )
