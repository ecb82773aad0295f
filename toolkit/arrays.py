"""Arrays on disk that are larger than one wants in memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def create_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new ``.npy`` file as a memory map, its space on the disk reserved.

    Without the reservation a full disk ends the process by SIGBUS at some later write, with no error to catch.

    Raises:
        OSError: the disk has no room for it (ENOSPC, with the file's name); nothing is left behind.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno or errno.ENOSPC, os.strerror(error.errno or errno.ENOSPC), str(path)) from error
    return array


def copy_rows(source: NDArray[Any], rows: NDArray[Any], path: Path, batch: int = 64) -> NDArray[Any]:
    """Some rows of an array as a ``.npy`` file of their own, read as a memory map; ``batch`` rows in memory.

    Raises:
        OSError: the disk has no room for them.
    """
    store = create_array(path, source.dtype, (len(rows), *source.shape[1:]))
    for start in range(0, len(rows), batch):
        store[start : start + batch] = source[rows[start : start + batch]]
    store.flush()
    del store
    found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found
