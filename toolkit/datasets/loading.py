"""Pictures of a data set in memory: decoded once, in parallel."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from toolkit.datasets.records import Dataset
from toolkit.errors import DataError
from toolkit.preprocess import Preprocess, read_picture
from toolkit.progress import track

logger = logging.getLogger(__name__)
MAX_THREADS = 8  # OpenCV decodes outside Python's lock; beyond this the disk is the limit


@dataclass(frozen=True)
class LoadedPictures:
    """``pictures`` uint8 (n, H, W, 3) of the records ``indices``; ``skipped`` says why others are missing."""

    pictures: np.ndarray
    indices: tuple[int, ...]
    skipped: tuple[str, ...]


def load_pictures(
    dataset: Dataset,
    preprocess: Preprocess,
    indices: Sequence[int],
    *,
    on_error: Literal["refuse", "skip"] = "refuse",
) -> LoadedPictures:
    """Decode and resize the records ``indices``, in that order.

    Args:
        dataset: where the pictures are.
        preprocess: the size they get.
        indices: which records; each file is read once even when its index occurs twice.
        on_error: ``refuse`` raises at the first unusable file, ``skip`` leaves it out and reports it.

    Raises:
        DataError: a file is unusable and ``on_error`` is ``refuse``, none is usable, or memory does not suffice.
    """
    unique = sorted(set(indices))
    rows = {index: row for row, index in enumerate(unique)}
    pictures = _allocate(len(unique), preprocess)
    errors: dict[int, str] = {}

    def read(index: int) -> None:
        try:
            pictures[rows[index]] = read_picture(dataset.path_of(index), preprocess)
        except DataError as error:
            if on_error == "refuse":
                raise
            errors[index] = str(error)

    pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))
    try:
        for _ in track(pool.map(read, unique), f"reading pictures of {dataset.name}", total=len(unique)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return _keep(pictures, rows, indices, errors)


def _allocate(count: int, preprocess: Preprocess) -> np.ndarray:
    shape = (count, preprocess.height, preprocess.width, 3)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        gigabytes = int(np.prod(shape, dtype=np.int64)) / 2**30
        raise DataError(
            f"{count} pictures need {gigabytes:.1f} GiB; lower the picture size or use fewer"
        ) from error


def _keep(
    pictures: np.ndarray, rows: dict[int, int], indices: Sequence[int], errors: dict[int, str]
) -> LoadedPictures:
    kept = tuple(index for index in indices if index not in errors)
    if not kept:
        first = next(iter(errors.values()), "no picture was asked for")
        raise DataError(f"no usable picture among {len(indices)} ({first})")
    if errors:
        logger.warning("%d of %d pictures skipped; first: %s", len(errors), len(rows), next(iter(errors.values())))
    order = [rows[index] for index in kept]
    if order != list(range(len(pictures))):
        pictures = pictures[order]
    return LoadedPictures(pictures, kept, tuple(errors[index] for index in sorted(errors)))
