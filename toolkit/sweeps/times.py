"""How long a sweep will take, said before it starts, and what is left while it runs."""

from __future__ import annotations

import json
from functools import lru_cache

from toolkit.settings import RunSettings
from toolkit.stages.estimate import attack_seconds, counts, joint_seconds, training_rate
from toolkit.sweeps.folders import Sweep, Unit
from toolkit.sweeps.settings import Job

RENDER_PER_SECOND = 100.0
FIXED_SECONDS = 10.0  # tracing, surgery, ranking, writing
READER_STEP_SECONDS = 0.02  # of a recogniser
EVALUATED_SHARE = 0.3  # a forward pass against a training step of the same pictures


def sweep_seconds(sweep: Sweep) -> dict[str, float]:
    """Seconds of one thread, by unit that is not finished; training and decoder steps are timed here."""
    return {unit.name: unit_seconds(unit) for unit in sweep.units if not sweep.is_done(unit)}


def unit_seconds(unit: Unit) -> float:
    """Estimated seconds of a unit."""
    settings = unit.settings
    train, total = counts(settings.data)
    if unit.kind == "data":
        return total / RENDER_PER_SECOND
    rate = _rate(_model(settings))
    if unit.kind == "dense":
        return train * settings.train.epochs * settings.train.augmentations / rate
    attack, floor = _attack(_attacked(settings))
    if unit.kind == "anchors" or unit.job is None:
        return floor + FIXED_SECONDS
    attack *= 1 + 2 * _more_frames(unit.job)
    evaluation = 2 * EVALUATED_SHARE * total / rate  # mirror images are encoded too
    return _training(unit.job, train, rate) + attack + _reading(settings) + evaluation + FIXED_SECONDS


def _more_frames(job: Job) -> int:
    """Numbers of frames that are attacked besides one; they differ only where noise or dropout is drawn."""
    last = job.settings.slim.finetune
    drawn = job.wire == "feature" and bool(job.settings.wire.noise or last.noise or last.dropout)
    return sum(count > 1 for count in job.settings.attack.frames) if drawn else 0


def _reading(settings: RunSettings) -> float:
    """Recognisers of originals, reconstructions and codes."""
    leaks = settings.attack.leaks
    return 0.0 if leaks is None else 3 * len(leaks.contents) * leaks.recogniser.steps * READER_STEP_SECONDS


def _training(job: Job, train: int, rate: float) -> float:
    seconds = joint_seconds(job.settings.slim.finetune, train, rate)
    if job.prune == "masks":
        seconds += joint_seconds(job.settings.patrol, train, rate)
    return seconds


def _model(settings: RunSettings) -> str:
    model = settings.model.model_dump(mode="json") | {"cut": "layer2"}
    return json.dumps([model, settings.picture.model_dump(mode="json"), settings.train.precision])


def _attacked(settings: RunSettings) -> str:
    dump = settings.model_dump(mode="json")
    return json.dumps({name: dump[name] for name in ("model", "picture", "attack")})


@lru_cache(maxsize=64)
def _rate(text: str) -> float:
    model, picture, precision = json.loads(text)
    body = {"name": "timed", "model": model, "picture": picture, "train": {"precision": precision}}
    return training_rate(RunSettings.model_validate(body))


@lru_cache(maxsize=64)
def _attack(text: str) -> tuple[float, float]:
    return attack_seconds(RunSettings.model_validate({"name": "timed", **json.loads(text)}))


class Remaining:
    """What is left of a sweep, from its estimate and the units' real times."""

    def __init__(self, expected: dict[str, float]) -> None:
        self._expected = dict(expected)
        self._spent = self._planned = 0.0

    def done(self, unit: str, seconds: float) -> tuple[int, float]:
        """Note a finished unit; units and seconds that are left."""
        self._spent += seconds
        self._planned += self._expected.pop(unit, 0.0)
        scale = self._spent / self._planned if self._planned else 1.0
        return len(self._expected), scale * sum(self._expected.values())
