"""torchrun and the command line: two gloo processes train one run, rank 0 alone writes it."""

import json
import os
import subprocess
import sys

import pytest

from tests.unit.pipeline.commands import ROOT, read_json, write_config
from toolkit.runs import RunFolder

ERROR = "error PE"


def torchrun(folder, *arguments, before=""):
    """Two processes; ``before`` is Python that each runs first."""
    program = folder / "started.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{before}\n"
                       "from toolkit.cli import main\nmain()\n")  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
               str(20000 + os.getpid() % 20000), str(program), *map(str, arguments)]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith(ERROR)]
    return done, errors


@pytest.fixture(scope="module")
def together(fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    config = write_config(folder, data=fleet)
    done, errors = torchrun(folder, "slim", config, "--runs", folder / "runs")
    assert done.returncode == 0 and not errors, done.stderr
    return RunFolder.read(folder / "runs" / "tiny"), done


def test_the_run_is_whole_and_written_once(together):
    run, done = together
    assert list(run.manifest.stages) == ["data", "train", "slim"]
    for stage in run.manifest.stages:
        run.folder(stage)
    assert not list(run.root.glob("*.partial"))
    assert done.stderr.count("train: done") == 1, "one process speaks"


def test_the_result_is_that_of_one_process_within_noise(together, finished):
    run, _ = together
    alone = finished.run
    phases = ("dense", "patrol")
    ours, theirs = (read_json(item.path("train", "curves.json")) for item in (run, alone))
    for phase in phases:
        assert len(ours[phase]["loss.total"]) == len(theirs[phase]["loss.total"])
        first, other = (found[phase]["loss.identity"][0][1] for found in (ours, theirs))
        assert first == pytest.approx(other, rel=0.05)
    assert ours["dense"]["loss.identity"] != theirs["dense"]["loss.identity"], "the shares were really apart"
    step, other = (json.loads(item.path("train", "wire.json").read_text())["step"] for item in (run, alone))
    assert step == pytest.approx(other, rel=0.5)
    budget = max(value for _, value in ours["patrol"]["masks.cost"][-1:])
    assert budget <= 0.5


def test_a_wrong_configuration_is_said_once(fleet, tmp_path):
    config = write_config(tmp_path, data=fleet, wire={"bits": 99})
    done, errors = torchrun(tmp_path, "train", config, "--runs", tmp_path / "runs")
    assert done.returncode != 0 and len(errors) == 1 and "wire.bits" in errors[0]


def test_an_error_in_one_process_ends_all_with_one_message(fleet, tmp_path):
    """The second process fails in its third dense step; the first is in the middle of a common sum."""
    before = """
import os
from toolkit.errors import TrainingError
from toolkit.patrol import trainer
real = trainer.one_step
def one_step(phase, folder, log, batch):
    if os.environ["RANK"] == "1" and batch.step == 2:
        raise TrainingError("the second process has had enough")
    return real(phase, folder, log, batch)
trainer.one_step = one_step
"""
    config = write_config(tmp_path, data=fleet)
    done, errors = torchrun(tmp_path, "train", config, "--runs", tmp_path / "runs", before=before)
    assert done.returncode != 0
    assert [line.partition(": ")[2] for line in errors] == ["the second process has had enough"], done.stderr
    assert (tmp_path / "runs" / "tiny" / "train.partial" / "checkpoints" / "dense" / "state-000000").is_dir()


def test_a_sweep_is_not_for_torchrun(monkeypatch, tmp_path):
    from tests.unit.command_line import patrol_edge

    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert "give --jobs" in patrol_edge("sweep", tmp_path / "none.yaml").one_line_error()


def test_a_cluster_s_own_variable_is_no_torchrun(monkeypatch, tmp_path):
    from tests.unit.command_line import patrol_edge

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = patrol_edge("run", tmp_path / "none.yaml").one_line_error()
    assert "none.yaml" in error
