"""Build an engine, write its sidecar, open it again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.device import PeakMemory, describe_machine
from toolkit.engines.base import Engine
from toolkit.engines.driver import list_gpus
from toolkit.engines.errors import EngineBuildError
from toolkit.engines.layers.files import layers_path, write_information
from toolkit.engines.ort import OrtEngine, open_session, specs_of
from toolkit.engines.power_mode import power_mode
from toolkit.engines.settings import BuildSettings, RunSettings
from toolkit.engines.sidecar import Sidecar, sha256
from toolkit.engines.trt_build import WIRE, build_plan
from toolkit.engines.trt_run import TensorRTEngine
from toolkit.optional import require

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltEngine:
    """An engine file and what is known of it."""

    path: Path
    sidecar: Sidecar


def build_engine(onnx: Path, out: Path, settings: BuildSettings) -> BuiltEngine:
    """Build ``onnx`` into ``out`` and write ``<out>.json`` beside it; nothing half-written is left.

    For ONNX Runtime the file is the model itself: its optimized form would depend on this CPU.

    Raises:
        EngineBuildError: the model cannot be read or built; says where and why.
        NoDeviceError: TensorRT without a GPU. (TensorRT-RTX builds without one.)
        MissingExtraError: the library is not installed.
    """
    try:
        model = onnx.read_bytes()
    except OSError as error:
        raise EngineBuildError(f"cannot read {onnx}: {error.strerror}") from error
    started = time.perf_counter()
    with PeakMemory() as memory:
        built = (_onnxruntime if settings.engine == "onnxruntime" else _tensorrt)(model, settings)
    sidecar = Sidecar(
        engine=settings.engine,
        precision=settings.precision,
        onnx_sha256=sha256(model),
        engine_sha256=sha256(built.data),
        engine_bytes=len(built.data),
        machine=describe_machine(),
        options=settings.model_dump(mode="json"),
        build_s=round(time.perf_counter() - started, 3),
        build_peak_bytes=memory.bytes,
        **built.facts,
    )
    temporary = out.with_name(out.name + ".part")
    temporary.write_bytes(built.data)
    sidecar.save(out)
    if built.layers is not None:
        write_information(out, built.layers)
    else:
        layers_path(out).unlink(missing_ok=True)  # of an earlier engine of this name
    temporary.replace(out)
    return BuiltEngine(out, sidecar)


def open_engine(path: Path, settings: RunSettings | None = None) -> Engine:
    """Open an engine that :func:`build_engine` wrote.

    Engines are native code: only open those that were built on this machine by a run you know.

    Raises:
        EngineMismatchError: no sidecar, truncated, changed, or of another model, library version or GPU.
        NoDeviceError: a TensorRT engine without a GPU.
        MissingExtraError: the library is not installed.
    """
    settings = settings or RunSettings()
    sidecar = Sidecar.load(path)
    sidecar.check_onnx(settings.onnx_sha256)
    if sidecar.engine == "onnxruntime":
        return OrtEngine(path, sidecar, settings)
    return TensorRTEngine(path, sidecar, settings)


@dataclass(frozen=True)
class _Built:
    data: bytes
    facts: dict[str, Any]
    layers: dict[str, Any] | None = None


def _onnxruntime(model: bytes, settings: BuildSettings) -> _Built:
    session = open_session(model, RunSettings(threads=settings.threads))
    inputs, outputs = specs_of(session.get_inputs()), specs_of(session.get_outputs())
    facts = {
        "version": require("onnxruntime", "host").__version__,
        "wire_output": "codes" if any(spec.name == WIRE for spec in outputs) else None,
        "ignored": ("emulate",) if settings.emulate is not None else (),
        "inputs": tuple(spec.to_dict() for spec in inputs),
        "outputs": tuple(spec.to_dict() for spec in outputs),
    }
    return _Built(model, facts)


def _tensorrt(model: bytes, settings: BuildSettings) -> _Built:
    plan = build_plan(model, settings)
    facts: dict[str, Any] = {
        "version": plan.version,
        "weights": settings.weights,
        "workspace_mb": plan.workspace_mb,
        "emulated": plan.emulated,
        "typing": plan.typing,
        "wire_output": plan.wire_output,
        "wire_step": settings.wire_step,
        "ignored": tuple(plan.ignored),
        "inputs": tuple(spec.to_dict() for spec in plan.inputs),
        "outputs": tuple(spec.to_dict() for spec in plan.outputs),
    }
    # TensorRT-RTX plans run on every GPU of a supported generation; TensorRT's only where they were built.
    gpus = list_gpus()
    if settings.engine == "tensorrt" and gpus:
        gpu = gpus[0]
        facts.update(device=gpu.name, compute_capability=gpu.compute_capability, sm_count=gpu.sm_count)
        facts["power_mode"] = power_mode()
    if plan.peak_mib is not None:
        facts["build_host_mib"], facts["build_device_mib"] = plan.peak_mib
    return _Built(plan.data, facts, plan.layers)
