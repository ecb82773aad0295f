"""What a budget has left after the ranking: aligned steps that still fit come back, the best scores first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toolkit.models.channels.labels import Indices
from toolkit.surgery.choose import Scores
from toolkit.surgery.structure import Flags, Structure

Spent = Callable[[Flags], float]


def filled(structure: Structure, wanted: Flags, scores: Scores, step: int, spent: Spent, limit: float) -> Flags:
    """Keep more of what the ranking removes, a greedy knapsack: no step that is left would fit.

    One threshold over all layers leaves much of a budget unused where channels go in multiples of 16 or 32.

    Args:
        structure: of the dense network.
        wanted: ``(labels,)`` True where a root is to go.
        scores: ``(labels,)`` by root.
        step: channels that come back at a time.
        spent: cost of a state of the channels, alignment included.
        limit: largest cost.
    """
    wanted = wanted.copy()
    while True:
        for roots in _steps(structure, wanted, scores, step):
            trial = wanted.copy()
            trial[roots] = False
            if spent(trial) <= limit:
                wanted = trial
                break
        else:
            return wanted


def _steps(structure: Structure, wanted: Flags, scores: Scores, step: int) -> list[Indices]:
    """For every group that loses channels its best ones, up to ``step``; the best group by mean score first."""
    found = []
    for group in structure.channel_map.groups:
        gone = np.unique(group.roots[wanted[group.roots]])
        if len(gone):
            found.append(gone[np.argsort(-scores[gone], kind="stable")][:step])
    return sorted(found, key=lambda roots: -float(scores[roots].mean()))
