"""No room on the disk: said before the run where it can be, one line where it happens."""

import contextlib
import resource
import shutil
from collections import namedtuple

import numpy as np
import pytest

from tests.unit.command_line import patrol_edge
from tests.unit.pipeline.commands import hashes, start, wait, write_config
from toolkit import arrays
from toolkit.runs import RunFolder
from toolkit.stages import ORDER

Usage = namedtuple("Usage", "total used free")


def test_small_disk_is_refused_before_anything_is_written(tmp_path, fleet, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**30, 2**30, 50 * 2**20))
    config = write_config(tmp_path, data=fleet)
    error = patrol_edge("run", config, "--runs", tmp_path / "runs").one_line_error()
    assert "no space" in error and "50 MiB are free" in error and "--runs" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("limit", "stage"),
    [(100_000, "data"), (1_000_000, "train")],
)
def test_write_that_does_not_fit(tmp_path, fleet, finished, limit, stage):
    """The largest file that may be written is limited, so that the write itself fails, as on a full disk."""
    config = write_config(tmp_path, data=fleet)
    before = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY}))\n"
        "import toolkit.stages.estimate as estimate\n"
        "estimate.training_rate = lambda settings: 100.0\n"
    )
    outcome = wait(start("slim", config, "--runs", tmp_path / "runs", before=before))
    error = outcome.one_line_error()
    assert "free" in error and str(tmp_path / "runs" / "tiny") in error
    run = RunFolder.read(tmp_path / "runs" / "tiny")
    assert stage not in run.manifest.stages and not (run.root / stage).exists()
    outcome = patrol_edge("data", config, "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.log


@contextlib.contextmanager
def largest_file(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("stage", "limit"), [("export", 600_000), ("attack", 40_000), ("report", 100_000)])
def test_stage_that_does_not_fit_leaves_the_others_and_goes_on_with_room(copied, stage, limit):
    later = ORDER[ORDER.index(stage) :]
    before = hashes(copied.run, *ORDER[: ORDER.index(stage)])
    for name in later:
        shutil.rmtree(copied.runs / "tiny" / name)
    with largest_file(limit):
        error = copied.again(command=stage).one_line_error()
    assert str(copied.runs / "tiny" / f"{stage}.partial") in error, error
    assert set(copied.run.manifest.stages) == set(ORDER) - set(later)
    assert copied.again(command=stage).code == 0
    assert hashes(copied.run, *ORDER[: ORDER.index(stage)]) == before


def test_array_whose_space_cannot_be_reserved_leaves_nothing(tmp_path):
    with largest_file(4096), pytest.raises(OSError, match=r"codes\.npy"):
        arrays.create_array(tmp_path / "codes.npy", np.int8, (100, 8, 8, 8))
    assert list(tmp_path.iterdir()) == []
    stored = arrays.create_array(tmp_path / "codes.npy", np.int8, (10, 8))
    stored[:] = 7
    stored.flush()
    assert np.load(tmp_path / "codes.npy", allow_pickle=False).tolist() == [[7] * 8] * 10
