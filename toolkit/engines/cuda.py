"""CUDA memory, streams and events, through pycuda or the vendor's cuda-python.

Both use the device's primary context, which TensorRT and torch use too; ``pycuda.autoinit`` would make
another one. A context belongs to the thread that opened it: :class:`Cuda` refuses calls from other threads,
because with pycuda these would work on whatever context is current there.
"""

from __future__ import annotations

import threading
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.engines.emulation import GreenContext
from toolkit.engines.errors import NoDeviceError
from toolkit.errors import EngineError, MissingExtraError

Choice = Literal["auto", "pycuda", "cuda-python"]


class CudaBinding(Protocol):
    """What the engines need of a CUDA library. Pointers and streams are plain integers."""

    name: str

    def allocate(self, size: int) -> int: ...
    def free(self, pointer: int) -> None: ...
    def host_buffer(self, size: int) -> NDArray[np.uint8]: ...
    def free_host(self, buffer: NDArray[np.uint8]) -> None: ...
    def to_device(self, pointer: int, source: NDArray[Any], stream: int) -> None: ...
    def to_host(self, target: NDArray[Any], pointer: int, stream: int) -> None: ...
    def new_stream(self) -> int: ...
    def synchronize(self, stream: int) -> None: ...
    def new_event(self) -> Any: ...
    def record(self, event: Any, stream: int) -> None: ...
    def elapsed_ms(self, start: Any, end: Any) -> float: ...
    def memory_info(self) -> tuple[int, int]: ...
    def close(self) -> None: ...


class Cuda:
    """One thread's use of one GPU.

    Args:
        device: index of the GPU.
        choice: which library; ``auto`` takes pycuda when it is installed, else cuda-python.
        sms: confine everything to a partition of so many SMs; needs cuda-python, whose calls leave the current
            context alone.

    Raises:
        MissingExtraError: neither library is installed.
        EngineError: the driver makes no such partition.
        NoDeviceError: the library finds no GPU.
    """

    def __init__(self, device: int = 0, choice: Choice = "auto", sms: int | None = None) -> None:
        self._thread = threading.get_ident()
        self._pointers: set[int] = set()
        self._binding: CudaBinding | None = _open(device, choice, sms)

    @property
    def binding(self) -> CudaBinding:
        """The library, in the thread that opened it.

        Raises:
            EngineError: closed, or called from another thread.
        """
        if self._binding is None:
            raise EngineError("the GPU engine was closed; open it again")
        if threading.get_ident() != self._thread:
            raise EngineError("a GPU engine runs in the thread that opened it; open one in each thread")
        return self._binding

    def allocate(self, size: int) -> int:
        """Device memory of ``size`` bytes, freed by :meth:`close` at the latest."""
        pointer = self.binding.allocate(max(size, 1))
        self._pointers.add(pointer)
        return pointer

    def free(self, pointer: int) -> None:
        """Give memory back."""
        if pointer in self._pointers:
            self._pointers.discard(pointer)
            self.binding.free(pointer)

    def close(self) -> None:
        """Free all memory and let go of the context."""
        if self._binding is None:
            return
        binding = self.binding
        for pointer in self._pointers:
            binding.free(pointer)
        self._pointers.clear()
        binding.close()
        self._binding = None


def _open(device: int, choice: Choice, sms: int | None) -> CudaBinding:
    problems = []
    if sms is not None:
        try:
            return _CudaPython(device, sms)
        except ImportError as error:
            text = f"emulation needs cuda-python ({error}); install it with: pip install 'patrol-edge[tensorrt]'"
            raise MissingExtraError(text) from error
    for name in ("pycuda", "cuda-python") if choice == "auto" else (choice,):
        try:
            return _PyCuda(device) if name == "pycuda" else _CudaPython(device)
        except ImportError as error:
            problems.append(f"{name}: {error}")
    raise MissingExtraError(
        f"no library for CUDA memory ({'; '.join(problems)}); install one with: "
        "pip install 'patrol-edge[tensorrt]' (cuda-python) or 'patrol-edge[pycuda]'"
    )


