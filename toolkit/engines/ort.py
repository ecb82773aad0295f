"""ONNX Runtime on the CPU: the reference, and what runs where there is no GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.device import describe_machine
from toolkit.engines.base import Arrays, TensorSpec, check_inputs
from toolkit.engines.errors import EngineBuildError
from toolkit.engines.settings import RunSettings
from toolkit.engines.sidecar import Sidecar
from toolkit.errors import EngineError
from toolkit.optional import require

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def session_options(settings: RunSettings, profile_prefix: str | None = None) -> Any:
    """Options that make runs repeatable: pinned threads, one operator at a time, no spinning threads."""
    runtime = require("onnxruntime", "host")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = settings.arena != "off"
    if settings.arena_limit_mb is not None:
        _limit_arena(settings.arena_limit_mb)
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return options


_arena_limit_mb: int | None = None


def _limit_arena(megabytes: int) -> None:
    # ONNX Runtime limits an arena only when the whole process shares it, and registers it once.
    global _arena_limit_mb  # noqa: PLW0603
    if _arena_limit_mb is None:
        runtime = require("onnxruntime", "host")
        kinds = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
        same_as_requested, default = 1, -1
        arena = runtime.OrtArenaCfg(megabytes << 20, same_as_requested, default, default)
        runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", *kinds), arena)
        _arena_limit_mb = megabytes
    elif _arena_limit_mb != megabytes:
        raise EngineError(
            f"this process limits ONNX Runtime's arena to {_arena_limit_mb} MB already; "
            f"use that limit, or another process for {megabytes} MB"
        )


def open_session(model: bytes, settings: RunSettings, profile_prefix: str | None = None) -> Any:
    """A CPU session.

    Raises:
        EngineBuildError: ONNX Runtime refuses the model.
    """
    runtime = require("onnxruntime", "host")
    options = session_options(settings, profile_prefix)
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise EngineBuildError(f"ONNX Runtime refuses the model: {first_line(error)}") from error


def specs_of(values: Any) -> tuple[TensorSpec, ...]:
    """Inputs or outputs of a session."""
    specs = []
    for value in values:
        if value.type not in _TYPES:
            raise EngineBuildError(f"{value.name} has type {value.type}, which the toolkit does not carry")
        shape = tuple(side if isinstance(side, int) else -1 for side in value.shape)
        specs.append(TensorSpec(value.name, _TYPES[value.type], shape))
    return tuple(specs)


def first_line(error: BaseException) -> str:
    """One line of an exception's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OrtEngine:
    """A session of ONNX Runtime.

    Args:
        path: the model; its sidecar stands beside it.
        sidecar: read and checked.
        settings: threads and memory.
    """

    def __init__(self, path: Path, sidecar: Sidecar, settings: RunSettings) -> None:
        self.path = path
        self.sidecar = sidecar
        self.settings = settings
        self.model = sidecar.check_file(path)
        self._session: Any = open_session(self.model, settings)
        self.inputs = specs_of(self._session.get_inputs())
        self.outputs = specs_of(self._session.get_outputs())

    @property
    def session(self) -> Any:
        """The open session.

        Raises:
            EngineError: it was closed.
        """
        if self._session is None:
            raise EngineError(f"{self.path.name} was closed; open it again")
        return self._session

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See :class:`toolkit.engines.base.Engine`."""
        session = self.session
        check_inputs(inputs, self.inputs)
        values = _guarded(session.run, None, dict(inputs))
        return {spec.name: value for spec, value in zip(self.outputs, values, strict=True)}

    def bind(self, inputs: Mapping[str, NDArray[Any]]) -> OrtBinding:
        """See :class:`toolkit.engines.base.Engine`."""
        check_inputs(inputs, self.inputs)
        return OrtBinding(self.session, inputs, self.outputs)

    def describe(self) -> dict[str, Any]:
        """See :class:`toolkit.engines.base.Engine`."""
        return {
            "engine": "onnxruntime",
            "version": self.sidecar.version,
            "precision": self.sidecar.precision,
            "device": "CPU",
            "machine": describe_machine(),
            "threads": self.settings.threads,
            "onnx_sha256": self.sidecar.onnx_sha256,
            "bytes": self.sidecar.engine_bytes,
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
        }

    def close(self) -> None:
        """See :class:`toolkit.engines.base.Engine`."""
        self._session = None


class OrtBinding:
    """I/O binding: inputs stay in place, outputs are written into buffers of the first run's size."""

    def __init__(self, session: Any, inputs: Mapping[str, NDArray[Any]], outputs: tuple[TensorSpec, ...]) -> None:
        self._session = session
        self._io = session.io_binding()
        self._inputs = {name: np.array(array, order="C") for name, array in inputs.items()}
        for name, array in self._inputs.items():
            self._io.bind_cpu_input(name, array)
        self._outputs: Arrays = {}
        first = _guarded(session.run, None, self._inputs)
        for spec, value in zip(outputs, first, strict=True):
            buffer = np.ascontiguousarray(value)
            self._outputs[spec.name] = buffer
            self._io.bind_output(spec.name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)

    def run(self) -> None:
        """See :class:`toolkit.engines.base.Binding`."""
        self._session.run_with_iobinding(self._io)

    def outputs(self) -> Arrays:
        """See :class:`toolkit.engines.base.Binding`."""
        return {name: value.copy() for name, value in self._outputs.items()}


def _guarded(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # onnxruntime's exceptions share no base class
        if "BFCArena" in str(error):
            raise EngineError(
                f"ONNX Runtime is out of memory: use a smaller batch, or raise arena_limit_mb ({_arena_limit_mb})"
            ) from error
        raise EngineError(f"ONNX Runtime failed: {first_line(error)}") from error
