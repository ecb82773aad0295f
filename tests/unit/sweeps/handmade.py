"""Groups of finished jobs whose numbers are set by hand, for known answers."""

import json

import numpy as np

from tests.unit.sweeps.mini import mini
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.base import FitReport
from toolkit.privacy.result import AttackerResult, AttackResult
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.settings import SweepSettings
from toolkit.sweeps.table import collect_groups

IDENTITIES = tuple(f"v{number // 2}" for number in range(20))
FIT = FitReport(
    converged=None, validation_ssim=0.5, validation_mse=0.1, gain=0.0, steps=4, pairs=10, parameters=10
)


def attack(ssim, mse):
    """An attacker with these means, every picture a little different; the floor is 0.2."""
    offset = np.tile([-0.01, 0.01], 10)
    one = AttackerResult(
        label="screening", kind="inverse_network", knowledge={}, fit=FIT, mse=tuple(mse + 0 * offset),
        ssim=tuple(ssim + offset), problems=(), seconds=1.0,
    )  # fmt: skip
    return AttackResult(
        variant="job", identities=IDENTITIES, attackers=(one,), failed=(), problems=(), shown=(),
        reconstructions={}, anchors=Anchors(mean_mse=(0.1,) * 20, mean_ssim=(0.2,) * 20, shuffled_mse=(0.1,) * 20,
                        shuffled_ssim=(0.2,) * 20),
    )  # fmt: skip


def leaks(plate, readable=True):
    """Plate characters: the first ``plate`` of 10 are read from the codes; chance is 0.1."""
    hits = {"original": "1111111111", "codes": "".join("1" if place < plate else "0" for place in range(10))}
    content = {"hits": hits, "owners": list(IDENTITIES[:10]), "chance": 0.1, "readable": readable,
               "per_picture": False}  # fmt: skip
    return {"contents": {"plate": content}, "background": [0.3, 0.25]}


class Made:
    """A sweep's folder whose jobs are written by hand."""

    def __init__(self, root, **changes):
        self.sweep = Sweep.open(root, SweepSettings.model_validate(mini(**changes)))
        self.done = set()

    def finish(
        self, job, *, map, ssim, macs, mse=0.05, coded=100.0, plate=None, edge=None, curves=None, frames=None
    ):
        folder = self.sweep.root / "jobs" / job / "job"
        folder.mkdir(parents=True)
        spread = np.tile([-0.05, 0.05], 10)
        scores = {"map": map, "rank1": map, "ap": (map + spread).tolist(), "hit1": [1.0] * 20,
                  "query": list(range(20)), "identity": [number // 2 for number in range(20)],
                  "bytes_raw": 2 * coded, "bytes_entropy": coded}  # fmt: skip
        costs = {"macs": macs, "parameters": 1000, "activation_bytes": 5000} | (edge or {})
        for name, body in (("scores", scores), ("edge", costs), ("curves", curves or {})):
            (folder / f"{name}.json").write_text(json.dumps(body))
        if frames is not None:
            (folder / "frames.json").write_text(json.dumps(frames))
        if plate is not None:
            (folder / "leaks.json").write_text(json.dumps(leaks(plate)))
        attack(ssim, mse).save(folder / "attack")
        self.done.add(f"jobs/{job}")

    def groups(self):
        self.sweep.is_done = lambda unit: unit.name in self.done
        return collect_groups(self.sweep)
