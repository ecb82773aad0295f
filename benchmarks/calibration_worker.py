"""One calibration in a process of its own: ``python -m benchmarks.calibration_worker JOB.json``.

Imports nothing of the project but ``calibration``, and that only for its own methods, so that it also runs in
an environment made for a peer. Prints one JSON line: seconds of the calibration alone, and the peak resident
memory before and after it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

FORWARD = 8


def main(path: str) -> None:
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    limit = int(job["memory_gib"] * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # some peers keep every activation of every picture
    family, method = job["method"].split("-", 1)
    run = {"ours": _ours, "ort": _onnxruntime, "modelopt": _modelopt}[family](job, method)
    before = _peak_mib()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "rss_before_mib": before, "rss_peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    """Peak of this process image; getrusage would count the parent's pages from before exec."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def batches(job: dict[str, Any]) -> Iterator[np.ndarray]:
    """float32 (n, 3, H, W) in [0, 1], read as they are needed (pages of a memory map would count as memory)."""
    pictures = np.load(job["pictures"], mmap_mode="r", allow_pickle=False)
    shape, start_of_data = pictures.shape[1:], pictures.offset
    size, rows = int(np.prod(shape)), job["rows"]
    for start in range(0, len(rows), FORWARD):
        part = rows[start : start + FORWARD]
        read = [np.fromfile(job["pictures"], np.uint8, size, offset=start_of_data + row * size) for row in part]
        chunk = np.stack(read).reshape(len(part), *shape)
        yield np.ascontiguousarray(chunk.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def _ours(job: dict[str, Any], method: str) -> Any:
    from calibration import CalibrationSettings, quantize

    weights = "auto" if method == "auto" else "minmax" if method == "minmax" else "mse"
    settings = CalibrationSettings(method=method, weight_method=weights, threads=job["threads"])

    def run() -> None:
        result = quantize(job["edge"], batches(job), settings)
        onnx.save(result.forms["a"], job["out"])
        for name, form in result.forms.items():
            onnx.save(form, f"{job['out']}.{name}.onnx")

    return run


def _onnxruntime(job: dict[str, Any], method: str) -> Any:
    """quantize_static with the settings that NVIDIA's Model Optimizer uses to suit TensorRT."""
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._items = batches(job)

        def get_next(self) -> dict[str, np.ndarray] | None:
            item = next(self._items, None)
            return None if item is None else {"picture": item}

    source = float_half(onnx.load(job["edge"]))
    path = f"{job['out']}.float.onnx"
    onnx.save(source, path)
    operators = sorted({node.op_type for node in source.graph.node})
    kind = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}[method]

    def run() -> None:
        quantize_static(
            path,
            job["out"],
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "MaxPool", "Gemm", "MatMul", "AveragePool", "GlobalAveragePool"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[kind],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": False,
                "OpTypesToExcludeOutputQuantization": operators,
                "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1},
                "ForceQuantizeNoInputCheck": True,
            },
        )

    assert onnxruntime.get_available_providers()
    return run


def _modelopt(job: dict[str, Any], method: str) -> Any:
    import logging

    logging.disable(logging.WARNING)
    from modelopt.onnx.quantization import quantize

    path = f"{job['out']}.float.onnx"
    onnx.save(float_half(onnx.load(job["edge"])), path)

    def run() -> None:
        data = np.concatenate(list(batches(job)))
        quantize(
            path,
            quantize_mode="int8",
            calibration_data={"picture": data},
            calibration_method=method,
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            output_path=job["out"],
            log_level="ERROR",
        )

    return run


def float_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The edge half without its wire: peers quantize the feature extractor, the wire is put back afterwards."""
    quantizer = model.graph.node[-1]
    clip = next(node for node in model.graph.node if quantizer.input[0] in node.output)
    feature, shape = clip.input[0], model.graph.output[0].type.tensor_type.shape
    output = helper.make_tensor_value_info(feature, TensorProto.FLOAT, None)
    output.type.tensor_type.shape.CopyFrom(shape)
    kept = [
        onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node if n not in (clip, quantizer)
    ]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(kept)
    model.graph.output.append(output)
    used = {name for node in kept for name in node.input}
    constants = [
        onnx.TensorProto.FromString(item.SerializeToString())
        for item in model.graph.initializer
        if item.name in used
    ]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    return model


if __name__ == "__main__":
    main(sys.argv[1])
