"""One build at a time in a bundle."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Iterator

from .errors import DeviceBuildError

LOCK = "build.lock"


@contextlib.contextmanager
def alone(engines: Path) -> Iterator[None]:
    """One build at a time: one whose link dropped goes on by itself. What a killed one left is removed.

    Raises:
        DeviceBuildError: another is at work; says which process.
    """
    engines.mkdir(parents=True, exist_ok=True)
    with (engines / LOCK).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            other = lock.read().strip() or "?"
            raise DeviceBuildError(
                f"another build of this bundle is at work here (process {other}); wait for it, or end it with: "
                f"kill {other}"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for left in engines.glob("*.partial"):
            if left.is_dir():
                shutil.rmtree(str(left), ignore_errors=True)
        yield
