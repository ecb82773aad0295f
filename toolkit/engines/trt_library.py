"""The TensorRT module (``tensorrt`` or ``tensorrt_rtx``), its log, and what it has and has not.

Everything is asked of the module (``hasattr``), nothing of its version number: 8.5 to 11 differ in names, and
the same code drives all of them.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from toolkit.engines.errors import EngineBuildError
from toolkit.engines.layers.oneline import BEGIN, from_log
from toolkit.optional import require
from toolkit.variants import EngineKind

logger = logging.getLogger(__name__)
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
_PEAK = re.compile(r"Peak memory usage of TRT CPU/GPU memory allocators: CPU (\d+) MiB, GPU (\d+) MiB")
_TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


def load(kind: EngineKind) -> ModuleType:
    """Import the module.

    Raises:
        MissingExtraError: it is not installed, with the command that installs it.
    """
    return require(kind, EXTRAS[kind])


def dtype_name(trt_type: Any) -> str:
    """numpy's name of a TensorRT type (TensorRT 8's own table breaks with numpy 1.24 and later).

    Raises:
        EngineBuildError: a type that numpy does not have, for example FP8.
    """
    name = str(trt_type.name)
    if name not in _TYPES:
        raise EngineBuildError(f"the engine has a tensor of type {name}, which the toolkit does not carry")
    return str(np.dtype(_TYPES[name]))


@lru_cache(maxsize=2)
def _log_class(trt: ModuleType) -> Any:
    base: Any = trt.ILogger

    class Log(base):
        """Keeps errors and warnings, to be told when something fails, and what the builder says of the engine.

        Attributes:
            layers: the engine's layers as the builder printed them, the values of the inspector's JSON.
            peak_mib: peak of TensorRT's own allocators over the build, (host, GPU).
        """

        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers: dict[str, Any] | None = None
            self.peak_mib: tuple[int, int] | None = None

        def log(self, severity: Any, message: str) -> None:
            name = str(severity.name)
            if message.startswith(BEGIN):
                self.layers = from_log(message)
            peak = _PEAK.search(message)
            if peak:
                self.peak_mib = int(peak.group(1)), int(peak.group(2))
            if name in ("INTERNAL_ERROR", "ERROR"):
                self.errors.append(message)
            elif name == "WARNING":
                self.warnings.append(message)
            logger.debug("TensorRT %s: %s", name, message)

        def reason(self) -> str:
            """The errors so far in one line."""
            lines = [text.strip().replace("\n", " ") for text in self.errors if text.strip()]
            return "; ".join(lines[-3:]) or "TensorRT gave no reason"

    return Log


def new_log(trt: ModuleType) -> Any:
    """A logger for builder, parser and runtime."""
    return _log_class(trt)()


def member(enumeration: Any, name: str) -> Any | None:
    """A member of an enumeration where this TensorRT has it, else None."""
    return getattr(enumeration, name, None)
