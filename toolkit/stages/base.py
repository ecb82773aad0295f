"""What a stage is: a name, a version, what it depends on, what it does."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from toolkit.device import describe_machine
from toolkit.metrics import Metric, MetricSet
from toolkit.runs import RunFolder
from toolkit.settings import RunSettings
from toolkit.stages import SUMMARIES

METRICS = "metrics.json"


@dataclass
class Context:
    """What a stage works with.

    Attributes:
        settings: of the whole run; a stage reads the sections that it names in ``sections``.
        run: the run folder, for the artifacts of earlier stages.
        folder: where this stage writes; kept when the process is killed.
    """

    settings: RunSettings
    run: RunFolder
    folder: Path

    def __post_init__(self) -> None:
        self.metrics = MetricSet()
        self.summary: dict[str, Any] = {}
        self.machine = describe_machine()

    def measure(self, name: str, value: float, **fields: Any) -> None:
        """Add a metric measured on this machine."""
        fields.setdefault("n", 1)
        self.metrics.add(Metric(name=name, value=float(value), machine=self.machine, **fields))

    def write_json(self, name: str, body: Any) -> Path:
        """Write a JSON artifact of this stage."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return path

    def read_json(self, stage: str, *parts: str) -> Any:
        """Read a JSON artifact of an earlier stage."""
        return json.loads(self.run.path(stage, *parts).read_text(encoding="utf-8"))


class Stage(ABC):
    """One stage of the pipeline.

    Attributes:
        name: folder and command of the stage.
        version: raised whenever the stage's code would make something else from the same inputs.
        sections: the sections of the settings that change its result (``slim.plan``: a part of one).
        inputs: the stages whose artifacts it reads; those that a run leaves out are ignored.
        ignored: parts of those sections that do not change its result (``wire.noise``).
    """

    name: ClassVar[str]
    version: ClassVar[int]
    sections: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[str, ...]]
    ignored: ClassVar[tuple[str, ...]] = ()

    @property
    def help(self) -> str:
        """What it does, in one line."""
        return SUMMARIES[self.name]

    def describe(self, settings: RunSettings) -> str:
        """What it does in a run with these settings, in one line."""
        return self.help

    @abstractmethod
    def run(self, context: Context) -> None:
        """Do the work and write the artifacts into ``context.folder``."""

    def applies(self, settings: RunSettings) -> bool:
        """Whether a run with these settings has this stage."""
        return True

    def examine(self, settings: RunSettings) -> None:  # noqa: B027  (most stages have nothing to examine)
        """Refuse, before the first stage begins, what can be seen to be wrong without its inputs."""

    def key(self, settings: RunSettings, inputs: dict[str, str]) -> str:
        """Hash of all that decides the stage's result: settings, code version and inputs."""
        dump = settings.model_dump(mode="json")
        for path in self.ignored:
            section, _, name = path.rpartition(".")
            _section(dump, section).pop(name, None)
        body = {
            "stage": self.name,
            "version": self.version,
            "inputs": inputs,
            "settings": {section: _section(dump, section) for section in ("seed", "threads", *self.sections)},
            "files": self.files(settings),
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def files(self, settings: RunSettings) -> dict[str, str]:
        """Content hashes of files outside the run that this stage reads (a user's checkpoint)."""
        return {}


def _section(dump: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        dump = dump[name]
    return dump
