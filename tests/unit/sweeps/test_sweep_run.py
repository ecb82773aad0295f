import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from benchmarks.patrol.stronger import main as stronger
from tests.unit.sweeps.mini import L1, mini
from toolkit.errors import ArtifactError
from toolkit.metrics import MetricSet
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.report import front, write_report
from toolkit.sweeps.settings import SweepSettings
from toolkit.sweeps.table import collect
from toolkit.sweeps.times import Remaining
from toolkit.sweeps.worker import run_local, unmade, work_in

METHODS = {"dense": {}, "l1": L1, "patrol": {"prune": "masks"}, "device": {"wire": "embedding"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    sweep = Sweep.open(
        tmp_path_factory.mktemp("sweep") / "mini",
        SweepSettings.model_validate(mini(methods=METHODS, evidence={"device": "orin-nano-8gb@15W"})),
    )
    times = {}
    run_local(sweep, 1, lambda unit, seconds: times.update({unit.name: seconds}))
    return sweep, times


def test_every_unit_is_made_once_and_not_again(finished, caplog):
    sweep, times = finished
    assert set(times) == {unit.name for unit in sweep.units}
    assert unmade(sweep) == {}
    with caplog.at_level(logging.INFO):
        run_local(Sweep.read(sweep.root), 1, lambda unit, seconds: pytest.fail(f"{unit.name} made again"))


def test_rows_hold_the_methods_within_the_budget(finished):
    rows = {row.method: row for row in collect(finished[0])}
    assert list(rows) == list(METHODS)
    assert rows["dense"].map_change is None and rows["dense"].budget is None
    for method in ("l1", "patrol"):
        assert rows[method].macs <= rows[method].budget < rows["dense"].macs
        change = rows[method].map_change
        assert change.value == pytest.approx(rows[method].map.value - rows["dense"].map.value)
        assert change.low <= change.value <= change.high
        leak = rows[method].ssim_change.value
        assert leak == pytest.approx(rows[method].ssim.value - rows["dense"].ssim.value)
    assert rows["device"].macs > rows["dense"].macs
    assert rows["device"].bytes_raw == 64
    assert all(row.converged == 0 for row in rows.values()), "screening does not test convergence"


def test_report_names_every_method_and_draws_the_front(finished):
    table, plot = write_report(finished[0])
    text = table.read_text()
    assert all(f"| {name} |" in text for name in METHODS)
    assert "Convergence of the attackers was not tested" in text
    assert plot.read_bytes()[:4] == b"\x89PNG"
    rows = json.loads((finished[0].root / "table.json").read_text())
    assert [row["method"] for row in rows] == list(METHODS)


def test_every_job_says_what_is_read_by_name(finished):
    sweep, _ = finished
    for row in collect(sweep):
        assert set(row.leaks) == {"background", "camera"}, "the recogniser may read anything here"
        assert -1 <= row.leaks["camera"].above.value <= 1
        assert row.background is not None
        assert set(row.limits) == {"macs", "parameters", "activation_bytes", "wire_bytes", "latency_ms"}
    folder = sweep.root / "jobs" / "dense-seed0" / "job"
    names = {metric.name for metric in MetricSet.load(folder / "metrics.json")}
    assert {"leak.camera", "leak.background", "leak.background.ssim"} <= names
    assert not (folder / "leaks-wire.npy").exists(), "reconstructions are not kept"


def test_a_large_decoder_attacks_finished_jobs_again(finished, tmp_path):
    sweep, out = finished[0], tmp_path / "stronger"
    command = [str(sweep.root), "--steps", "2", "--augmented", "1", "--work", str(tmp_path), "--out", str(out)]
    stronger([*command, "--jobs", "l1-seed0"])
    stronger([*command, "--jobs", "l1-seed0", "device-seed0"])
    body = json.loads(out.with_suffix(".json").read_text())
    assert list(body["jobs"]) == ["l1-seed0", "device-seed0"], "one job was measured before"
    assert all(job["steps"] in (2, 4) and len(job["strongest"]) == 2 for job in body["jobs"].values())
    assert "| device-seed0 |" in out.with_suffix(".md").read_text()


def test_latency_is_predicted_for_the_halves_that_send_a_feature(finished):
    rows = {row.method: row for row in collect(finished[0])}
    assert rows["device"].latency_ms is None
    for method in ("dense", "patrol"):
        value, low, high = rows[method].latency_ms
        assert low <= value <= high
    assert "predicted latency" in write_report(finished[0])[0].read_text()


def test_front_leaves_out_what_another_row_beats(finished):
    rows = collect(finished[0])
    best = front(rows)
    assert max(rows, key=lambda row: row.map.value) in best
    assert min(rows, key=lambda row: row.ssim.value) in best


def test_a_job_that_fails_does_not_stop_the_others(tmp_path, finished):
    methods = METHODS | {"tight": {"prune": "masks", "set": {"model": {"cut": "layer1.1"}}}}
    body = mini(methods={name: methods[name] for name in ("dense", "tight", "device")}, budget=0.001)
    sweep = Sweep.open(finished[0].root, SweepSettings.model_validate(body))
    run_local(sweep, 1)
    reasons = unmade(sweep)
    assert list(reasons) == ["jobs/tight-seed0"]
    assert "budget" in reasons["jobs/tight-seed0"] or "ratio" in reasons["jobs/tight-seed0"]
    assert [row.method for row in collect(sweep)] == ["dense", "device"]


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="holds no sweep"):
        Sweep.read(tmp_path)


def test_an_empty_sweep_has_no_table(tmp_path):
    sweep = Sweep.open(tmp_path, SweepSettings.model_validate(mini()))
    with pytest.raises(ArtifactError, match="no job"):
        collect(sweep)


def test_what_is_left_follows_the_real_times():
    left = Remaining({"a": 10.0, "b": 10.0, "c": 20.0})
    assert left.done("a", 20.0) == (2, pytest.approx(60.0))
    assert left.done("b", 20.0) == (1, pytest.approx(40.0))


def holder(lock):
    """Process that holds a lock, from the kernel's table; None when nobody does."""
    if not lock.exists():
        return None
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    return None


@pytest.fixture
def interrupted(finished, tmp_path):
    """A copy of the sweep without one job, the job's folder, and a way to wait until its joint training began."""
    whole = finished[0]
    shutil.copytree(whole.root, tmp_path / "mini")
    job = tmp_path / "mini" / "jobs" / "patrol-seed0"
    shutil.rmtree(job)

    def begun(working):
        state = job / "job.partial" / "checkpoints" / "patrol" / "state-000000"
        deadline = time.monotonic() + 200
        while not state.is_dir():
            assert working.is_alive() and time.monotonic() < deadline, "no worker began the job"
            time.sleep(0.01)

    return Sweep.open(tmp_path / "mini", whole.settings), job, begun


def same_as_unbroken(finished, job):
    for name in ("scores.json", "edge.json", "leaks.json", "curves.json"):
        theirs = finished[0].root / "jobs" / "patrol-seed0" / "job" / name
        assert (job / "job" / name).read_text() == theirs.read_text(), name


def test_a_killed_workers_job_is_taken_up_by_another(finished, interrupted, caplog):
    """kill -9 in the middle of joint training; the job ends with the numbers of an unbroken one."""
    sweep, job, begun = interrupted
    working = threading.Thread(target=run_local, args=(sweep, 2))
    with caplog.at_level(logging.WARNING):
        working.start()
        begun(working)
        os.kill(holder(job / ".lock"), signal.SIGKILL)
        assert not (job / "job").exists(), "it was in the middle of the job"
        working.join(300)
    assert not working.is_alive() and unmade(sweep) == {}
    assert "a worker was killed (-9); another takes up its job" in caplog.text
    same_as_unbroken(finished, job)


def test_a_killed_sweep_goes_on_with_the_next_call(finished, interrupted, caplog):
    sweep, job, begun = interrupted
    worker = multiprocessing.get_context("spawn").Process(target=work_in, args=(sweep.root,))
    worker.start()
    begun(worker)
    worker.kill()
    worker.join(60)
    assert list(unmade(sweep)) == ["jobs/patrol-seed0"] and (job / "job.partial").is_dir()
    with caplog.at_level(logging.INFO):
        run_local(sweep, 1)
    assert unmade(sweep) == {} and "PATROL training: going on after epoch" in caplog.text
    same_as_unbroken(finished, job)


def test_workers_end_with_the_sweep_that_started_them(interrupted):
    """kill -9 of the sweep itself; nobody goes on alone, and nobody holds the job."""
    sweep, job, begun = interrupted
    whole = multiprocessing.get_context("spawn").Process(target=run_local, args=(sweep, 2))
    whole.start()
    begun(whole)
    assert holder(job / ".lock") != whole.pid
    whole.kill()
    whole.join(60)
    deadline = time.monotonic() + 30
    while holder(job / ".lock") is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holder(job / ".lock") is None and not (job / "job").exists()
