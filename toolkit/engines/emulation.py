"""Stand in for a Jetson on a GPU host: as many SMs, its memory, small batches.

A green context (CUDA 12.4 and later) confines everything that is built and run in it to a part of the SMs. What it
does not limit: bandwidth, caches, clocks, the instruction set. So a latency taken here is *emulated*: it shows a
regression on the same host, never a Jetson's milliseconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from targets.errors import TargetError
from targets.jetson.catalogue import Module, find_module
from toolkit.engines.driver import Gpu
from toolkit.engines.driver_calls import Handle, call, has
from toolkit.errors import EngineError

CALLS = (
    "cuDeviceGetDevResource",
    "cuDevSmResourceSplitByCount",
    "cuDevResourceGenerateDesc",
    "cuGreenCtxCreate",
    "cuGreenCtxDestroy",
    "cuGreenCtxStreamCreate",
    "cuCtxFromGreenCtx",
)
# Fewest SMs of a partition and the step between sizes, by compute capability (CUDA driver API 12.4,
# cuDevSmResourceSplitByCount).
_PARTITIONS = {6: (1, 1), 7: (2, 2), 8: (4, 2)}
_NEWEST = (8, 8)
_SM_RESOURCE, _DEFAULT_STREAM, _NON_BLOCKING = 1, 1, 1
MOST_PICTURES = 16


@dataclass(frozen=True)
class Emulation:
    """What of a GPU stands in for a module.

    Attributes:
        module, mode: of the catalogue.
        wanted_sms: the module's in that power mode.
        sms: of the partition, the nearest size that can be made, not smaller.
        of_sms: of the whole GPU.
        workspace_mb: limit of TensorRT's scratch memory: half the module's memory, the other half is the system's,
            the weights' and the activations'.
        max_batch: one picture for each GB of the module, 16 at most.
    """

    module: str
    mode: str
    wanted_sms: int
    sms: int
    of_sms: int
    workspace_mb: int
    max_batch: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Emulation:
        """From a sidecar."""
        return cls(**values)

    @property
    def label(self) -> str:
        """For example ``emulating orin-nano-8gb (15W) on 8 of 132 SMs``."""
        exact = "" if self.sms == self.wanted_sms else f", the module has {self.wanted_sms}"
        return f"emulating {self.module} ({self.mode}) on {self.sms} of {self.of_sms} SMs{exact}"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for the sidecar."""
        return asdict(self)


def plan_emulation(name: str, gpu: Gpu) -> Emulation:
    """What to take of a GPU.

    Args:
        name: a module of the catalogue, with a power mode if not the default one: ``orin-nano-8gb:7W``.
        gpu: the host's.

    Raises:
        EngineError: no such module or mode, or the GPU is too small to stand in for it.
    """
    key, _, mode_name = name.partition(":")
    try:
        module = find_module(key)
        mode = module.mode(mode_name or None)
    except TargetError as error:
        raise EngineError(f"cannot emulate {name}: {error}") from error
    sms = partition_size(mode.sms, gpu.compute_capability)
    if sms > gpu.sm_count:
        raise EngineError(
            f"{gpu.title} cannot stand in for {module.key} in mode {mode.label}: it takes {sms} SMs; take another"
        )
    gigabytes = _memory_gb(module)
    if gigabytes * 10**9 > gpu.memory_bytes:
        raise EngineError(f"{gpu.name} has less memory than {module.key} ({gigabytes:g} GB)")
    workspace = int(gigabytes * 10**9 / 2) >> 20
    return Emulation(
        module.key, mode.label, mode.sms, sms, gpu.sm_count, workspace, max(1, min(int(gigabytes), MOST_PICTURES))
    )


def partition_size(wanted: int, compute_capability: str) -> int:
    """The smallest number of SMs that a partition of this GPU can have and that is not below ``wanted``."""
    fewest, step = _PARTITIONS.get(int(compute_capability.partition(".")[0]), _NEWEST)
    return fewest + -(-max(wanted - fewest, 0) // step) * step


def _memory_gb(module: Module) -> float:
    return module.value("dram_gb")


class _Resource(ctypes.Structure):
    """CUdevResource: 144 bytes in CUDA 12.4 to 13.x; only the head of the SM part is looked at."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("padding", ctypes.c_ubyte * 92),
        ("sm_count", ctypes.c_uint),
        ("rest", ctypes.c_ubyte * 44),
    )


class GreenContext:
    """A part of a GPU as the current CUDA context of this thread, inside a ``with``.

    Args:
        device: index of the GPU.
        sms: streaming multiprocessors, a size that :func:`partition_size` gives.

    Raises:
        EngineError: the driver is older than CUDA 12.4, or refuses the partition.
    """

    def __init__(self, device: int, sms: int) -> None:
        if not has(*CALLS):
            raise EngineError("the NVIDIA driver has no green contexts (CUDA 12.4 and later); nothing is emulated")
        self._ordinal, self._wanted = device, sms
        self._device = ctypes.c_int()
        self._green, self._context = Handle(), Handle()
        self.sms = 0

    def __enter__(self) -> GreenContext:
        call("cuInit", 0)
        call("cuDeviceGet", ctypes.byref(self._device), self._ordinal)
        primary = Handle()
        call("cuDevicePrimaryCtxRetain", ctypes.byref(primary), self._device)
        try:
            self._create()
            call("cuCtxPushCurrent_v2", self._context)
        except BaseException:
            self._release()
            raise
        return self

    def _create(self) -> None:
        whole, part, remaining = _Resource(), _Resource(), _Resource()
        groups, description = ctypes.c_uint(1), Handle()
        call("cuDeviceGetDevResource", self._device, ctypes.byref(whole), _SM_RESOURCE)
        call(
            "cuDevSmResourceSplitByCount",
            ctypes.byref(part),
            ctypes.byref(groups),
            ctypes.byref(whole),
            ctypes.byref(remaining),
            0,
            self._wanted,
        )
        if groups.value != 1:
            raise EngineError(f"the driver makes no partition of {self._wanted} SMs out of {whole.sm_count}")
        self.sms = int(part.sm_count)
        call("cuDevResourceGenerateDesc", ctypes.byref(description), ctypes.byref(part), 1)
        call("cuGreenCtxCreate", ctypes.byref(self._green), description, self._device, _DEFAULT_STREAM)
        call("cuCtxFromGreenCtx", ctypes.byref(self._context), self._green)

    def new_stream(self) -> int:
        """A stream whose work stays inside the partition."""
        stream = Handle()
        call("cuGreenCtxStreamCreate", ctypes.byref(stream), self._green, _NON_BLOCKING, 0)
        return int(stream.value or 0)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        popped = Handle()
        call("cuCtxPopCurrent_v2", ctypes.byref(popped))
        self._release()

    def _release(self) -> None:
        if self._green.value:
            call("cuGreenCtxDestroy", self._green)
            self._green = Handle()
        call("cuDevicePrimaryCtxRelease_v2", self._device)
