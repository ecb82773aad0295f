"""One number over several seeds: the strongest attacker within each seed first, then the mean over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.errors import AttackError
from toolkit.metrics import Metric
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.result import AttackResult

LEAST = 3
# Two-sided 95 % quantiles of Student's t with 1, 2, ... degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NORMAL95 = 1.960
MEASURES = ("ssim", "mse", "r2", "ssim_normalized")


@dataclass(frozen=True)
class OverSeeds:
    """A measure over seeds.

    Attributes:
        values: of the strongest attacker of each seed.
        value: their mean.
        low, high: 95 % interval of the mean over seeds (Student's t); it tells how much training varies, not how
            much pictures do.
        strongest: label of the strongest attacker of each seed.
    """

    values: tuple[float, ...]
    value: float
    low: float
    high: float
    strongest: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """At least three seeds."""
        return len(self.values) >= LEAST


def over_seeds(results: Sequence[AttackResult]) -> dict[str, OverSeeds]:
    """Every measure over results that differ in their seed alone, by name (``ssim``, ``mse``, ``r2``, ...).

    All are normalized with the strongest floor among the seeds' anchors, so that a weak floor of one seed does not
    pass for a leak of that seed.

    Args:
        results: of one variant, each with attackers (and perhaps a network) of another seed.

    Raises:
        AttackError: fewer than two seeds, other test pictures, or other attackers.
    """
    if len(results) < 2:
        raise AttackError("one seed has no spread; give the results of at least two, better three")
    first = results[0]
    for other in results[1:]:
        if other.identities != first.identities:
            raise AttackError(f"{other.variant}: the seeds were scored on other test pictures")
        if {a.label for a in other.attackers} != {a.label for a in first.attackers}:
            raise AttackError(f"{other.variant}: the seeds have other attackers; use the same settings")
    anchors = max((result.anchors for result in results), key=lambda one: one.floor_ssim)
    values = [_values(result, anchors) for result in results]
    return {
        name: _summary(
            [value[name] for value in values],
            [r.worst("mse" if name in ("mse", "r2") else "ssim").label for r in results],
        )
        for name in MEASURES
    }


def seed_metrics(results: Sequence[AttackResult], machine: str, prefix: str = "privacy.") -> list[Metric]:
    """Rows ``PREFIXseeds.NAME`` for ``metrics.json``; ``n`` is the number of seeds."""
    first = results[0]
    return [
        Metric(
            name=f"{prefix}seeds.{name}",
            value=found.value,
            n=len(found.values),
            interval=(found.low, found.high),
            variant=first.variant,
            machine=machine,
            protocol=f"worst of {len(first.attackers)} attackers: {', '.join(dict.fromkeys(found.strongest))}",
            split="test",
        )
        for name, found in over_seeds(results).items()
    ]


def _values(result: AttackResult, anchors: Anchors) -> dict[str, float]:
    structure = float(result.worst("ssim").values("ssim").mean())
    error = float(result.worst("mse").values("mse").mean())
    return {
        "ssim": structure,
        "mse": error,
        "r2": anchors.r2(np.asarray(error)),
        "ssim_normalized": anchors.normalized(structure),
    }


def _summary(values: Sequence[float], strongest: Sequence[str]) -> OverSeeds:
    count = len(values)
    quantile = T95[count - 2] if count - 2 < len(T95) else NORMAL95
    middle = float(np.mean(values))
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    return OverSeeds(tuple(values), middle, middle - half, middle + half, tuple(strongest))
