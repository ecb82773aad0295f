"""Options of building and opening engines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.variants import EngineKind, Precision

TacticChoice = Literal["default", "no_external"]
EXTERNAL_TACTICS = ("CUBLAS", "CUBLAS_LT", "CUDNN")


class BuildSettings(BaseModel):
    """How an engine is built. What a backend does not have is ignored there and noted in the sidecar.

    Attributes:
        engine: the backend.
        precision: which kernels may be used. Strongly typed networks carry it themselves.
        typing: ``auto`` builds strongly typed where TensorRT can (form B), else with flags (form A).
        max_batch, typical_batch: largest and tuned-for batch of a dynamic batch.
        workspace_mb: limit of TensorRT's scratch memory; None takes half of the memory that is free.
        optimization_level: TensorRT's 0 to 5 (8.6 and later); None is its default, 3.
        tactics: ``no_external`` builds without cuBLAS and cuDNN; a tuple names the sources to use.
        timing_cache: file that is read before and written after the build, under a lock.
        tf32: let FP32 convolutions run as TF32 on Ampere and later; off, FP32 is FP32.
        dla_core: run on this deep learning accelerator, in FP16, always with ``max_batch`` pictures.
        gpu_fallback: what the DLA cannot run goes to the GPU.
        wire_step: step of the wire; the float fallback of an INT8 output needs it.
        wire_output: ``codes`` INT8, ``float`` codes x step for the host to round, ``auto`` the first that builds.
        portability: ``version`` or ``hardware`` compatible plans, not for Jetson.
        weights: ``refittable`` plans take other weights of the same network when they are opened; ``stripped``
            ones (TensorRT 10 and later) are small and need the model's weights to be opened at all.
        emulate: a Jetson module of the catalogue (``orin-nano-8gb``, ``orin-nano-8gb:7W``): the engine is built
            and run inside as many SMs of this GPU, with limits of memory and batch; its numbers are *emulated*.
        threads: of ONNX Runtime.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineKind = "onnxruntime"
    precision: Precision = "fp32"
    typing: Literal["auto", "strong", "weak"] = "auto"
    max_batch: int = Field(default=16, ge=1, le=4096)
    typical_batch: int = Field(default=1, ge=1)
    workspace_mb: int | None = Field(default=None, ge=1)
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    tactics: TacticChoice | tuple[str, ...] = "default"
    timing_cache: str | None = None
    tf32: bool = False
    dla_core: Annotated[int, Field(ge=0, le=7)] | None = None
    gpu_fallback: bool = True
    wire_step: Annotated[float, Field(gt=0)] | None = None
    wire_output: Literal["auto", "codes", "float"] = "auto"
    portability: Literal["none", "version", "hardware"] = "none"
    weights: Literal["inside", "refittable", "stripped"] = "inside"
    emulate: str | None = None
    threads: int = Field(default=1, ge=1, le=256)

    @model_validator(mode="after")
    def _batches(self) -> BuildSettings:
        if self.typical_batch > self.max_batch:
            raise ValueError(f"typical_batch {self.typical_batch} is larger than max_batch {self.max_batch}")
        return self


class RunSettings(BaseModel):
    """How an engine is opened.

    Attributes:
        threads: of ONNX Runtime, pinned; one operator at a time.
        arena: ``off`` runs ONNX Runtime without its memory arena: less memory, slower.
        arena_limit_mb: most that the arena may hold; one limit for the whole process.
        device: index of the GPU.
        onnx_sha256: the model the caller means; an engine of another one is refused.
        weights_from: the ONNX file whose weights a stripped or refittable engine takes.
        cuda: which binding to use for CUDA memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(default=1, ge=1, le=256)
    arena: Literal["default", "off"] = "default"
    arena_limit_mb: Annotated[int, Field(ge=1)] | None = None
    device: int = Field(default=0, ge=0)
    onnx_sha256: str | None = None
    weights_from: str | None = None
    cuda: Literal["auto", "pycuda", "cuda-python", "driver"] = "auto"
