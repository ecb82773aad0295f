"""Several processes that torchrun started: rank 0 runs the pipeline, the others train with it and leave.

Rank 0 alone holds the run's lock and writes artifacts, states and logs. The others wait until it begins a stage
that trains, go through the same stage on the artifacts that rank 0 finished, and throw away what they would write;
after the last such stage they end, and rank 0 goes on alone.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.device import started_together
from toolkit.errors import SettingsError, TrainingError

if TYPE_CHECKING:
    from toolkit.settings import RunSettings

TRAINING = ("train", "slim")
BEFORE = ("data", *TRAINING)  # stages that rank 0 may run before the others are needed for the last time
LOGGERS = ("toolkit", "calibration", "targets", "patrol-edge")


def refuse(command: str, instead: str) -> None:
    """Refuse a command that is not made for torchrun.

    Raises:
        SettingsError: it was started by torchrun.
    """
    if started_together():
        raise SettingsError(f"{command} does not train one network in several processes; {instead}")


def may_speak() -> bool:
    """Whether this process is the one that says why all of them end."""
    if not started_together():
        return True
    from toolkit.patrol.distributed import first_to_fail

    return first_to_fail()


class Team:
    """This process among those that torchrun started."""

    def __init__(self) -> None:
        """Join them."""
        from toolkit.patrol import distributed

        distributed.join()
        self._distributed = distributed
        self._waiting = True
        if self.follows:
            from toolkit.progress import silence

            silence()
            for name in LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)

    @property
    def follows(self) -> bool:
        """Not rank 0."""
        return self._distributed.rank() > 0

    def call(self, stage: str, root: Path) -> None:
        """Rank 0 is about to run a stage: the others join in, or leave when they are not needed any more."""
        if stage in TRAINING:
            from toolkit.runs import CHECKPOINTS

            (root / f"{stage}.partial" / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            self._distributed.from_first(stage)
        elif stage not in BEFORE:
            self.release()

    def release(self) -> None:
        """Let the others end; rank 0 is alone from now on."""
        if self._waiting:
            self._waiting = False
            self._distributed.from_first("")
            self._distributed.leave()

    def follow(self, settings: RunSettings, root: Path) -> None:
        """What every process but rank 0 does: train with it until it says that it needs no one.

        Args:
            settings: of the run.
            root: the run's folder, which all processes see.
        """
        while stage := self._distributed.from_first(""):
            self._take_part(stage, settings, root)
        self._distributed.leave()

    def _take_part(self, name: str, settings: RunSettings, root: Path) -> None:
        from toolkit.runs import CHECKPOINTS, RunFolder
        from toolkit.stages import all_stages
        from toolkit.stages.base import Context

        stage = next(stage for stage in all_stages() if stage.name == name)
        with tempfile.TemporaryDirectory(prefix="patrol-edge-") as scratch:
            # States are read where rank 0 writes them; everything else goes nowhere.
            (Path(scratch) / CHECKPOINTS).symlink_to((root / f"{name}.partial" / CHECKPOINTS).resolve())
            stage.run(Context(settings, RunFolder.read(root), Path(scratch)))


@contextmanager
def lost_others() -> Iterator[None]:
    """Turn the transport's complaint about a process that ended into an error of ours.

    Raises:
        TrainingError: another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not started_together() or not _of_transport(error):
            raise
        raise TrainingError(
            "another process of this training ended; see its message, and repeat the same command to go on from "
            "the last state"
        ) from error


def _of_transport(error: RuntimeError) -> bool:
    from torch.distributed import DistError

    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "tcpstore")
    return isinstance(error, DistError) or any(word in str(error).lower() for word in words)
