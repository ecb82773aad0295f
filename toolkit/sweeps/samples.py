"""What a finished job left: its numbers by query, by picture and by region, read back for the tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from toolkit.privacy.result import AttackResult
from toolkit.sweeps.folders import Sweep, Unit, read_json
from toolkit.sweeps.frames import FRAMES, Scores, load_frames
from toolkit.sweeps.intervals import Column, Floats
from toolkit.sweeps.leaks import LEAKS, Leaks, load_leaks
from toolkit.sweeps.score import SCORES
from toolkit.sweeps.settings import Job

LAST_STEPS = 20


@dataclass(frozen=True)
class Samples:
    """One job's numbers.

    Attributes:
        job: which.
        body: of ``scores.json``.
        edge: costs of the edge half, and what it was allowed.
        attack: all attackers.
        curves: of the training phases.
        leaks: what is read by name; None for a job of a version that did not ask.
        frames: what several frames of a scene give away; empty where they are all alike or nobody asked.
    """

    job: Job
    body: dict[str, Any]
    edge: dict[str, float]
    attack: AttackResult
    curves: dict[str, dict[str, list[tuple[int, float]]]]
    leaks: Leaks | None = field(default=None)
    frames: Scores = field(default_factory=dict)

    @property
    def ssim(self) -> Floats:
        """Normalized SSIM a picture of the worst attacker."""
        floor = self.attack.anchors.floor_ssim
        return np.asarray((self.attack.worst("ssim").values("ssim") - floor) / (1 - floor))

    def queries(self, name: Literal["ap", "hit1"]) -> Column:
        """A number per query."""
        identities = tuple(f"{identity}" for identity in self.body["identity"])
        return Column(np.asarray(self.body[name], np.float64), identities)

    def pictures(self, name: Literal["ssim", "mse", "mean_mse"]) -> Column:
        """A number per test picture: of the worst attacker by that measure, or of the mean picture."""
        values = {
            "ssim": lambda: self.ssim,
            "mse": lambda: self.attack.worst("mse").values("mse"),
            "mean_mse": lambda: np.asarray(self.attack.anchors.mean_mse),
        }[name]()
        return Column(np.asarray(values, np.float64), tuple(self.attack.identities))

    def opinion(self) -> float | None:
        """R2 that the training adversary last had of itself; None without one, or where it was not noted.

        From the last phase with an adversary. Errors by MSE are relative to the mean picture's, as 1 - R2 is; with
        another loss the phase notes R2 beside the error.
        """
        adversary = self.job.settings.slim.finetune.adversary
        curves = self.curves.get("finetune", {})
        if adversary is None:
            return None
        noted = [value for _, value in curves.get("adversary.r2", [])]
        if not noted and adversary.loss == "mse":
            noted = [1 - value for _, value in curves.get("adversary.error", [])]
        return float(np.mean(noted[-LAST_STEPS:])) if noted else None


def load_samples(sweep: Sweep, unit: Unit) -> Samples:
    """Read a finished job.

    Raises:
        ArtifactError: its attack cannot be read.
    """
    assert unit.job is not None
    folder = sweep.root / unit.name / "job"
    return Samples(
        job=unit.job,
        body=read_json(folder / SCORES),
        edge=read_json(folder / "edge.json"),
        attack=AttackResult.load(folder / "attack"),
        curves=read_json(folder / "curves.json"),
        leaks=load_leaks(folder / LEAKS) if (folder / LEAKS).exists() else None,
        frames=load_frames(folder / FRAMES) if (folder / FRAMES).exists() else {},
    )
