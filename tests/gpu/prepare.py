"""Write the models and reference codes that the GPU tests compare with: ``python -m tests.gpu.prepare FOLDER``.

Needs the host extra (torch, onnx, onnxruntime). The reference of every form is ONNX Runtime's output of the
same file, on pictures of the synthetic fleet.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch

from calibration import quantize
from tests.gpu.common import NOISE, PRIVATE
from toolkit.datasets.fleet import FleetSettings, draw_scene, render
from toolkit.export import ExportSettings, export_halves
from toolkit.export.parity import in_batches, runner
from toolkit.export.private_noise import attach_private_noise
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.preprocess import Preprocess, to_input
from toolkit.wire import WireFormat, choose_step

PICTURES, BATCH, SIZE = 64, 8, 64


def pictures(size: int = SIZE) -> np.ndarray:
    """uint8 (N, size, size, 3) of the fleet."""
    fleet = FleetSettings()
    numbers = [(index // 2, index % 2, index % 4) for index in range(PICTURES)]
    scenes = [draw_scene(fleet, identity, picture, camera) for identity, picture, camera in numbers]
    return np.stack([render(scene, size).picture for scene in scenes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    images = pictures()
    inputs = to_input(images)
    net = build_network(Architecture("resnet18", "layer2", 16), seed=0).eval()
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(inputs[:16])).numpy()
    channels, height, width = feature.shape[1:]
    fmt = WireFormat(channels, height, width, 8, choose_step(feature, 8, signed=False), signed=False)
    preprocess = Preprocess(height=SIZE, width=SIZE)
    exported = export_halves(net, fmt, preprocess, images[:16], folder, ExportSettings(simplify="off"))
    batches = [inputs[start : start + BATCH] for start in range(0, PICTURES, BATCH)]
    files = {"float": exported.edge.read_bytes()}
    for form, model in quantize(onnx.load(exported.edge), batches).forms.items():
        files[form] = model.SerializeToString()
    for half in (exported.edge, exported.cloud):
        half.unlink()
    table = {}
    for name, data in files.items():
        (folder / f"{name}.onnx").write_bytes(data)
        codes = in_batches(runner(onnx.load_from_string(data)), inputs[:16], BATCH)
        np.savez(folder / f"{name}.npz", picture=inputs[:16], wire=codes)
        table[name] = {"step": fmt.step, "high": fmt.high}
        noisy = attach_private_noise(onnx.load_from_string(data), fmt, NOISE)
        (folder / f"{PRIVATE}{name}.onnx").write_bytes(noisy.SerializeToString())
    (folder / "models.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{len(table)} models in {folder}")


if __name__ == "__main__":
    main()
