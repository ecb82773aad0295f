"""Calls of the CUDA driver that no CUDA binding for Python offers in every version, through ctypes.

Handles (contexts, streams, graphs) are plain integers, as everywhere in this package, so they mix with pycuda and
cuda-python.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from toolkit.engines.driver import LIBRARY
from toolkit.engines.errors import NoDeviceError
from toolkit.errors import EngineError

Handle = ctypes.c_void_p


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The driver.

    Raises:
        NoDeviceError: there is none.
    """
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoDeviceError(f"no NVIDIA driver ({LIBRARY} is not there); use a Jetson or a GPU host") from error


def has(*names: str) -> bool:
    """Whether the driver has all of these calls."""
    return all(hasattr(library(), name) for name in names)


def call(name: str, *arguments: Any) -> None:
    """Call the driver.

    Raises:
        EngineError: the driver is too old for the call, or the call failed; has CUDA's name of the error.
    """
    driver = library()
    if not hasattr(driver, name):
        raise EngineError(f"the NVIDIA driver is too old: it has no {name}; update it")
    code = int(getattr(driver, name)(*arguments))
    if code:
        raise EngineError(f"CUDA call {name} failed: {error_name(code)}")


def error_name(code: int) -> str:
    """CUDA's name of an error, for example ``CUDA_ERROR_OUT_OF_MEMORY``."""
    text = ctypes.c_char_p()
    if (
        hasattr(library(), "cuGetErrorName")
        and library().cuGetErrorName(code, ctypes.byref(text)) == 0
        and text.value
    ):
        return text.value.decode()
    return f"error {code}"
