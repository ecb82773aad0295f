"""CUDA memory, streams and events straight from the driver: what is there when no CUDA library for Python is.

Only calls that every driver since CUDA 11 has under the same name, so no version of a binding can miss one.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines.driver_calls import Handle, call, library
from toolkit.engines.emulation import GreenContext, shared_partition
from toolkit.engines.errors import NoDeviceError
from toolkit.errors import EngineError

_NON_BLOCKING = 1
_OUT_OF_MEMORY = 2


class DriverBinding:
    """See :class:`toolkit.engines.cuda.CudaBinding`.

    Args:
        device: index of the GPU.
        sms: confine everything to a partition of so many SMs.
    """

    name = "driver"

    def __init__(self, device: int, sms: int | None = None) -> None:
        code = int(library().cuInit(0))
        if code:
            raise NoDeviceError(f"the NVIDIA driver found no usable GPU (cuInit returned {code})")
        self._device, self._context = ctypes.c_int(), Handle()
        call("cuDeviceGet", ctypes.byref(self._device), device)
        call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        call("cuCtxPushCurrent_v2", self._context)
        self._streams: list[int] = []
        self._events: list[int] = []
        self._pinned: list[int] = []
        self._partition: GreenContext | None = None
        if sms is not None:
            try:
                self._partition = shared_partition(device, sms)
            except BaseException:
                self._leave()
                raise

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_ulonglong()
        code = int(library().cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size)))
        if code == _OUT_OF_MEMORY:
            raise EngineError(no_memory(size, self.memory_info()[0]))
        if code:
            raise EngineError(f"CUDA has no {size} bytes (error {code})")
        return int(pointer.value)

    def free(self, pointer: int) -> None:
        call("cuMemFree_v2", ctypes.c_ulonglong(pointer))

    def host_buffer(self, size: int) -> NDArray[np.uint8]:
        address = Handle()
        call("cuMemAllocHost_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        self._pinned.append(int(address.value or 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address.value or 0)))

    def free_host(self, buffer: NDArray[np.uint8]) -> None:
        address = int(buffer.ctypes.data)
        self._pinned.remove(address)
        call("cuMemFreeHost", Handle(address))

    def to_device(self, pointer: int, source: NDArray[Any], stream: int) -> None:
        where, size = ctypes.c_ulonglong(pointer), ctypes.c_size_t(source.nbytes)
        call("cuMemcpyHtoDAsync_v2", where, Handle(source.ctypes.data), size, Handle(stream))

    def to_host(self, target: NDArray[Any], pointer: int, stream: int) -> None:
        where, size = ctypes.c_ulonglong(pointer), ctypes.c_size_t(target.nbytes)
        call("cuMemcpyDtoHAsync_v2", Handle(target.ctypes.data), where, size, Handle(stream))

    def new_stream(self) -> int:
        if self._partition is not None:
            stream = self._partition.new_stream()
        else:
            made = Handle()
            call("cuStreamCreate", ctypes.byref(made), _NON_BLOCKING)
            stream = int(made.value or 0)
        self._streams.append(stream)
        return stream

    def synchronize(self, stream: int) -> None:
        call("cuStreamSynchronize", Handle(stream))

    def new_event(self) -> int:
        event = Handle()
        call("cuEventCreate", ctypes.byref(event), 0)
        self._events.append(int(event.value or 0))
        return int(event.value or 0)

    def record(self, event: Any, stream: int) -> None:
        call("cuEventRecord", Handle(event), Handle(stream))

    def elapsed_ms(self, start: Any, end: Any) -> float:
        value = ctypes.c_float()
        call("cuEventSynchronize", Handle(end))
        call("cuEventElapsedTime", ctypes.byref(value), Handle(start), Handle(end))
        return float(value.value)

    def memory_info(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return int(free.value), int(total.value)

    def close(self) -> None:
        for event in self._events:
            call("cuEventDestroy_v2", Handle(event))
        for stream in self._streams:
            call("cuStreamDestroy_v2", Handle(stream))
        for address in self._pinned:
            call("cuMemFreeHost", Handle(address))
        self._streams.clear()
        self._events.clear()
        self._pinned.clear()
        if self._partition is not None:
            self._partition.give_back()
        self._leave()

    def _leave(self) -> None:
        popped = Handle()
        call("cuCtxPopCurrent_v2", ctypes.byref(popped))
        call("cuDevicePrimaryCtxRelease_v2", self._device)


def no_memory(size: int, free: int) -> str:
    """What to do when the GPU is full."""
    return (
        f"the GPU has no {size / 2**20:.0f} MiB left ({free / 2**20:.0f} MiB free): "
        "use a smaller batch or close other programs"
    )
