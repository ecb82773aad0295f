"""SIGKILL at a chosen point of a stage: the same command goes on and ends with the same bytes."""

import signal

import pytest

from tests.unit.command_line import patrol_edge
from tests.unit.pipeline.commands import hashes, start, wait, write_config
from toolkit.patrol import trainer
from toolkit.runs import RunFolder

DIE = "    os.kill(os.getpid(), signal.SIGKILL)\n"
HEAD = "import os, signal\n"
IN_DENSE_TRAINING = f"""{HEAD}
import toolkit.patrol.trainer as trainer
save = trainer.save_state
def save_and_die(folder, state, fingerprint, name=None):
    save(folder, state, fingerprint, name)
    if folder.name == "dense" and state.epoch == 1 and name is None:
    {DIE}trainer.save_state = save_and_die
"""
IN_PATROL_TRAINING = IN_DENSE_TRAINING.replace('"dense"', '"patrol"')
IN_CALIBRATION = f"""{HEAD}
import importlib
quantize = importlib.import_module("calibration.quantize")
observe = quantize.observe
def observe_and_die(prepared, batches, *rest, **named):
    def some():
        for number, batch in enumerate(batches):
            yield batch
        {DIE}    return observe(prepared, some(), *rest, **named)
quantize.observe = observe_and_die
"""
IN_FINISHING = f"""{HEAD}
import toolkit.runs as runs
def rename_and_die(self, target):
    os.rename(self, target)
    if str(target).endswith("/slim"):
    {DIE}runs.Path.rename = rename_and_die
"""
STAGES = ("data", "train", "slim", "export", "quantize")
UNTIL = "build"


def remade(run):
    """What must be the same bytes: everything up to the calibrated networks, and the codes they send."""
    codes = {name: value for name, value in hashes(run, UNTIL).items() if name.endswith((".npy", ".onnx"))}
    return hashes(run, *STAGES) | codes


TRAINED_AFTER = {  # (phase, epochs that are complete) as they are saved after the kill
    "dense_training": [("dense", 2), ("patrol", 1), ("patrol", 2), ("finetune", 1)],
    "patrol_training": [("patrol", 2), ("finetune", 1)],
    "finishing_slim": [("finetune", 1)],
    "calibration": [],
}


@pytest.mark.parametrize(
    ("name", "kill", "finished_stages", "left"),
    [
        ("dense_training", IN_DENSE_TRAINING, ["data"], "train.partial/checkpoints/dense/state-000001"),
        ("patrol_training", IN_PATROL_TRAINING, ["data"], "train.partial/checkpoints/patrol/state-000001"),
        ("finishing_slim", IN_FINISHING, ["data", "train"], "slim/plan.json"),
        ("calibration", IN_CALIBRATION, ["data", "train", "slim", "export"], "quantize.partial/pictures.json"),
    ],
)
def test_killed_run_ends_with_the_same_sha256(
    finished, fleet, tmp_path, monkeypatch, name, kill, finished_stages, left
):
    config, runs = write_config(tmp_path, data=fleet), tmp_path / "runs"
    killed = wait(start(UNTIL, config, "--runs", runs, before=kill))
    assert killed.code == -signal.SIGKILL, killed.log
    run = RunFolder.read(runs / "tiny")
    assert list(run.manifest.stages) == finished_stages
    assert (run.root / left).exists()
    trained = []
    save = trainer.save_state

    def noted(folder, state, *rest, **named):
        if state.epoch:  # the state before the first epoch holds a warmed-up adversary
            trained.append((folder.name, state.epoch))
        return save(folder, state, *rest, **named)

    monkeypatch.setattr(trainer, "save_state", noted)
    outcome = patrol_edge(UNTIL, config, "--runs", runs)
    assert outcome.code == 0, outcome.log
    assert trained == TRAINED_AFTER[name], "what was complete is not trained again"
    assert remade(RunFolder.read(runs / "tiny")) == remade(finished.run)
    assert not list(run.root.glob("*.partial"))


def test_interrupt_is_one_line_and_resumable(fleet, tmp_path):
    config, runs = write_config(tmp_path, data=fleet), tmp_path / "runs"
    # A shell that starts the tests with & has them ignore the interrupt; their children inherit that.
    listening = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & ignores it
    )
    before = listening + IN_DENSE_TRAINING.replace("SIGKILL", "SIGINT")
    outcome = wait(start("train", config, "--runs", runs, before=before))
    assert outcome.code == 130
    assert outcome.lines[-1] == "interrupted; the same command goes on from here"
    assert "Traceback" not in outcome.log
    assert (runs / "tiny" / "train.partial" / "checkpoints" / "dense" / "state-000001").is_dir()
