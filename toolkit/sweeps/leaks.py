"""What of a job's wire is read by name (plate, background, occupants, camera), region by region."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import ArtifactError
from toolkit.privacy.leaks import ORIGINAL, LeakResult
from toolkit.privacy.result import AttackResult
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import AttackData, finished_attack
from toolkit.runs import write_atomic
from toolkit.stages.base import METRICS, Context
from toolkit.stages.data import RunData
from toolkit.stages.leaks import LeakStudy, readable_attacker
from toolkit.sweeps.intervals import Column

LEAKS = "leaks.json"
WIRE = "wire"  # the variant's name in a job's metrics
_STUDIES: dict[str, LeakStudy] = {}


@dataclass(frozen=True)
class Content:
    """One content of one job.

    Attributes:
        hits: by source, 1 for each test region that is read right, else 0; the originals are one source.
        owners: identity of each region.
        chance: of always guessing the most frequent class.
        readable: the recogniser reads the originals, so its failure on the wire says something.
        per_picture: it changes from picture to picture; else it is evidence of the identity, which the task keeps.
    """

    hits: dict[str, str]
    owners: tuple[str, ...]
    chance: float
    readable: bool
    per_picture: bool

    @property
    def worst(self) -> str | None:
        """The source from which most is read; None where originals cannot be read."""
        observed = [source for source in self.hits if source != ORIGINAL]
        if not self.readable or not observed:
            return None
        return max(observed, key=lambda source: self.hits[source].count("1"))

    def above_chance(self) -> Column | None:
        """Accuracy above chance, region by region, of the worst source."""
        if self.worst is None:
            return None
        found = np.frombuffer(self.hits[self.worst].encode(), np.uint8).astype(np.float64) - ord("0")
        return Column(found - self.chance, self.owners)


@dataclass(frozen=True)
class Leaks:
    """All contents of one job.

    Attributes:
        contents: by name.
        background: SSIM outside the vehicle of the strongest attacker, and of the mean picture; None where the
            data does not know what is outside.
    """

    contents: dict[str, Content]
    background: tuple[float, float] | None


def measure_leaks(
    context: Context, data: RunData, source: AttackData, result: AttackResult, settings: AttackSettings, work: Path
) -> None:
    """Read a job's reconstructions and codes by name; writes ``leaks.json`` and ``metrics.json``.

    Args:
        context: of the job; its settings say what is looked for, and ``attack.leaks: null`` leaves it out.
        data: the sweep's pictures.
        source: the job's codes.
        result: of the attackers.
        settings: of the attackers as they ran.
        work: of the attackers, where their states are.
    """
    if context.settings.attack.leaks is None:
        return
    study = _study(context, data, source)
    label = readable_attacker(result)
    attack = finished_attack(label, source, settings, work) if label else None
    found = study.measure(WIRE, result, source, attack)
    background = [
        metric.value
        for name in ("ssim", "ssim_floor")
        for metric in context.metrics
        if metric.name in (f"leak.background.{name}", f"identity_evidence.background.{name}")
    ]
    body = {
        "contents": {leak.name: _packed(leak) for leak in found},
        "background": background if len(background) == 2 else None,
    }
    (context.folder / METRICS).write_text(context.metrics.to_json(), encoding="utf-8")
    write_atomic(context.folder / LEAKS, json.dumps(body) + "\n")


def load_leaks(path: Path) -> Leaks:
    """Read ``leaks.json``.

    Raises:
        ArtifactError: it is not what :func:`measure_leaks` wrote.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        contents = {
            name: Content(**{**fields, "owners": tuple(fields["owners"])})
            for name, fields in body["contents"].items()
        }
        background = body["background"]
        return Leaks(contents, None if background is None else (background[0], background[1]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete its job and run the sweep again") from error


def _packed(leak: LeakResult) -> dict[str, Any]:
    return {
        "hits": {source: "".join("1" if hit else "0" for hit in hits) for source, hits in leak.hits.items()},
        "owners": list(leak.owners),
        "chance": leak.chance,
        "readable": leak.reportable,
        "per_picture": leak.per_picture,
    }


def _study(context: Context, data: RunData, source: AttackData) -> LeakStudy:
    """The recognisers of originals, which all jobs of this process and seed share."""
    leaks = context.settings.attack.leaks
    assert leaks is not None
    key = (
        f"{data.root} {len(data.pictures)} {data.pictures.shape} {context.settings.seed} {leaks.model_dump_json()}"
    )
    if key not in _STUDIES:
        _STUDIES.clear()
        owned = np.union1d(source.train, source.validation).astype(np.int64)
        _STUDIES[key] = LeakStudy(context, data, owned, source.test)
    study = _STUDIES[key]
    study.context, study.data = context, data
    return study
