"""Reasons not to believe an attack: a weak attacker must look weak, not the model private."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from toolkit.privacy.attacks.base import FitReport
from toolkit.privacy.result import AttackerResult

if TYPE_CHECKING:
    from toolkit.privacy.suite import AttackData

LEARNED = ("inverse_network",)
SANITY = "ridge"


def attacker_problems(attacker: AttackerResult, others: Sequence[AttackerResult]) -> AttackerResult:
    """The attacker with what speaks against it: not converged, not tested for it, beaten by ridge."""
    found = list(attacker.problems)
    if attacker.fit.steps:
        if attacker.fit.converged is None:
            found.append("convergence was not tested (screening)")
        elif not attacker.fit.converged:
            found.append(_not_converged(attacker.fit))
    if attacker.kind in LEARNED:
        found += _against_ridge(attacker, others)
    return replace(attacker, problems=tuple(found))


def suite_problems(
    attackers: Sequence[AttackerResult], data: AttackData, minimum_test: int, minimum_train: int
) -> tuple[str, ...]:
    """What speaks against the suite: no sanity line, no learned decoder on a discrete wire, too few pictures."""
    found = []
    kinds = {attacker.kind for attacker in attackers}
    if SANITY not in kinds:
        found.append("no ridge regression: nothing shows that the learned attackers work")
    if not kinds & set(LEARNED):
        found.append("no learned decoder: optimization alone fails on discrete codes and proves nothing")
    if len(data.test) < minimum_test:
        found.append(f"only {len(data.test)} test pictures, {minimum_test} are needed")
    if len(data.train) < minimum_train:
        found.append(f"the attacker had only {len(data.train)} pairs, {minimum_train} are needed")
    return tuple(found)


def _not_converged(fit: FitReport) -> str:
    if fit.data_gain is None:
        return f"not converged: the last doubling of the steps still gained {fit.gain:.3f} SSIM"
    return (
        f"not converged: all pictures still gained {fit.data_gain:.3f} SSIM over half of them; raise "
        "attack.augmented or attack.synthetic (with pretrain_steps), or give the attacker more pictures"
    )


def _against_ridge(attacker: AttackerResult, others: Sequence[AttackerResult]) -> list[str]:
    for ridge in (other for other in others if other.kind == SANITY):
        own, line = float(np.mean(attacker.ssim)), float(np.mean(ridge.ssim))
        own_error, line_error = float(np.mean(attacker.mse)), float(np.mean(ridge.mse))
        if own <= line and own_error >= line_error:
            return [f"does not beat ridge regression (SSIM {own:.3f} against {line:.3f})"]
    return []
