"""Curves for TensorBoard, where it is installed; the JSON lines beside them are complete without it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

FOLDER = "tensorboard"
Curves = Mapping[str, list[tuple[int, float]]]


class Board(Protocol):
    """Where scalars go."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class NoBoard:
    """TensorBoard is not installed."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Events:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name.replace(".", "/", 1), value, step)

    def close(self) -> None:
        self._writer.close()


def open_board(folder: Path, first_step: int = 0) -> Board:
    """Scalars of one phase; what an earlier, killed process wrote from ``first_step`` on is superseded."""
    try:
        tensorboard = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return NoBoard()
    return _Events(tensorboard.SummaryWriter(str(folder), purge_step=first_step, flush_secs=30))


def write_curves(curves: Curves, folder: Path) -> None:
    """Finished curves as events, for a run whose training folder is gone."""
    board = open_board(folder)
    try:
        for name, points in curves.items():
            for step, value in points:
                board.add(step, {name: value})
    finally:
        board.close()
