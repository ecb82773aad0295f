"""Whether a produced network is accepted: ONNX checker, ONNX Runtime, tensorrt-rtx, our lint of TensorRT 8.x.

tensorrt-rtx parses and builds strongly typed networks without a GPU; where it is not installed its rows say so.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from calibration.errors import CalibrationError
from calibration.graph import dimensions
from calibration.lint import lint
from calibration.session import open_session

Verdict = Literal["accepted", "refused", "not run"]


@dataclass(frozen=True)
class Acceptance:
    """One form before one judge.

    Attributes:
        form: key of the form; judge: ``onnx checker``, ``onnxruntime``, ``tensorrt-rtx`` or ``tensorrt 8 rules``.
        verdict: ``not run`` when the judge is not installed or the form is not for it.
        detail: the judge's version, or its reason.
    """

    form: str
    judge: str
    verdict: Verdict
    detail: str


def acceptance(forms: Mapping[str, onnx.ModelProto]) -> tuple[Acceptance, ...]:
    """Put every form before every judge that it is meant for."""
    rows = []
    for form, model in forms.items():
        rows += [_checker(form, model), _onnxruntime(form, model)]
        rows.append(
            Acceptance(form, "tensorrt-rtx", "not run", "for ONNX Runtime only")
            if form == "cpu"
            else _rtx(form, model)
        )
        if form == "a":
            rows.append(_eight(form, model))
    return tuple(rows)


def refusals(rows: tuple[Acceptance, ...]) -> tuple[Acceptance, ...]:
    """The rows that refuse."""
    return tuple(row for row in rows if row.verdict == "refused")


def _checker(form: str, model: onnx.ModelProto) -> Acceptance:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker raises several unrelated classes
        return Acceptance(form, "onnx checker", "refused", _first_line(error))
    return Acceptance(form, "onnx checker", "accepted", f"onnx {onnx.__version__}")


def _onnxruntime(form: str, model: onnx.ModelProto) -> Acceptance:
    import onnxruntime

    inputs = {
        value.name: np.full([size or 2 for size in dimensions(value)], 0.5, dtype=np.float32)
        for value in model.graph.input
    }
    try:
        [codes] = open_session(model, 1, integer_kernels=form == "cpu").run(None, inputs)
    except CalibrationError as error:
        return Acceptance(form, "onnxruntime", "refused", _first_line(error))
    if codes.dtype != np.int8:
        return Acceptance(form, "onnxruntime", "refused", f"the wire is {codes.dtype}, not int8")
    return Acceptance(form, "onnxruntime", "accepted", f"onnxruntime {onnxruntime.__version__}")


def _rtx(form: str, model: onnx.ModelProto) -> Acceptance:
    try:
        trt: Any = importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        return Acceptance(form, "tensorrt-rtx", "not run", f"not installed ({error}); pip install tensorrt-rtx")
    messages: list[str] = []
    builder = trt.Builder(_quiet_logger(trt, messages))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, _quiet_logger(trt, messages))
    if not parser.parse(model.SerializeToString()):
        reasons = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        return Acceptance(
            form, "tensorrt-rtx", "refused", (reasons or messages or ["parse failed"])[0].splitlines()[0]
        )
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    dynamic = [value for value in model.graph.input if None in dimensions(value)]
    for value in dynamic:
        fixed = tuple(size or 1 for size in dimensions(value))
        profile.set_shape(value.name, fixed, fixed, fixed)
    if dynamic:
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return Acceptance(form, "tensorrt-rtx", "refused", (messages or ["build failed"])[0].splitlines()[0])
    kind = str(network.get_output(0).dtype).rsplit(".", 1)[-1]
    if kind != "INT8":
        return Acceptance(form, "tensorrt-rtx", "refused", f"the wire is {kind}, not INT8")
    return Acceptance(form, "tensorrt-rtx", "accepted", f"tensorrt-rtx {trt.__version__}, {plan.nbytes} bytes")


def _quiet_logger(trt: Any, messages: list[str]) -> Any:
    class Collect(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                messages.append(message)

    return Collect()


def _eight(form: str, model: onnx.ModelProto) -> Acceptance:
    found = [finding for finding in lint(model, "tensorrt8") if finding.severity == "error"]
    if found:
        return Acceptance(form, "tensorrt 8 rules", "refused", f"{found[0].rule}: {found[0].message}")
    return Acceptance(form, "tensorrt 8 rules", "accepted", "no error")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
