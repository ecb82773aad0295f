"""Where the parts of a sweep lie, and what each needs: data, dense networks by seed, the scale, the jobs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from toolkit.errors import ArtifactError, SettingsError
from toolkit.runs import RunFolder, write_atomic
from toolkit.settings import RunSettings, environment
from toolkit.stages.data import DataStage
from toolkit.sweeps.settings import Job, SweepSettings, digest, jobs_of

SWEEP = "sweep.json"
Kind = Literal["data", "dense", "anchors", "job"]


@dataclass(frozen=True)
class Unit:
    """Something that is made once, in a run folder of its own.

    Attributes:
        kind: what it is.
        name: of its folder.
        settings: of the run.
        needs: names of the units that must be finished before.
        job: for jobs.
    """

    kind: Kind
    name: str
    settings: RunSettings
    needs: tuple[str, ...] = ()
    job: Job | None = None


@dataclass
class Sweep:
    """A sweep's folder with all its units, in an order in which they can be made."""

    root: Path
    settings: SweepSettings
    units: tuple[Unit, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.units = _units(self.settings)

    @classmethod
    def open(cls, root: Path, settings: SweepSettings) -> Sweep:
        """Begin or go on with a sweep; jobs whose settings changed are made again.

        Raises:
            SettingsError: see :func:`jobs_of`.
        """
        sweep = cls(root, settings)
        root.mkdir(parents=True, exist_ok=True)
        write_atomic(root / SWEEP, settings.model_dump_json(indent=1) + "\n")
        return sweep

    @classmethod
    def read(cls, root: Path) -> Sweep:
        """The sweep in a folder.

        Raises:
            ArtifactError: there is none.
        """
        try:
            return cls(root, SweepSettings.model_validate_json((root / SWEEP).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{root} holds no sweep; start it with patrol-edge sweep CONFIG") from error

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The sweep's jobs."""
        return tuple(unit.job for unit in self.units if unit.job is not None)

    def unit(self, name: str) -> Unit:
        """A unit by name."""
        return next(unit for unit in self.units if unit.name == name)

    def run(self, unit: Unit) -> RunFolder:
        """The unit's run folder."""
        return RunFolder.open(
            self.root / unit.name,
            name=unit.settings.name,
            settings=unit.settings.model_dump(mode="json"),
            environment=_environment(),
        )

    def key(self, unit: Unit) -> str:
        """Hash of what decides the unit's result, the units it needs included."""
        dump = unit.settings.model_dump(mode="json")
        own: Any = {section: dump[section] for section in ("seed", "threads", "data", "picture")}
        if unit.kind == "dense":
            own |= {"model": _without_cut(dump["model"]), "train": dump["train"]}
        elif unit.kind == "anchors":
            own["attack"] = dump["attack"]
        elif unit.job is not None:
            own["job"] = unit.job.key()
        return digest([unit.kind, own, [self.key(self.unit(name)) for name in unit.needs]])

    def is_done(self, unit: Unit) -> bool:
        """Whether it is finished under the present settings; told from its manifest."""
        try:
            run = RunFolder.read(self.root / unit.name)
        except ArtifactError:
            return False
        record = run.manifest.stages.get(unit.kind)
        if record is None or not (run.root / unit.kind).is_dir():
            return False
        return record.key == (DataStage().key(unit.settings, {}) if unit.kind == "data" else self.key(unit))


_ENVIRONMENT: dict[str, Any] = {}


def _environment() -> dict[str, Any]:
    """Asked once: it looks for packages and for the git revision."""
    if not _ENVIRONMENT:
        _ENVIRONMENT.update(environment())
    return _ENVIRONMENT


def _without_cut(model: dict[str, Any]) -> dict[str, Any]:
    """One dense network serves every cut; one with a bottleneck is trained with it, where it is."""
    if model.get("bottleneck"):
        return model
    return {name: value for name, value in model.items() if name != "cut"}


def dense_name(settings: RunSettings) -> str:
    """Folder of the dense network that a job begins with: it depends on the seed, and not on the cut."""
    dump = settings.model_dump(mode="json")
    body = [dump["seed"], dump["data"], dump["picture"], _without_cut(dump["model"]), dump["train"]]
    if dump["patrol"]["train"]["patience"]:  # identities are held out for validation from the beginning
        body.append("held out")
    return f"dense-{digest(body)[:8]}"


def _units(sweep: SweepSettings) -> tuple[Unit, ...]:
    jobs = jobs_of(sweep)
    first = jobs[0].settings
    for job in jobs:
        if (job.settings.data, job.settings.picture) != (first.data, first.picture):
            raise SettingsError("all jobs of a sweep share data and picture; make two sweeps of it")
        if job.settings.enter.kind != "train":
            raise SettingsError("a sweep trains its networks; leave out enter")
    common = first.model_copy(update={"name": "data", "seed": sweep.data_seed})
    units = [Unit("data", "data", common)]
    dense: dict[str, Unit] = {}
    for job in jobs:
        name = dense_name(job.settings)
        dense.setdefault(name, Unit("dense", name, job.settings.model_copy(update={"name": name}), ("data",)))
    start = next(iter(dense))
    units.append(dense[start])
    anchors = first.model_copy(update={"name": "anchors", "seed": sweep.data_seed})
    units.append(Unit("anchors", "anchors", anchors, ("data", start)))
    placed = {start}
    for job in jobs:
        name = dense_name(job.settings)
        if name not in placed:
            units.append(dense[name])
            placed.add(name)
        units.append(Unit("job", f"jobs/{job.id}", job.settings, ("data", name, "anchors"), job))
    return tuple(units)


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
