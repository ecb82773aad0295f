"""Curves of a phase, and the JSON-lines log they are read back from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.errors import ArtifactError
from toolkit.patrol.board import FOLDER, NoBoard, open_board

LOG = "log.jsonl"


@dataclass
class History:
    """What happened in a phase.

    Attributes:
        curves: name -> [(step, value)], steps counted over the whole phase. ``loss.*`` are the terms of the
            objective as they are summed; the other names say what they are.
        epochs: completed epochs.
        stopped_early: validation stopped improving.
        best: best validation and its epoch, when there was a validation.
    """

    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    epochs: int = 0
    stopped_early: bool = False
    best: tuple[float, int] | None = None

    def last(self, name: str, count: int = 1) -> float:
        """Mean of the last ``count`` values of a curve.

        Raises:
            KeyError: there is no such curve.
        """
        values = [value for _, value in self.curves[name][-count:]]
        return sum(values) / len(values)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point per name."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))


class Log:
    """One JSON object a line: ``{"epoch": 0, "step": 12, "values": {"loss.id": 5.1}}``.

    A resumed phase first drops the lines of the epochs it does again.
    """

    def __init__(self, folder: Path, first_epoch: int, board: bool = True) -> None:
        """Go on with a phase's log.

        Args:
            folder: of the phase.
            first_epoch: that is done now; lines of it and of later ones are dropped.
            board: also write events for TensorBoard, where it is installed.
        """
        self.path = folder / LOG
        self.history = History()
        try:
            kept = self._read(first_epoch)
            temporary = self.path.with_name(LOG + ".next")
            temporary.write_text("".join(kept), encoding="utf-8")
            temporary.replace(self.path)
            self._file = self.path.open("a", encoding="utf-8")
            steps = [step for points in self.history.curves.values() for step, _ in points[-1:]]
            self._board = open_board(folder / FOLDER, max(steps, default=-1) + 1) if board else NoBoard()
        except OSError as error:
            raise ArtifactError(f"cannot write {self.path}: {error.strerror}; check space and rights") from error

    def _read(self, first_epoch: int) -> list[str]:
        kept: list[str] = []
        if not self.path.exists():
            return kept
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except ValueError:
                break  # the line that a kill cut off; what follows belongs to the epoch that is done again
            if entry["epoch"] < first_epoch:
                kept.append(line)
                self.history.add(entry["step"], entry["values"])
        return kept

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append a line and the points, which are the line's: a resumed phase has the same curves."""
        rounded = {name: float(f"{value:.8g}") for name, value in values.items()}
        self.history.add(step, rounded)
        self._board.add(step, rounded)
        self._file.write(json.dumps({"epoch": epoch, "step": step, "values": rounded}) + "\n")

    def skipped_since(self, step: int, count: int) -> bool:
        """Whether each of the ``count`` steps before ``step`` was skipped."""
        skipped = {at for at, _ in self.history.curves.get("skipped", [])[-count:]}
        return all(step - back in skipped for back in range(1, count + 1))

    def flush(self) -> None:
        """Hand the lines to the operating system (before a checkpoint says that the epoch is done)."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._board.close()
        self._file.close()


class SilentLog(Log):
    """The log of a process that writes none: the curves alone."""

    def __init__(self, folder: Path, first_epoch: int) -> None:
        self.path = folder / LOG
        self.history = History()
        self._read(first_epoch)

    def write(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append the points."""
        self.history.add(step, {name: float(f"{value:.8g}") for name, value in values.items()})

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
