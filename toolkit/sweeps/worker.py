"""Workers: each takes the next unit that can be made and that nobody else is making."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from toolkit.errors import ArtifactError, PatrolError, TrainingError
from toolkit.runs import write_atomic
from toolkit.sweeps.folders import Sweep, Unit
from toolkit.sweeps.units import make_unit

logger = logging.getLogger(__name__)
FAILURES = "failures"
BUSY = "another process works in"  # of RunFolder.locked
PAUSE = 1.0  # seconds between two looks at units that others are making
RESTARTS = 3  # of killed workers, for the whole sweep
Report = Callable[[Unit, float], None]


def work(sweep: Sweep, report: Report | None = None) -> None:
    """Make units until none is left that this process could make.

    A unit that another process holds is left to it; when that process dies, its lock goes with it and the unit is
    taken up from its last state. One that fails is noted under ``failures`` and not tried again by this command.
    """
    open_units = list(sweep.units)
    while open_units:
        open_units = [unit for unit in open_units if not sweep.is_done(unit) and not failed(sweep, unit)]
        ready = [unit for unit in open_units if all(sweep.is_done(sweep.unit(name)) for name in unit.needs)]
        if any(_try(sweep, unit, report) for unit in ready):
            continue
        if _hopeless(sweep, open_units):
            return
        time.sleep(PAUSE)


def failed(sweep: Sweep, unit: Unit) -> str | None:
    """Why a unit failed under this command."""
    path = _note(sweep, unit)
    return path.read_text(encoding="utf-8") if path.exists() else None


def forget_failures(sweep: Sweep) -> None:
    """Failed units are tried again."""
    for path in (sweep.root / FAILURES).glob("*.txt"):
        path.unlink()


def unmade(sweep: Sweep) -> dict[str, str]:
    """Jobs that are not finished, with the reason."""
    found = {}
    for unit in sweep.units:
        if unit.kind == "job" and not sweep.is_done(unit):
            causes = [failed(sweep, sweep.unit(name)) for name in (unit.name, *unit.needs)]
            found[unit.name] = next((cause for cause in causes if cause), "not finished")
    return found


def run_local(sweep: Sweep, workers: int, report: Report | None = None) -> None:
    """Make the whole sweep on this machine.

    Args:
        sweep: its folder.
        workers: processes; 1 works in this one.
        report: called after every unit with its seconds (in this process only).

    Raises:
        TrainingError: workers were killed more often than they are started again.
    """
    forget_failures(sweep)
    if workers == 1:
        use_threads(sweep.settings.threads)
        work(sweep, report)
        return
    context = multiprocessing.get_context("spawn")

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=work_in, args=(sweep.root,))
        process.start()
        return process

    running = [start() for _ in range(workers)]
    restarts = 0
    try:
        while running:
            for process in list(running):
                process.join(PAUSE)
                if process.exitcode is None:
                    continue
                running.remove(process)
                if process.exitcode:
                    restarts += 1
                    if restarts > RESTARTS:
                        raise TrainingError(
                            f"workers of {sweep.root} were killed {restarts} times; start fewer with --jobs, "
                            "the same command goes on from here"
                        )
                    logger.warning("a worker was killed (%s); another takes up its job", process.exitcode)
                    running.append(start())
    finally:
        for process in running:
            process.terminate()


def work_in(root: Path) -> None:
    """What a worker process runs; it ends with the process that started it."""
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s", datefmt="%H:%M:%S")
    sweep = Sweep.read(root)
    use_threads(sweep.settings.threads)
    work(sweep)


def _end_with(parent: multiprocessing.process.BaseProcess | None) -> None:
    """Die when the parent has died, even by a signal that left it no time to say so.

    A worker that went on alone would hold its job's lock against the next call, and write into a folder that the
    user may have deleted. Its last state is kept.
    """
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def use_threads(threads: int) -> None:
    """Hold this process to a number of threads."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def make_noted(sweep: Sweep, unit: Unit) -> float | None:
    """Make a unit and note its failure; seconds, or None when it failed or another process has it."""
    started = time.monotonic()
    try:
        make_unit(sweep, unit)
    except ArtifactError as error:
        if BUSY not in str(error):
            _fail(sweep, unit, error)
        return None
    except PatrolError as error:
        _fail(sweep, unit, error)
        return None
    return time.monotonic() - started


def _try(sweep: Sweep, unit: Unit, report: Report | None) -> bool:
    """Make a unit; False when nothing came of it."""
    seconds = make_noted(sweep, unit)
    if seconds is not None and report is not None:
        report(unit, seconds)
    return seconds is not None


def _fail(sweep: Sweep, unit: Unit, error: PatrolError) -> None:
    logger.error("%s failed: %s", unit.name, error)
    path = _note(sweep, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, str(error))


def _note(sweep: Sweep, unit: Unit) -> Path:
    return sweep.root / FAILURES / f"{unit.name.replace('/', '.')}.txt"


def _hopeless(sweep: Sweep, units: list[Unit]) -> bool:
    """Every open unit failed or waits for one that did, directly or through another."""
    lost = {unit.name for unit in sweep.units if failed(sweep, unit)}
    for unit in sweep.units:
        if lost & set(unit.needs):
            lost.add(unit.name)
    return all(unit.name in lost for unit in units)
