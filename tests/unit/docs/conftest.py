"""What the documentation's commands find in their folder: two runs and the halves of a small network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from calibration import CalibrationSettings, quantize
from tests.unit.commands.conftest import DENSE, INT8, write_run
from toolkit.datasets.fleet import FleetSettings, draw_scene, render
from toolkit.device import describe_machine
from toolkit.export import ExportSettings, export_halves
from toolkit.metrics import Metric, MetricSet
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.preprocess import Preprocess
from toolkit.wire import WireFormat, choose_step

SLIM = "slim-fp32-float-w8-onnxruntime"


def example_metrics() -> MetricSet:
    """What the limits in the documentation ask for."""
    here = describe_machine()
    test = {"n": 100, "machine": here, "protocol": "veri", "split": "test"}
    found = [Metric(name="slim.deviation", value=1e-6, n=16, machine=here)]
    for variant, score, latency in ((DENSE, 0.92, 2.0), (SLIM, 0.915, 1.2), (INT8, 0.91, 0.6)):
        span = (score - 0.02, score + 0.02)
        times = (latency * 0.98, latency * 1.02)
        size = {"name": "size.engine", "value": 1e5, "unit": "bytes", "n": 1}
        found += [
            Metric(name="reid.map", value=score, variant=variant, interval=span, **test),
            Metric(
                name="latency.p50", value=latency, unit="ms", n=50, variant=variant, interval=times, machine=here
            ),
            Metric(variant=variant, machine=here, **size),
        ]
    return MetricSet(found)


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``edge.{a,b,cpu,fp16,fp32}.onnx`` of a narrow ResNet-18 for 64-pixel pictures."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("halves")
    fleet = FleetSettings(size=64)
    pictures = np.stack([render(draw_scene(fleet, vehicle, 0, 0), 64).picture for vehicle in range(8)])
    net = build_network(Architecture("resnet18", "layer2", 4, width=0.125), seed=0).eval()
    inputs = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(inputs)).numpy()
    step = choose_step(feature, 8, signed=False)
    fmt = WireFormat(*feature.shape[1:], bits=8, step=step, signed=False)
    preprocess = Preprocess(height=64, width=64)
    made = export_halves(net, fmt, preprocess, pictures, folder, ExportSettings(simplify="off"))
    made.edge.rename(folder / "edge.fp32.onnx")
    settings = CalibrationSettings(threads=1, method="minmax", weight_method="minmax")
    for form, model in quantize(folder / "edge.fp32.onnx", [inputs], settings).forms.items():
        onnx.save(model, folder / f"edge.{form}.onnx")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, halves: Path) -> Path:
    """A reader's folder: configurations of the repository, runs ``demo`` and ``other``, the halves."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "configs").symlink_to(Path(__file__).resolve().parents[3] / "configs")
    for path in halves.glob("edge.*.onnx"):
        (place / path.name).symlink_to(path)
    for name in ("demo", "other"):
        write_run(place / "runs" / name, layers=2, metrics=example_metrics())
    return place


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a reader who activated theirs: ``patrol-edge`` and ``python`` are on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs: dict[str, str] = {"patrol-edge": "-m toolkit.cli", "python": ""}
    for name, arguments in programs.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    root = Path(__file__).resolve().parents[3]
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
