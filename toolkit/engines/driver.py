"""Is there an NVIDIA driver and a GPU? Asked before TensorRT is, because TensorRT 8.6 crashes the process."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

from toolkit.engines.errors import NoDeviceError

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _SMS = 75, 76, 16  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR, MULTIPROCESSOR_COUNT


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it.

    Attributes:
        index: of the device.
        name: for example ``Orin``.
        compute_capability: for example ``8.7``.
        sm_count: streaming multiprocessors that are switched on (power modes switch some off).
        memory_bytes: the whole memory.
        driver: highest CUDA version that the driver serves, for example ``12.4``.
    """

    index: int
    name: str
    compute_capability: str
    sm_count: int
    memory_bytes: int
    driver: str

    @property
    def title(self) -> str:
        """For people: ``Orin, 8 SMs, compute capability 8.7``."""
        return f"{self.name}, {self.sm_count} SMs, compute capability {self.compute_capability}"


@functools.lru_cache(maxsize=1)
def driver_problem() -> str | None:
    """Why no GPU can be used here, or None when one can."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return f"no NVIDIA driver ({LIBRARY} is not there)"
    code = int(library.cuInit(0))
    if code:
        return f"the NVIDIA driver found no usable GPU (cuInit returned {code})"
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return "the NVIDIA driver reports no GPU"
    return None


def require_device(purpose: str, index: int = 0) -> Gpu:
    """The GPU, or a clear error.

    Args:
        purpose: what it is needed for, ends up in the message: ``"to run a TensorRT engine"``.
        index: of the GPU.

    Raises:
        NoDeviceError: no driver, no GPU, or no GPU of that index.
    """
    problem = driver_problem()
    if problem:
        raise NoDeviceError(f"a GPU is needed {purpose}: {problem}; use a Jetson or a GPU host")
    gpus = list_gpus()
    if index >= len(gpus):
        raise NoDeviceError(f"there is no GPU {index}, the machine has {len(gpus)}")
    return gpus[index]


def list_gpus() -> tuple[Gpu, ...]:
    """All GPUs of this machine; empty without a driver. Makes no CUDA context."""
    if driver_problem():
        return ()
    library = ctypes.CDLL(LIBRARY)
    count, version = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    library.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_describe(library, index, driver) for index in range(count.value))


def _describe(library: ctypes.CDLL, index: int, driver: str) -> Gpu:
    device, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(128)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    numbers = []
    for attribute in (_MAJOR, _MINOR, _SMS):
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    return Gpu(index, name.value.decode(), f"{numbers[0]}.{numbers[1]}", numbers[2], memory.value, driver)
