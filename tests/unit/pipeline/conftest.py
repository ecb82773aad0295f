"""One whole tiny run that all tests here look at, and copies of it for those that change something."""

import contextlib
import fcntl
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.unit.command_line import Outcome, patrol_edge
from tests.unit.pipeline.commands import TINY, WHOLE_ATTACK, write_config
from toolkit.datasets.fleet.settings import FleetSettings
from toolkit.datasets.fleet.writer import write_fleet
from toolkit.runs import RunFolder


@dataclass(frozen=True)
class Finished:
    """A finished run and where it lies."""

    config: Path
    runs: Path
    outcome: Outcome

    @property
    def run(self) -> RunFolder:
        """Read anew, nothing verified yet."""
        return RunFolder.read(self.runs / "tiny")

    def again(self, *arguments: object, command: str = "run") -> Outcome:
        """The same command once more."""
        return patrol_edge(command, self.config, "--runs", self.runs, *arguments)

    def copy(self, folder: Path) -> "Finished":
        """The same run in another folder."""
        shutil.copytree(self.runs, folder / "runs")
        return Finished(Path(shutil.copy(self.config, folder)), folder / "runs", self.outcome)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all workers of pytest-xdist share, and a lock on it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "pipeline"
    folder.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def locked():
        with (folder / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield folder

    return locked


@pytest.fixture(scope="session")
def fleet(shared):
    """Settings of the data section: a fleet that is rendered once for all tests."""
    with shared() as folder:
        write_fleet(folder / "fleet", FleetSettings(**TINY["data"]["fleet"]))
        return {"root": str(folder / "fleet")}


@pytest.fixture(scope="session")
def finished(shared, fleet):
    """All eleven stages, once for all workers: to be looked at only."""
    with shared() as folder:
        config, runs, kept = folder / "run.yaml", folder / "runs", folder / "outcome.json"
        if not kept.exists():
            write_config(folder, data=fleet, attack=WHOLE_ATTACK)
            outcome = patrol_edge("run", config, "--runs", runs)
            assert outcome.code == 0, outcome.log
            kept.write_text(json.dumps(asdict(outcome)))
        body = json.loads(kept.read_text())
    return Finished(config, runs, Outcome(body["code"], body["out"], body["err"]))


@pytest.fixture(scope="session")
def repeated(finished, tmp_path_factory):
    """This worker's copy, on which commands are repeated that change nothing."""
    return finished.copy(tmp_path_factory.mktemp("repeated"))


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to change."""
    yield finished.copy(tmp_path)
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
