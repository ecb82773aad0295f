"""A run captured once and launched as one CUDA graph, which takes the enqueue time out of small networks."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from toolkit.engines.driver_calls import Handle, call

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on calling CUDA


class CudaGraph:
    """What ``enqueue`` puts on a stream, captured.

    Args:
        stream: that ``enqueue`` uses; not the default stream.
        enqueue: starts one run; it must have run before, because TensorRT sets shapes up in the first run.

    Raises:
        EngineError: something in it cannot be captured.
    """

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        self._stream = Handle(stream)
        self._graph, self._executable = Handle(), Handle()
        call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)
        try:
            enqueue()
        finally:
            # Also after a failure: a stream that goes on capturing can be used for nothing else.
            call("cuStreamEndCapture", self._stream, ctypes.byref(self._graph))
        flags = ctypes.c_ulonglong(0)
        call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), self._graph, flags)

    def launch(self) -> None:
        """Start one run and return at once."""
        call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free the graph."""
        if self._executable.value:
            call("cuGraphExecDestroy", self._executable)
        if self._graph.value:
            call("cuGraphDestroy", self._graph)
        self._graph, self._executable = Handle(), Handle()