class _PyCuda:
    name = "pycuda"

    def __init__(self, device: int) -> None:
        from pycuda import driver  # no pycuda.autoinit: it makes a context of its own

        self._driver = driver
        driver.init()
        self._context = driver.Device(device).retain_primary_context()
        self._context.push()
        self._allocations: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        try:
            allocation = self._driver.mem_alloc(size)
        except self._driver.MemoryError as error:
            raise EngineError(_no_memory(size, self.memory_info()[0])) from error
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, pointer: int) -> None:
        self._allocations.pop(pointer).free()

    def host_buffer(self, size: int) -> NDArray[np.uint8]:
        buffer: NDArray[np.uint8] = self._driver.pagelocked_empty(size, np.uint8)
        return buffer

    def free_host(self, buffer: NDArray[np.uint8]) -> None:
        """pycuda frees it with the last reference."""

    def to_device(self, pointer: int, source: NDArray[Any], stream: int) -> None:
        self._driver.memcpy_htod_async(pointer, source, self._streams[stream])

    def to_host(self, target: NDArray[Any], pointer: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(target, pointer, self._streams[stream])

    def new_stream(self) -> int:
        stream = self._driver.Stream()
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def synchronize(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def new_event(self) -> Any:
        return self._driver.Event()

    def record(self, event: Any, stream: int) -> None:
        event.record(self._streams[stream])

    def elapsed_ms(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(end.time_since(start))

    def memory_info(self) -> tuple[int, int]:
        free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def close(self) -> None:
        self._streams.clear()
        self._context.pop()
        self._context.detach()


class _CudaPython:
    name = "cuda-python"

    def __init__(self, device: int, sms: int | None = None) -> None:
        try:
            from cuda.bindings import driver
        except ImportError:
            from cuda import cuda as driver  # cuda-python before 12.6
        self._driver: Any = driver
        self._check(driver.cuInit(0))
        self._device = self._check(driver.cuDeviceGet(device))
        self._context = self._check(driver.cuDevicePrimaryCtxRetain(self._device))
        self._check(driver.cuCtxPushCurrent(self._context))
        self._streams: list[int] = []
        self._events: list[Any] = []
        self._pinned: list[int] = []
        self._partition = GreenContext(device, sms) if sms is not None else None
        if self._partition is not None:
            self._partition.__enter__()

    def _check(self, result: Any) -> Any:
        code, *values = result
        if int(code) != 0:
            name = getattr(code, "name", str(code))
            if name in ("CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE", "CUDA_ERROR_STUB_LIBRARY"):
                raise NoDeviceError(f"CUDA finds no such GPU ({name})")
            raise EngineError(f"CUDA call failed: {name}")
        return values[0] if len(values) == 1 else tuple(values)

    def allocate(self, size: int) -> int:
        result = self._driver.cuMemAlloc(size)
        if getattr(result[0], "name", "") == "CUDA_ERROR_OUT_OF_MEMORY":
            raise EngineError(_no_memory(size, self.memory_info()[0]))
        return int(self._check(result))

    def free(self, pointer: int) -> None:
        self._check(self._driver.cuMemFree(pointer))

    def host_buffer(self, size: int) -> NDArray[np.uint8]:
        import ctypes

        address = int(self._check(self._driver.cuMemAllocHost(max(size, 1))))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_host(self, buffer: NDArray[np.uint8]) -> None:
        address = int(buffer.ctypes.data)
        self._pinned.remove(address)
        self._check(self._driver.cuMemFreeHost(address))

    def to_device(self, pointer: int, source: NDArray[Any], stream: int) -> None:
        self._check(self._driver.cuMemcpyHtoDAsync(pointer, source.ctypes.data, source.nbytes, stream))

    def to_host(self, target: NDArray[Any], pointer: int, stream: int) -> None:
        self._check(self._driver.cuMemcpyDtoHAsync(target.ctypes.data, pointer, target.nbytes, stream))

    def new_stream(self) -> int:
        if self._partition is not None:
            stream = self._partition.new_stream()
        else:
            non_blocking = 1
            stream = int(self._check(self._driver.cuStreamCreate(non_blocking)))
        self._streams.append(stream)
        return stream

    def synchronize(self, stream: int) -> None:
        self._check(self._driver.cuStreamSynchronize(stream))

    def new_event(self) -> Any:
        event = self._check(self._driver.cuEventCreate(0))
        self._events.append(event)
        return event

    def record(self, event: Any, stream: int) -> None:
        self._check(self._driver.cuEventRecord(event, stream))

    def elapsed_ms(self, start: Any, end: Any) -> float:
        self._check(self._driver.cuEventSynchronize(end))
        return float(self._check(self._driver.cuEventElapsedTime(start, end)))

    def memory_info(self) -> tuple[int, int]:
        free, total = self._check(self._driver.cuMemGetInfo())
        return int(free), int(total)

    def close(self) -> None:
        for event in self._events:
            self._check(self._driver.cuEventDestroy(event))
        for stream in self._streams:
            self._check(self._driver.cuStreamDestroy(stream))
        for address in self._pinned:
            self._check(self._driver.cuMemFreeHost(address))
        self._streams.clear()
        self._events.clear()
        self._pinned.clear()
        if self._partition is not None:
            self._partition.__exit__(None, None, None)
        self._check(self._driver.cuCtxPopCurrent())
        self._check(self._driver.cuDevicePrimaryCtxRelease(self._device))


def _no_memory(size: int, free: int) -> str:
    return (
        f"the GPU has no {size / 2**20:.0f} MiB left ({free / 2**20:.0f} MiB free): "
        "use a smaller batch or close other programs"
    )
