"""One interface for what runs a half: ONNX Runtime on the CPU, TensorRT on NVIDIA GPUs.

Importing this needs numpy and pydantic only; a backend's library is imported when it is used.
"""

from toolkit.engines.base import Binding, Engine, TensorSpec
from toolkit.engines.build import BuiltEngine, build_engine, open_engine
from toolkit.engines.errors import (
    EngineBuildError,
    EngineInputError,
    EngineMismatchError,
    ModelRefusedError,
    NoDeviceError,
)
from toolkit.engines.inspection import GraphReport, inspect_onnx
from toolkit.engines.probe import EngineStatus, probe
from toolkit.engines.settings import BuildSettings, RunSettings
from toolkit.engines.sidecar import Sidecar
from toolkit.engines.trt_build import form_for

__all__ = [
    "Binding",
    "BuildSettings",
    "BuiltEngine",
    "Engine",
    "EngineBuildError",
    "EngineInputError",
    "EngineMismatchError",
    "EngineStatus",
    "GraphReport",
    "ModelRefusedError",
    "NoDeviceError",
    "RunSettings",
    "Sidecar",
    "TensorSpec",
    "build_engine",
    "form_for",
    "inspect_onnx",
    "open_engine",
    "probe",
]
