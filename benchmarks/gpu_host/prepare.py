"""Models for the engine benchmarks of a GPU host: ``python -m benchmarks.gpu_host.prepare build/gpu-bench``.

Edge halves of ResNet-18 and ResNet-50 up to layer2, dense and with half of the channels (all multiples of 32), at
128 and 256 px, in FP32, FP16 and INT8 forms. Initial weights: no latency depends on what a network has learned.
Scales come from pictures of the synthetic fleet. Needs the host extra; the GPU host needs the folder alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import onnx
import torch

from calibration import quantize
from tests.gpu.prepare import pictures
from toolkit.export import ExportSettings, export_halves
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.preprocess import Preprocess, to_input
from toolkit.wire import WireFormat, choose_step

CUT, CALIBRATION = "layer2", 8


def prepare(folder: Path, backbone: str, network: str, size: int) -> list[dict[str, Any]]:
    """Write the forms of one network; returns their rows of the table."""
    width = 1.0 if network == "dense" else 0.5
    net = build_network(Architecture(backbone, CUT, 16, width=width), seed=0).eval()
    images = pictures(size)[:CALIBRATION]
    inputs = to_input(images)
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(inputs)).numpy()
    channels, height, side = feature.shape[1:]
    fmt = WireFormat(channels, height, side, 8, choose_step(feature, 8, signed=False), signed=False)
    settings = ExportSettings(simplify="off")
    halves = export_halves(net, fmt, Preprocess(height=size, width=size), images, folder, settings)
    model = onnx.load(halves.edge)
    quantized = quantize(model, [inputs[:4], inputs[4:]])
    forms = {"float": model, **{form: quantized.forms[form] for form in ("a", "b", "fp16")}}
    rows = []
    for form, one in forms.items():
        name = f"{backbone}-{network}-{size}-{form}.onnx"
        (folder / name).write_bytes(one.SerializeToString())
        rows.append({"backbone": backbone, "network": network, "size": size, "form": form, "file": name})
        rows[-1].update(step=fmt.step, channels=channels)
    for half in (halves.edge, halves.cloud):
        half.unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = []
    for backbone in options.backbones:
        for network in ("dense", "slim"):
            for size in options.sizes:
                rows += prepare(options.folder, backbone, network, size)
                print(f"{backbone} {network} {size}", flush=True)
    (options.folder / "models.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
