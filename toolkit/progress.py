"""Progress of long loops: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)
T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0
_SILENT: list[bool] = []


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show how far they are.

    Args:
        items: what to go through.
        description: what the loop does, in a few words.
        total: number of items, when ``items`` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _SILENT:
        yield from items
    else:
        yield from (_bar if sys.stderr.isatty() else _lines)(items, description, total)


def silence() -> None:
    """Show nothing any more: another process does."""
    _SILENT.append(True)


def _bar(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            logger.info("%s: %d of %s", description, count, total if total is not None else "?")
