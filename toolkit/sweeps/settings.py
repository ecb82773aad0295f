"""The schema of a sweep's YAML, and the jobs that it stands for."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from toolkit.errors import SettingsError
from toolkit.patrol.settings import LatencyBudget
from toolkit.settings import RunSettings
from toolkit.settings_file import apply_change, checked, read_body, settings_error

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Prune = Literal["none", "masks", "scores"]
Role = Literal["baseline", "form", "end"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MethodSettings(_Section):
    """One row of the table.

    Attributes:
        prune: ``masks`` trains them jointly (PATROL), ``scores`` removes channels of the dense network by
            importance, ``none`` removes nothing. All are followed by ``slim.finetune``.
        wire: ``feature`` sends the cut's feature; ``embedding`` runs the whole network on the device and sends the
            embedding.
        role: what the target's verdict takes it for: a ``form`` of the method, a ``baseline``, or an ``end``
            point, which sends the embedding. By default masks make a form, an embedding on the wire an end.
        set: what differs from ``base``, as in a run's YAML.
    """

    prune: Prune = "none"
    wire: Literal["feature", "embedding"] = "feature"
    role: Role | None = None
    set: dict[str, Any] = {}

    def taken_for(self) -> Role:
        """The role, the default resolved."""
        return self.role or (
            "end" if self.wire == "embedding" else "form" if self.prune == "masks" else "baseline"
        )


class EvidenceSettings(_Section):
    """How rows are compared at one utility or one rate.

    Attributes:
        map_tolerance: a row counts as one at the same mAP when it is at most this far away.
        rate_tolerance: a row counts as one at the same rate when its coded bytes differ by at most this share.
        map_loss: that the target allows, one-sided 95 % bound.
        leakage: share of the best baseline's that the target allows.
        device: Jetson module (``orin-nano-8gb@15W``) for which the edge half's latency is predicted.
    """

    map_tolerance: float = Field(default=0.01, gt=0, lt=1)
    rate_tolerance: float = Field(default=0.1, gt=0, lt=1)
    map_loss: float = Field(default=0.01, gt=0, lt=1)
    leakage: float = Field(default=0.5, gt=0, lt=1)
    device: str | None = None

    @field_validator("device")
    @classmethod
    def _predictable(cls, device: str | None) -> str | None:
        if device is not None:
            LatencyBudget(device=device, max_ms=1.0)
        return device


class SweepSettings(_Section):
    """A sweep: methods x axes, on one data set.

    Attributes:
        name: of its folder.
        base: a run's settings, without name.
        methods: rows by name.
        axes: setting (``seed``, ``model.cut``, ``wire.bits``, ``budget``) -> values; every combination is run.
        budget: of the edge half, for methods that prune: an earlier cut, whose dense edge half's MACs are the
            limit, or a share of the dense MACs.
        reference: the method that the others are compared with.
        threads: of one job.
        data_seed: of the splits, the same for all jobs.
        evidence: how rows are compared; changes no job.
    """

    name: str = Field(pattern=NAME, max_length=80)
    base: dict[str, Any]
    methods: dict[str, MethodSettings] = Field(min_length=1)
    axes: dict[str, tuple[Any, ...]] = {"seed": (0,)}
    budget: str | float | None = None
    reference: str = "dense"
    threads: int = Field(default=1, ge=1, le=256)
    data_seed: int = Field(default=0, ge=0, lt=2**31)
    evidence: EvidenceSettings = EvidenceSettings()

    @model_validator(mode="after")
    def _complete(self) -> SweepSettings:
        if self.reference not in self.methods:
            raise ValueError(f"reference is {self.reference}, the methods are {', '.join(self.methods)}")
        empty = [name for name, values in self.axes.items() if not values]
        if empty:
            raise ValueError(f"axis {empty[0]} has no values")
        return self


@dataclass(frozen=True)
class Job:
    """One network: a method at one point of the axes.

    Attributes:
        id: of its folder.
        method: name of the method.
        point: the axes' values, the seed included.
        settings: of the run.
        prune, wire: of the method.
        budget: see :class:`SweepSettings`; None where nothing is pruned.
        limit: the sweep's budget at this point, which the cost of every job is held against.
        device: see :class:`EvidenceSettings`.
        role: of the method.
    """

    id: str
    method: str
    point: Mapping[str, Any]
    settings: RunSettings
    prune: Prune
    wire: str
    budget: str | float | None
    limit: str | float | None = None
    device: str | None = None
    role: Role = "baseline"

    @property
    def group(self) -> tuple[tuple[str, Any], ...]:
        """The point without its seed: jobs of one group are averaged over seeds."""
        return tuple((name, value) for name, value in self.point.items() if name != "seed")

    def key(self) -> str:
        """Hash of all that decides the network."""
        sections = ("seed", "data", "picture", "model", "wire", "train", "patrol", "slim", "attack", "evaluate")
        dump = self.settings.model_dump(mode="json")
        body = [self.prune, self.wire, self.budget, {section: dump[section] for section in sections}]
        return digest(body)


def digest(body: Any) -> str:
    """16 hex digits of a JSON value's sha256."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def load_sweep(path: Path, changes: tuple[str, ...] | list[str] = ()) -> SweepSettings:
    """Read a sweep's YAML and check every job in it.

    ``extends: OTHER.yaml`` (looked up beside the file) lays the file over another sweep, section by section; a
    method that is null is left out.

    Raises:
        SettingsError: what is wrong and where, in one line.
    """
    body = _extended(path, ())
    for change in changes:
        apply_change(body, change)
    settings = checked(body, SweepSettings, path)
    jobs_of(settings, path)
    return settings


