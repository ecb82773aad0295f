"""Differences between jobs on the same queries, pictures or regions, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from toolkit.sweeps.intervals import Column, Value, average, difference, resampled
from toolkit.sweeps.samples import Samples

Take = Callable[[Samples], Column | None]


def ap(samples: Samples) -> Column | None:
    """Average precision by query."""
    return samples.queries("ap")


def ssim(samples: Samples) -> Column | None:
    """Normalized SSIM by picture, of the worst attacker."""
    return samples.pictures("ssim")


def above_chance(name: str) -> Take:
    """Takes the accuracy above chance of one content, by region."""

    def take(samples: Samples) -> Column | None:
        content = samples.leaks.contents.get(name) if samples.leaks else None
        return content.above_chance() if content else None

    return take


def pairs_of(first: Sequence[Samples], second: Sequence[Samples], take: Take) -> list[tuple[Column, Column]]:
    """The columns of the seeds that both have; none where a job of them has no such numbers."""
    by_seed = {item.job.settings.seed: item for item in first}
    pairs = []
    for item in second:
        if other := by_seed.get(item.job.settings.seed):
            a, b = take(other), take(item)
            if a is None or b is None:
                return []
            pairs.append((a, b))
    return pairs


def paired(first: Sequence[Samples], second: Sequence[Samples], take: Take) -> Value | None:
    """``second - first``, averaged over the seeds that both have.

    Returns:
        None where they have no seed in common, or a job has no such numbers.
    """
    pairs = pairs_of(first, second, take)
    return resampled([average([difference(a, b) for a, b in pairs])]) if pairs else None


def averaged(samples: Sequence[Samples], take: Take) -> Column | None:
    """Mean over seeds; None where a job has no such numbers."""
    columns = [column for item in samples if (column := take(item)) is not None]
    return average(columns) if len(columns) == len(samples) else None
