"""How much private noise a finished run's INT8 edge half needs: truth and certificate over noise and frames.

    python -m benchmarks.private_noise runs/NAME --noise 0.5 1.5 4 12 --scenes 12 --draws 64

The run must be on the synthetic fleet and sent without noise. Its INT8 network for ONNX Runtime gets each noise
inside, scenes of test vehicles are rendered with one content changed, and every variant is sent ``draws`` times
through the real engine. Prints a Markdown table; stops where truth <= certificate does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from toolkit.datasets.fleet import FleetSettings
from toolkit.device import describe_machine
from toolkit.engines import build_engine
from toolkit.engines.settings import BuildSettings
from toolkit.export.private_noise import attach_private_noise
from toolkit.preprocess import Preprocess
from toolkit.privacy.counterfactuals import CONTENTS, counterfactual_pictures
from toolkit.privacy.sandwich import NoisyWire, Sandwich, measure_sandwich
from toolkit.runs import RunFolder
from toolkit.stages.build import Encoder
from toolkit.wire import WireFormat

HEAD = (
    "| noise, steps | content | scenes | frames | best guess on the codes (truth) | certificate | chance |\n"
    "|---:|---|---:|---:|---|---:|---:|\n"
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.5, 1.5, 4.0, 12.0])
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--draws", type=int, default=64, help="transmissions of every variant, a multiple of 16")
    options = parser.parse_args()
    run = RunFolder.read(options.run)
    data = run.manifest.settings["data"]
    if data["kind"] != "fleet" or run.manifest.settings["wire"].get("noise"):
        parser.error("the run must be on the synthetic fleet, and without wire.noise")
    preprocess = Preprocess.load(run.folder("data"))
    fleet = FleetSettings.model_validate(data["fleet"])
    scenes = {name: counterfactual_pictures(name, fleet, preprocess, options.scenes) for name in CONTENTS}
    sys.stdout.write(f"{describe_machine()}\n\n{HEAD}")
    for noise in options.noise:
        for content, pictures in scenes.items():
            for found in measured(run, content, pictures, noise, options.draws) if pictures else ():
                found.check()
                sys.stdout.write(row(noise, found))
                sys.stdout.flush()


def measured(
    run: RunFolder, content: str, pictures: list[np.ndarray], noise: float, draws: int
) -> Iterator[Sandwich]:
    """The sandwiches of one content with one noise."""
    final = onnx.load(str(run.path("quantize", "edge.cpu.onnx")))
    network = "slim" if run.has("export", "slim") else "dense"
    fmt = WireFormat.from_json(run.path("export", network, "wire.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        model, engine = Path(scratch) / "edge.cpu.onnx", Path(scratch) / "edge.onnx"
        onnx.save(attach_private_noise(final, fmt, noise), str(model))
        build_engine(model, engine, BuildSettings(precision="int8"))
        with Encoder.open(engine, 1, fmt.step, np.random.default_rng(0)) as encoder:
            wire = NoisyWire(encoder.signal, encoder, fmt, noise)
            yield from measure_sandwich(content, pictures, wire, draws=draws)


def row(noise: float, found: Sandwich) -> str:
    """One line of the table."""
    truth, bound = found.truth, found.certificate
    return (
        f"| {noise:g} | {bound.content} | {bound.scenes} | {found.frames} | {truth.value:.3f} "
        f"({truth.low:.3f} to {truth.high:.3f}) | {bound.accuracy:.3f} | {bound.chance:.3f} |\n"
    )


if __name__ == "__main__":
    main()
