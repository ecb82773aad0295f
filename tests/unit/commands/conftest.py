"""The command line in this process, and finished runs that are written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.device import describe_machine
from toolkit.engines import BuildSettings, build_engine
from toolkit.metrics import Metric, MetricSet
from toolkit.runs import RunFolder

INT8 = "slim-int8-cpu-w8-onnxruntime"
DENSE = "dense-fp32-float-w8-onnxruntime"
PROFILE = {"warmup_s": 0.01, "warmup_limit_s": 0.05, "duration_s": 0.2, "rounds": 30, "min_rounds": 20}


def save_network(path: Path, layers: int) -> Path:
    """A chain of 3x3 convolutions from ``picture`` to ``wire``."""
    generator = np.random.default_rng(0)
    nodes, weights, name, channels = [], [], "picture", 3
    for index in range(layers):
        weight = generator.normal(0, 0.1, (16, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        target = "wire" if index == layers - 1 else f"x{index}"
        nodes.append(helper.make_node("Conv", [name, f"w{index}"], [target], pads=[1, 1, 1, 1]))
        name, channels = target, 16
    shapes = [("picture", ["n", 3, 32, 32]), ("wire", ["n", 16, 32, 32])]
    ends = [helper.make_tensor_value_info(label, TensorProto.FLOAT, shape) for label, shape in shapes]
    graph = helper.make_graph(nodes, "edge", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)
    return path


def metrics_of(value: float = 0.9, latency: float = 1.0, queries: int = 100) -> MetricSet:
    """mAP and median latency of the deployed variant, and the dense network's mAP."""
    here = describe_machine()
    common = {"n": queries, "machine": here, "protocol": "veri", "split": "test"}
    span = (value - 0.02, value + 0.02)
    times = {"unit": "ms", "n": 100, "machine": here, "interval": (latency * 0.98, latency * 1.02)}
    return MetricSet(
        [
            Metric(name="reid.map", value=0.92, variant=DENSE, interval=(0.9, 0.94), **common),
            Metric(name="reid.map", value=value, variant=INT8, interval=span, **common),
            Metric(name="latency.p50", value=latency, variant=INT8, **times),
        ]
    )


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes a run folder with data, quantize, build, evaluate and report stages."""

    def make(name: str, **content: Any) -> Path:
        return write_run(tmp_path / "runs" / name, **content)

    return make


def write_run(
    root: Path,
    layers: int = 2,
    metrics: MetricSet | None = None,
    ap: list[float] | None = None,
    limits: list[dict[str, Any]] | None = None,
) -> Path:
    """A finished run at ``root``: ``layers`` convolutions, metrics, limits and average precisions."""
    settings = {"name": root.name, "profile": PROFILE, "check": {"limits": limits or [], "file": None}}
    run = RunFolder.open(root, name=root.name, settings=settings, environment={})
    text = (metrics or metrics_of()).to_json()
    _stage(run, "data", _data)
    _stage(run, "quantize", lambda folder: save_network(folder / "edge.cpu.onnx", layers))
    _stage(run, "build", lambda folder: _build(folder, run))
    _stage(run, "evaluate", lambda folder: _evaluate(folder, ap or [1.0, 0.5, 0.5, 1.0]))
    _stage(run, "report", lambda folder: (folder / "metrics.json").write_text(text))
    return root


def _stage(run: RunFolder, name: str, write: Callable[[Path], object]) -> None:
    write(run.begin(name, name))
    run.finish(name, name, code_version=1, inputs={}, seconds=0.0, summary={})


def _data(folder: Path) -> None:
    np.save(folder / "pictures.npy", np.zeros((8, 32, 32, 3), np.uint8))
    body = {
        "protocol": "veri",
        "paths": [f"{index}.jpg" for index in range(8)],
        "identities": ["a", "a", "b", "b", "a", "a", "b", "b"],
        "rows": {"query": [0, 1, 2, 3], "gallery": [4, 5, 6, 7]},
    }
    (folder / "index.json").write_text(json.dumps(body))


def _build(folder: Path, run: RunFolder) -> None:
    (folder / INT8).mkdir()
    onnx_file = run.path("quantize", "edge.cpu.onnx")
    build_engine(onnx_file, folder / INT8 / "edge.onnx", BuildSettings(precision="int8"))
    body = {"variants": [{"key": INT8, "runs": True}], "deployed": INT8}
    (folder / "variants.json").write_text(json.dumps(body))


def _evaluate(folder: Path, ap: list[float]) -> None:
    body = {"ap": ap, "first_rank": [1 if value == 1 else 2 for value in ap]}
    (folder / f"{INT8}.json").write_text(json.dumps(body))
