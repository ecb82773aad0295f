"""What a command compares or judges: a finished run, or a ``metrics.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import ArtifactError, SettingsError
from toolkit.metrics import MetricSet
from toolkit.runs import MANIFEST, RunFolder, list_runs

METRICS = "metrics.json"


@dataclass(frozen=True)
class Subject:
    """Metrics, and the run they come from.

    Attributes:
        name: for people.
        metrics: all of them.
        run: None for a bare ``metrics.json``, whose engines cannot be built again.
    """

    name: str
    metrics: MetricSet
    run: RunFolder | None = None


def find_subject(text: str, runs: Path) -> Subject:
    """A run folder, the name of a run below ``runs``, or a metrics file.

    Raises:
        SettingsError: there is no such run or file.
        ArtifactError: the run has no report yet, or the file is not a metrics file.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return Subject(path.stem if path.name != METRICS else path.resolve().parent.name, MetricSet.load(path))
    for folder in (path, runs / text):
        if (folder / MANIFEST).is_file():
            return _of_run(RunFolder.read(folder))
    known = ", ".join(run.root.name for run in list_runs(runs)) or "none"
    raise SettingsError(f"{text} is no run folder, no metrics file and no run in {runs} (there: {known})")


def newest_subject(runs: Path) -> Subject:
    """The newest run below ``runs`` that has a report.

    Raises:
        SettingsError: there is none.
    """
    finished = [run for run in list_runs(runs) if run.has("report", METRICS)]
    if not finished:
        raise SettingsError(f"no finished run in {runs}; name a run folder or a metrics.json")
    return _of_run(finished[-1])


def _of_run(run: RunFolder) -> Subject:
    if not run.has("report", METRICS):
        raise ArtifactError(f"run {run.root} has no metrics yet; finish it: patrol-edge report CONFIG")
    return Subject(run.root.resolve().name, MetricSet.load(run.path("report", METRICS)), run)
