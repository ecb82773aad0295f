"""TensorRT's timing cache as a file that several builds share: read, used, written back under a lock."""

from __future__ import annotations

import fcntl
import logging
import warnings
from pathlib import Path
from types import TracebackType
from typing import IO, Any

logger = logging.getLogger(__name__)


class TimingCache:
    """Holds ``<file>.lock`` for the length of a build, so that builds never mix their caches.

    A cache of another GPU or version is discarded by TensorRT, which then times the tactics anew.

    Args:
        path: the cache; None switches all of this off.
    """

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> TimingCache:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._path.with_name(self._path.name + ".lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load_into(self, config: Any, ignored: list[str]) -> None:
        """Give the builder what earlier builds measured."""
        if self._path is None:
            return
        data = self._path.read_bytes() if self._path.exists() else b""
        with warnings.catch_warnings():  # TensorRT-RTX keeps these calls, without effect
            warnings.simplefilter("ignore", DeprecationWarning)
            self._load(config, data, ignored)

    def _load(self, config: Any, data: bytes, ignored: list[str]) -> None:
        cache = config.create_timing_cache(data)
        if not cache and data:
            logger.warning("timing cache %s is of another TensorRT or damaged; starting a new one", self._path)
            cache = config.create_timing_cache(b"")
        if not cache or not config.set_timing_cache(cache, False):
            ignored.append("timing_cache")

    def store_from(self, config: Any) -> None:
        """Keep what this build measured."""
        if self._path is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            cache = config.get_timing_cache()
            data = bytes(cache.serialize()) if cache else b""
        if data:
            temporary = self._path.with_name(self._path.name + ".part")
            temporary.write_bytes(data)
            temporary.replace(self._path)
