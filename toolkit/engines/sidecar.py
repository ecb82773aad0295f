"""What stands beside every engine file: where it comes from and where it may run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from toolkit.engines.errors import EngineMismatchError
from toolkit.variants import EngineKind, Precision


class Sidecar(BaseModel):
    """``<engine file>.json``.

    Attributes:
        engine, version: the library and its exact version.
        precision: of the computation.
        onnx_sha256: of the model it was built from.
        engine_sha256, engine_bytes: of the file.
        device, compute_capability, sm_count: the GPU it was built on; None for a CPU engine or a build without
            a GPU.
        power_mode: the Jetson's, where known; another one only warns.
        machine: in words.
        typing: ``strong`` or ``weak`` (TensorRT).
        wire_output: ``codes``, or ``float`` when the host has to round; None when there is no wire output.
        wire_step: for rounding.
        weights: ``inside``, ``refittable`` or ``stripped``.
        workspace_mb: limit of TensorRT's scratch memory; None left it to TensorRT.
        emulated: which module it stands in for on how many SMs; None for an engine that is what it is.
        options: the build settings and what was ignored of them.
        inputs, outputs: names, types, shapes.
        build_s: seconds the build took.
        build_peak_bytes: what the process grew by at most while it built, by the kernel's counter.
        build_host_mib, build_device_mib: peaks of TensorRT's own allocators, as its log says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    engine: EngineKind
    version: str
    precision: Precision
    onnx_sha256: str
    engine_sha256: str
    engine_bytes: int
    device: str | None = None
    compute_capability: str | None = None
    sm_count: int | None = None
    power_mode: str | None = None
    machine: str
    typing: Literal["strong", "weak"] | None = None
    wire_output: Literal["codes", "float"] | None = None
    wire_step: float | None = None
    weights: Literal["inside", "refittable", "stripped"] = "inside"
    workspace_mb: int | None = None
    emulated: dict[str, Any] | None = None
    options: dict[str, Any]
    ignored: tuple[str, ...] = ()
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    build_s: float
    build_peak_bytes: int | None = None
    build_host_mib: int | None = None
    build_device_mib: int | None = None

    def save(self, engine: Path) -> Path:
        """Write it beside ``engine``, atomically; returns its path."""
        path = sidecar_path(engine)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, engine: Path) -> Sidecar:
        """Read the sidecar of ``engine``.

        Raises:
            EngineMismatchError: missing, of another schema, or not a sidecar.
        """
        path = sidecar_path(engine)
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise EngineMismatchError(
                f"{engine} has no sidecar ({path.name}: {error.strerror}); only engines built here are opened, "
                "build it again"
            ) from error
        except (ValidationError, ValueError) as error:
            raise EngineMismatchError(f"{path} is not an engine's sidecar; build the engine again") from error

    def check_file(self, engine: Path) -> bytes:
        """The engine's bytes, when they are the ones that were built.

        Raises:
            EngineMismatchError: missing, truncated or changed.
        """
        try:
            data = engine.read_bytes()
        except OSError as error:
            raise EngineMismatchError(f"cannot read {engine}: {error.strerror}") from error
        if len(data) != self.engine_bytes:
            raise EngineMismatchError(f"{engine} has {len(data)} bytes, not {self.engine_bytes}; build it again")
        if sha256(data) != self.engine_sha256:
            raise EngineMismatchError(f"{engine} was changed after it was built; build it again")
        return data

    def check_onnx(self, expected: str | None) -> None:
        """Refuse an engine of another model than the caller's.

        Raises:
            EngineMismatchError: another model's engine.
        """
        if expected is not None and expected != self.onnx_sha256:
            raise EngineMismatchError(
                f"the engine was built from model {self.onnx_sha256[:12]}, not {expected[:12]}; build it again"
            )


def sidecar_path(engine: Path) -> Path:
    """``<engine file>.json``."""
    return engine.with_name(engine.name + ".json")


def sha256(data: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(data).hexdigest()
