"""Run a TensorRT plan: checked against its sidecar first, then the tensor-address API that 8.5 to 11 share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines import trt_library
from toolkit.engines.base import Arrays, TensorSpec, check_inputs
from toolkit.engines.cuda import Cuda
from toolkit.engines.cuda_graph import CudaGraph
from toolkit.engines.driver import Gpu, require_device
from toolkit.engines.emulation import Emulation
from toolkit.engines.errors import EngineMismatchError
from toolkit.engines.power_mode import warn_of_mode
from toolkit.engines.settings import RunSettings
from toolkit.engines.sidecar import Sidecar
from toolkit.engines.trt_binding import TensorRTBinding, round_to_codes
from toolkit.engines.trt_inspect import information_of, record_layers
from toolkit.engines.trt_refit import check_weights, refit
from toolkit.errors import EngineError

logger = logging.getLogger(__name__)
WIRE = "wire"


def check_place(sidecar: Sidecar, version: str, gpu: Gpu) -> None:
    """Refuse a plan that was built for another TensorRT or GPU, before TensorRT sees it.

    Raises:
        EngineMismatchError: says what differs and to build again.
    """
    for what, built, here in (
        ("TensorRT", sidecar.version, version),
        ("compute capability", sidecar.compute_capability, gpu.compute_capability),
        ("number of SMs", sidecar.sm_count, gpu.sm_count),
    ):
        if built is not None and built != here:
            raise EngineMismatchError(f"the engine was built for {what} {built}, here it is {here}; build it here")


class TensorRTEngine:
    """A deserialized plan with one execution context.

    Args:
        path: the plan; its sidecar stands beside it.
        sidecar: read.
        settings: device and CUDA library.

    Raises:
        EngineMismatchError: truncated, changed, or of another model, TensorRT or GPU.
        NoDeviceError: no driver or GPU.
        EngineError: TensorRT refuses the plan, or there is not enough memory.
    """

    def __init__(self, path: Path, sidecar: Sidecar, settings: RunSettings) -> None:
        self.path, self.sidecar, self.settings = path, sidecar, settings
        data = sidecar.check_file(path)
        check_weights(sidecar, settings.weights_from)
        self.gpu = require_device("to run a TensorRT engine", settings.device)
        trt = trt_library.load(sidecar.engine)
        check_place(sidecar, str(trt.__version__), self.gpu)
        warn_of_mode(sidecar)
        self.emulation = Emulation.from_dict(sidecar.emulated) if sidecar.emulated else None
        sms = self.emulation.sms if self.emulation else None
        self._cuda = Cuda(settings.device, settings.cuda, sms)
        try:
            before = self._cuda.binding.memory_info()[0]
            self._open(trt, data)
            self.device_bytes = max(before - self._cuda.binding.memory_info()[0], 0)
        except BaseException:
            self._cuda.close()
            raise

    def _open(self, trt: ModuleType, data: bytes) -> None:
        self._trt, self._log = trt, trt_library.new_log(trt)
        self._runtime = trt.Runtime(self._log.handle)
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise EngineError(f"TensorRT cannot load {self.path.name}: {self._log.reason()}; build it again")
        refit(trt, engine, self.sidecar, self.settings.weights_from, self._log)
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(f"no memory for the engine's context: {self._log.reason()}; use a smaller max_batch")
        self._engine, self._context = engine, context
        self.inputs, self.outputs = self._read_specs(trt, engine)
        self._stream = self._cuda.binding.new_stream()
        self._events = tuple(self._cuda.binding.new_event() for _ in range(4))
        self._graph: CudaGraph | None = None
        self._slots: dict[str, _Slot] = {}

    def _read_specs(self, trt: ModuleType, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        sides: tuple[list[TensorSpec], list[TensorSpec]] = ([], [])
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            shape = tuple(int(side) for side in engine.get_tensor_shape(name))
            largest = None
            if is_input and -1 in shape:
                largest = tuple(int(side) for side in engine.get_tensor_profile_shape(name, 0)[2])
            dtype = trt_library.dtype_name(engine.get_tensor_dtype(name))
            sides[0 if is_input else 1].append(TensorSpec(name, dtype, shape, largest))
        return tuple(sides[0]), tuple(sides[1])

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See :class:`toolkit.engines.base.Engine`; copies in and out."""
        binding = self.bind(inputs)
        binding.run()
        return binding.outputs()

    def bind(self, inputs: Mapping[str, NDArray[Any]]) -> TensorRTBinding:
        """See :class:`toolkit.engines.base.Engine`. The latest binding is the one that runs."""
        cuda = self._cuda.binding
        check_inputs(inputs, self.inputs)
        self._drop_graph()
        for spec in self.inputs:
            array = inputs[spec.name]
            if not self._context.set_input_shape(spec.name, array.shape):
                raise EngineError(f"{spec.name} {array.shape} is outside the engine's profile")
            slot = self._slot(spec.name, array.shape, spec.dtype)
            slot.host[...] = array
            cuda.to_device(slot.pointer, slot.host, self._stream)
        for spec in self.outputs:
            shape = tuple(int(side) for side in self._context.get_tensor_shape(spec.name))
            self._slot(spec.name, shape, spec.dtype)
        cuda.synchronize(self._stream)
        return TensorRTBinding(self)

    def _slot(self, name: str, shape: tuple[int, ...], dtype: str) -> _Slot:
        """Buffers of a tensor in this shape; they grow with the largest batch seen and never shrink."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        slot = self._slots.get(name)
        if slot is None or slot.raw.nbytes < size:
            if slot is not None:
                self._cuda.free(slot.pointer)
                self._cuda.binding.free_host(slot.raw)
            slot = _Slot(self._cuda.allocate(size), self._cuda.binding.host_buffer(size))
            self._slots[name] = slot
        slot.host = slot.raw[:size].view(dtype).reshape(shape)
        if not self._context.set_tensor_address(name, slot.pointer):
            raise EngineError(f"TensorRT refuses the buffer of {name}: {self._log.reason()}")
        return slot

    def enqueue(self) -> None:
        """Start one run on the engine's stream and return at once."""
        if self._graph is not None:
            self._graph.launch()
        else:
            self._execute()

    def capture(self) -> None:
        """From now on, until other inputs are bound, launch runs as one CUDA graph.

        Raises:
            EngineError: the driver is too old, or the engine cannot be captured.
        """
        self._drop_graph()
        self._execute()  # shapes are set up in a first run, which cannot be captured
        self.synchronize()
        self._graph = CudaGraph(self._stream, self._execute)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"TensorRT failed while running: {self._log.reason()}")

    def synchronize(self) -> None:
        """Wait until the stream is empty."""
        self._cuda.binding.synchronize(self._stream)

    def fetch(self) -> Arrays:
        """The outputs of the last run; a float wire is rounded to codes."""
        cuda, results = self._cuda.binding, {}
        for spec in self.outputs:
            slot = self._slots[spec.name]
            cuda.to_host(slot.host, slot.pointer, self._stream)
        cuda.synchronize(self._stream)
        for spec in self.outputs:
            value = self._slots[spec.name].host.copy()
            if spec.name == WIRE and self.sidecar.wire_output == "float":
                value = round_to_codes(value, self.sidecar.wire_step)
            results[spec.name] = value
        return results

    def gpu_time_ms(self) -> float:
        """One run's time on the GPU alone, between two CUDA events, without transfers."""
        cuda = self._cuda.binding
        start, end = self._events[:2]
        cuda.record(start, self._stream)
        self.enqueue()
        cuda.record(end, self._stream)
        return cuda.elapsed_ms(start, end)

    def phases_ms(self) -> dict[str, float]:
        """One run with its transfers, as trtexec takes it apart.

        ``h2d``, ``compute`` and ``d2h`` between CUDA events, ``enqueue`` on the host, ``latency`` the sum of the
        three, ``end_to_end`` the host's clock from before the first copy to after the last.
        """
        cuda, stream = self._cuda.binding, self._stream
        begin, copied, computed, end = self._events
        started = time.perf_counter()
        cuda.record(begin, stream)
        for spec in self.inputs:
            cuda.to_device(self._slots[spec.name].pointer, self._slots[spec.name].host, stream)
        cuda.record(copied, stream)
        enqueued = time.perf_counter()
        self.enqueue()
        enqueue = time.perf_counter() - enqueued
        cuda.record(computed, stream)
        for spec in self.outputs:
            cuda.to_host(self._slots[spec.name].host, self._slots[spec.name].pointer, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
        whole = time.perf_counter() - started
        h2d, compute = cuda.elapsed_ms(begin, copied), cuda.elapsed_ms(copied, computed)
        d2h = cuda.elapsed_ms(computed, end)
        return {
            "enqueue": enqueue * 1000,
            "h2d": h2d,
            "compute": compute,
            "d2h": d2h,
            "latency": h2d + compute + d2h,
            "end_to_end": whole * 1000,
        }

    def layer_information(self) -> dict[str, Any]:
        """What the engine runs, as the inspector's JSON; dynamic shapes are the ones bound last."""
        return information_of(self._trt, self._engine, self._context)

    def layer_times(self, inputs: Mapping[str, NDArray[Any]], runs: int = 20) -> dict[str, list[float]]:
        """Milliseconds of every layer, by TensorRT's own profiler, in ``runs`` runs after a few uncounted ones.

        Close the engine afterwards: the profiler stays and slows every later run down.
        """
        self.bind(inputs)

        def once() -> None:
            self.enqueue()
            self.synchronize()

        found: dict[str, list[float]] = record_layers(self._trt, self._context, once, max(runs // 4, 3), runs)
        return found

    @property
    def context_bytes(self) -> int:
        """Device memory of the execution context."""
        names = ("device_memory_size_v2", "device_memory_size")
        return int(next(getattr(self._engine, name) for name in names if hasattr(self._engine, name)))

    def describe(self) -> dict[str, Any]:
        """See :class:`toolkit.engines.base.Engine`."""
        return {
            "engine": self.sidecar.engine,
            "version": self.sidecar.version,
            "precision": self.sidecar.precision,
            "device": self.gpu.name,
            "machine": self.gpu.title + (f", {self.emulation.label}" if self.emulation else ""),
            "emulated": self.emulation.label if self.emulation else None,
            "onnx_sha256": self.sidecar.onnx_sha256,
            "bytes": self.sidecar.engine_bytes,
            "context_bytes": self.context_bytes,
            "device_bytes": self.device_bytes,
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }

    def close(self) -> None:
        """See :class:`toolkit.engines.base.Engine`."""
        if self._engine is None:
            return
        self._drop_graph()
        self._slots = {}
        self._context = self._engine = self._runtime = None
        self._cuda.close()


@dataclass
class _Slot:
    pointer: int
    raw: NDArray[np.uint8]
    host: NDArray[Any] = field(init=False)
