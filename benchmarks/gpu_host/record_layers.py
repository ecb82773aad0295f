"""Write down the layers of a real engine, as the tests of the inspection read them.

    python benchmarks/gpu_host/record_layers.py MODEL.onnx tests/unit/engines/layers/NAME.json [--engine tensorrt]

``tensorrt_rtx`` needs no GPU (the layers are those of its builder's log), ``tensorrt`` does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from toolkit.engines import BuildSettings, build_engine
from toolkit.engines.layers import layers_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=("tensorrt", "tensorrt_rtx"), default="tensorrt_rtx")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        engine = Path(work) / "edge.plan"
        sidecar = build_engine(options.model, engine, BuildSettings(engine=options.engine, wire_step=0.02)).sidecar
        body = json.loads(layers_path(engine).read_text(encoding="utf-8"))
    body["Recorded"] = {"module": sidecar.engine, "version": sidecar.version, "device": sidecar.device}
    options.out.write_text(json.dumps(body, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
