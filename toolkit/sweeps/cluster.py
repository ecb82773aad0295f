"""A sweep on several machines through Ray; they share the sweep's folder (NFS or alike) at the same path."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path
from typing import Any

from toolkit.errors import SettingsError, TrainingError
from toolkit.optional import require
from toolkit.sweeps.folders import Sweep, Unit
from toolkit.sweeps.worker import Report, failed, forget_failures, make_noted, use_threads

logger = logging.getLogger(__name__)
RESTARTS = 3  # of one unit
PAUSE = 5.0
CONNECT_SECONDS = 10.0


def run_on_ray(sweep: Sweep, address: str, report: Report | None = None) -> None:
    """Make the whole sweep on a Ray cluster, one task a unit, each with the sweep's threads as CPUs.

    A unit whose worker or machine dies is given to another worker, which goes on from its last state.

    Args:
        sweep: its folder must be reachable under the same path from every machine.
        address: of the cluster (``auto``, ``HOST:6379``, ``ray://HOST:10001``).
        report: called after every unit with its seconds.

    Raises:
        SettingsError: no cluster answers there.
        TrainingError: a unit's workers died too often.
    """
    ray = require("ray", "cluster")
    forget_failures(sweep)
    begun = not ray.is_initialized()
    if begun:
        _knock(address)
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"no Ray cluster at {address} ({reason}); start one with: ray start --head"
            ) from error
    try:
        _drive(ray, sweep, report)
    finally:
        if begun:
            ray.shutdown()


def _knock(address: str) -> None:
    """Whether anything listens at ``[ray://]HOST:PORT``; Ray itself would try for minutes."""
    match = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if match is None:
        return
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SettingsError(f"no Ray cluster at {address} ({error}); start one with: ray start --head") from error


def _drive(ray: Any, sweep: Sweep, report: Report | None) -> None:
    task = ray.remote(num_cpus=sweep.settings.threads, max_retries=0)(_make)
    root = str(sweep.root.resolve())
    running: dict[Any, Unit] = {}
    restarts: dict[str, int] = {}
    while True:
        busy = {unit.name for unit in running.values()}
        for unit in _ready(sweep):
            if unit.name not in busy:
                running[task.remote(root, unit.name)] = unit
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1, timeout=PAUSE)
        for reference in done:
            unit = running.pop(reference)
            try:
                seconds = ray.get(reference)
            except ray.exceptions.RayError as error:
                restarts[unit.name] = restarts.get(unit.name, 0) + 1
                if restarts[unit.name] > RESTARTS:
                    raise TrainingError(
                        f"the workers of {unit.name} died {restarts[unit.name]} times ({type(error).__name__}); "
                        "the same command goes on from here"
                    ) from error
                logger.warning("the worker of %s died; another takes it up", unit.name)
                continue
            if seconds is not None and report is not None:
                report(unit, seconds)


def _ready(sweep: Sweep) -> list[Unit]:
    """Units that can be made now."""
    finished = {unit.name for unit in sweep.units if sweep.is_done(unit)}
    return [
        unit
        for unit in sweep.units
        if unit.name not in finished and set(unit.needs) <= finished and not failed(sweep, unit)
    ]


def _make(root: str, name: str) -> float | None:
    """What a Ray worker runs: seconds, or None when the unit failed or another process has it."""
    sweep = Sweep.read(Path(root))
    use_threads(sweep.settings.threads)
    return make_noted(sweep, sweep.unit(name))
