"""Weights for plans that were built without them, or that may take others of the same network."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from toolkit.engines.errors import EngineMismatchError
from toolkit.engines.sidecar import Sidecar, sha256
from toolkit.errors import EngineError


def check_weights(sidecar: Sidecar, weights_from: str | None) -> None:
    """Whether an engine can get the weights that the caller names, before TensorRT is asked.

    Raises:
        EngineMismatchError: a stripped engine without weights or with another model's, or weights for an engine
            that has its own.
    """
    if sidecar.weights == "inside":
        if weights_from is not None:
            raise EngineMismatchError("the engine has its weights inside; build it with weights: refittable")
        return
    if sidecar.weights == "stripped":
        if weights_from is None:
            raise EngineMismatchError("the engine was built without weights; name its ONNX file in weights_from")
        if sha256(_read(weights_from)) != sidecar.onnx_sha256:
            raise EngineMismatchError(f"{weights_from} is not the model that the stripped engine was built from")


def refit(trt: ModuleType, engine: Any, sidecar: Sidecar, weights_from: str | None, log: Any) -> None:
    """Put the weights of an ONNX file into a deserialized engine; nothing when none are named.

    Raises:
        EngineError: this TensorRT reads no weights from ONNX files (8.x), or the network is another one.
    """
    if weights_from is None:
        return
    if not hasattr(trt, "OnnxParserRefitter"):
        raise EngineError(
            f"TensorRT {trt.__version__} takes no weights from ONNX files (10 and later do); build again"
        )
    changer = trt.Refitter(engine, log)
    reader = trt.OnnxParserRefitter(changer, log)
    if not reader.refit_from_bytes(_read(weights_from)) or not changer.refit_cuda_engine():
        raise EngineError(
            f"the weights of {weights_from} do not fit the engine of {sidecar.onnx_sha256[:12]}: {log.reason()}"
        )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as reason:
        raise EngineMismatchError(f"cannot read the weights {path}: {reason.strerror}") from reason
