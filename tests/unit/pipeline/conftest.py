"""One whole tiny run that all tests here look at, and copies of it for those that change something."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.pipeline.commands import Outcome, patrol_edge, write_config
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


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """Settings of the data section: a fleet that is rendered once for all tests."""
    return {"root": str(tmp_path_factory.mktemp("fleet") / "fleet")}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, fleet):
    """All eleven stages, once."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder, data=fleet)
    outcome = patrol_edge("run", config, "--runs", folder / "runs")
    assert outcome.code == 0, outcome.log
    return Finished(config, folder / "runs", outcome)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to change."""
    shutil.copytree(finished.runs, tmp_path / "runs")
    config = shutil.copy(finished.config, tmp_path)
    return Finished(Path(config), tmp_path / "runs", finished.outcome)