def _extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    body = read_body(path)
    if "extends" in body:
        other = (path.parent / str(body.pop("extends"))).resolve()
        if other in seen:
            raise SettingsError(f"{path}: extends goes round in a circle; leave it out of one of the files")
        body = merged(_extended(other, (*seen, path.resolve())), body)
    if isinstance(body.get("methods"), dict):
        body["methods"] = {name: method for name, method in body["methods"].items() if method is not None}
    return body


def jobs_of(sweep: SweepSettings, path: Path | None = None) -> tuple[Job, ...]:
    """All jobs, seeds outermost, so that the first rows of the table are complete early.

    Raises:
        SettingsError: a method's settings are not a run's, or two jobs get one name.
    """
    names = sorted(sweep.axes, key=lambda name: name != "seed")
    points = [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*(sweep.axes[name] for name in names))
    ]
    jobs = [_job(sweep, name, method, point, path) for point in points for name, method in sweep.methods.items()]
    twice = {job.id for job in jobs if sum(other.id == job.id for other in jobs) > 1}
    if twice:
        raise SettingsError(f"two jobs of the sweep are called {min(twice)}; give the axis distinct values")
    return tuple(jobs)


def _job(sweep: SweepSettings, name: str, method: MethodSettings, point: dict[str, Any], path: Path | None) -> Job:
    body = merged(sweep.base, method.set)
    budget = point.get("budget", sweep.budget)
    for place, value in point.items():
        if place != "budget":
            _put(body, place, value, keep=method.set)
    parts = [f"{place.rpartition('.')[2]}{value}" for place, value in point.items()]
    identity = "-".join([name, *parts]).replace("/", "_")
    body |= {"name": identity, "threads": sweep.threads}
    where = f"{path or sweep.name}: method {name}"
    try:
        settings = RunSettings.model_validate(body)
    except ValidationError as error:
        raise SettingsError(f"{where}: {settings_error(error, RunSettings)}") from error
    return Job(
        id=identity,
        method=name,
        point=point,
        settings=settings,
        prune=method.prune,
        wire=method.wire,
        budget=budget if method.prune != "none" else None,
        limit=budget,
        device=sweep.evidence.device,
        role=method.taken_for(),
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, section by section; None turns a section off."""
    result = dict(base)
    for name, value in changes.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _put(body: dict[str, Any], place: str, value: Any, keep: Mapping[str, Any]) -> None:
    """Set ``a.b.c``; what the method sets itself (a shallow cut) stays."""
    *parents, last = place.split(".")
    own: Any = keep
    for parent in parents:
        body[parent] = dict(body.get(parent) or {})
        body = body[parent]
        own = own.get(parent, {}) if isinstance(own, Mapping) else {}
    if not (isinstance(own, Mapping) and last in own):
        body[last] = value
