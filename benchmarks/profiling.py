"""What measuring costs: reported medians against a bare ONNX Runtime loop, and the profiler's own memory.

    python -m benchmarks.profiling [--rounds 400] [--out benchmarks/results]

Two comparisons for each network, both interleaved in one run with the profiler's own sampling:

- *same session*: the bare loop calls ``run_with_iobinding`` of the very session that the engine has. What differs
  is the toolkit's code around it.
- *own session*: the bare loop has a session of its own, as somebody without the toolkit would. The memory of two
  sessions lies elsewhere, which alone moves a median; so several pairs are opened, with either one first, and the
  ratios' geometric mean is what counts.

Calls alternate one by one (burst 1), so that what other programs do to the machine is done to both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.device import describe_machine

PAIRS = 6
LIMIT_RATIO, LIMIT_MEMORY = 0.02, 50 << 20


class Bare:
    """A loop around ONNX Runtime as one writes it without the toolkit."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def bind(self, inputs: Any) -> Bare:
        """Bind once."""
        self.io = self.session.io_binding()
        self.inputs = {name: np.array(value, order="C") for name, value in inputs.items()}
        for name, value in self.inputs.items():
            self.io.bind_cpu_input(name, value)
        self.values = {}
        names = [output.name for output in self.session.get_outputs()]
        for name, value in zip(names, self.session.run(None, self.inputs), strict=True):
            self.values[name] = value
            self.io.bind_output(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        session, io = self.session, self.io
        self.run = lambda: session.run_with_iobinding(io)
        return self

    def describe(self) -> dict[str, Any]:
        """As an engine does."""
        return {"device": "CPU", "machine": "bare"}


def networks(folder: Path) -> dict[str, Path]:
    """Edge halves of ResNet-18, from small to large, in FP32, and one in integers."""
    import onnx

    from calibration import quantize
    from tests.gpu.prepare import BATCH, pictures
    from toolkit.export import ExportSettings, export_halves
    from toolkit.models.architecture import Architecture
    from toolkit.models.network import build_network
    from toolkit.preprocess import Preprocess, to_input
    from toolkit.wire import WireFormat

    found = {}
    for name, backbone, cut, side, channels, size in (
        ("ResNet-18 to layer1, 64 px", "resnet18", "layer1", 64, 64, 16),
        ("ResNet-18 to layer2, 64 px", "resnet18", "layer2", 64, 128, 8),
    ):
        net = build_network(Architecture(backbone, cut, 16), seed=0).eval()
        fmt = WireFormat(channels, size, size, 8, 0.02, signed=False)
        images = pictures(side)[:8]
        target = folder / f"{cut}-{side}"
        target.mkdir()
        settings = ExportSettings(simplify="off")
        exported = export_halves(net, fmt, Preprocess(height=side, width=side), images, target, settings)
        found[f"{name}, FP32"] = exported.edge
        if cut == "layer2":
            inputs = to_input(pictures(side))
            batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
            integers = target / "int8.onnx"
            onnx.save(quantize(onnx.load(exported.edge), batches).forms["cpu"], integers)
            found[f"{name}, INT8"] = integers
    return found


def measure(path: Path, rounds: int, own: bool, bare_first: bool) -> tuple[Any, Any]:
    """Samples in milliseconds, of ours and of the bare loop, taken in turns."""
    from toolkit.engines import BuildSettings, build_engine, open_engine
    from toolkit.engines.ort import open_session
    from toolkit.engines.settings import RunSettings
    from toolkit.profiling import ProfileSettings, profile
    from toolkit.profiling.pair import noise

    with tempfile.TemporaryDirectory() as work:
        built = build_engine(path, Path(work) / "edge.onnx", BuildSettings()).path
        first = open_session(path.read_bytes(), RunSettings()) if own and bare_first else None
        engine: Any = open_engine(built)
        session = first or (open_session(path.read_bytes(), RunSettings()) if own else engine.session)
        sides = {"ours": engine, "bare": Bare(session)}
        order = ("bare", "ours") if bare_first else ("ours", "bare")
        settings = ProfileSettings(rounds=rounds, min_rounds=rounds, burst=1, bootstrap=100, energy_s=0)
        found = profile({name: sides[name] for name in order}, noise(engine, 1), settings)
        engine.close()
    return found["ours"].samples_ms, found["bare"].samples_ms


def summary(pairs: list[tuple[Any, Any]]) -> tuple[float, float, float]:
    """p50 ours / p50 bare over the samples of all pairs, and the smallest and largest of one pair."""
    from toolkit.profiling import percentile

    single = [float(percentile(ours, 50) / percentile(bare, 50)) for ours, bare in pairs]
    ours, bare = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return float(percentile(ours, 50) / percentile(bare, 50)), min(single), max(single)


def own_memory(path: Path) -> dict[str, int]:
    """What profiling adds to a process that only runs the model, by the kernel's peak counter."""
    script = """
import sys, gc
sys.path.insert(0, ".")
from pathlib import Path
import numpy as np
import onnxruntime
from toolkit.device import memory_status, reset_peak
model = Path(sys.argv[1]).read_bytes()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
shape = [1 if not isinstance(side, int) else side for side in session.get_inputs()[0].shape]
inputs = {session.get_inputs()[0].name: np.zeros(shape, np.float32)}
for _ in range(20):
    session.run(None, inputs)
reset_peak()
before = memory_status("VmRSS")
from toolkit.profiling import ProfileSettings, profile
class Session:
    def bind(self, inputs):
        return self
    def run(self):
        session.run(None, inputs)
    def describe(self):
        return {"device": "CPU", "machine": "m"}
loaded = memory_status("VmHWM")
settings = ProfileSettings(duration_s=5, rounds=1_000_000, energy_s=0)
found = profile({"a": Session(), "b": Session()}, inputs, settings)
found["a"].metrics()
import json
whole = memory_status("VmHWM") - before
print(json.dumps({"import": loaded - before, "whole": whole, "samples": 2 * found["a"].samples_ms.size}))
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    body: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return body


def report(rows: list[dict[str, Any]], memory: dict[str, int], command: str) -> str:
    """The page."""
    import onnxruntime

    versions = f"Python {sys.version.split()[0]}, ONNX Runtime {onnxruntime.__version__}, numpy {np.__version__}"
    lines = [
        "# What measuring costs\n",
        f"    {command}\n",
        f"{describe_machine()}; {versions}; one thread; other programs ran on the machine.\n",
        "The median that `profile` reports for an engine, divided by that of a bare loop around ONNX Runtime in "
        "the same interleaved run (calls alternate one by one). *Same session*: the toolkit's code alone. *Own "
        f"session*: the bare loop opens the model itself. Over the samples of {PAIRS} pairs, either one opened "
        "and called first in turns; in brackets the smallest and largest of a pair.\n",
        "| network | p50, ms | same session | own session | samples of each |",
        "|---|---:|---|---|---:|",
    ]
    for row in rows:
        cells = [
            f"{row[kind]:.4f} [{row[f'{kind}_low']:.4f}, {row[f'{kind}_high']:.4f}]" for kind in ("same", "own")
        ]
        lines.append(f"| {row['name']} | {row['p50']:.3f} | {cells[0]} | {cells[1]} | {row['samples']} |")
    worst = max(abs(row[kind] - 1) for row in rows for kind in ("same", "own"))
    verdict = "held" if worst <= LIMIT_RATIO else "missed"
    held = "held" if memory["whole"] <= LIMIT_MEMORY else "missed"
    lines += [
        f"\nWithin {LIMIT_RATIO:.0%} of the bare loop: {verdict} (largest deviation {worst:.2%}).\n",
        f"The profiler's own memory, above a process that only runs the model: {memory['whole'] / 2**20:.1f} MiB "
        f"at most ({memory['import'] / 2**20:.1f} MiB of it for importing it) over {memory['samples']} samples, "
        f"percentiles and intervals included; the limit is {LIMIT_MEMORY >> 20} MiB: {held}.\n",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write ``profiling.md`` and ``profiling.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="of each pair: one call of either side")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        models = networks(Path(work))
        for name, path in models.items():
            order = [bool(index % 2) for index in range(PAIRS)]
            same = [measure(path, options.rounds, False, first) for first in order]
            own = [measure(path, options.rounds, True, first) for first in order]
            row: dict[str, Any] = {"name": name, "samples": PAIRS * options.rounds}
            row["p50"] = float(np.median(np.concatenate([ours for ours, _ in same])))
            row["same"], row["same_low"], row["same_high"] = summary(same)
            row["own"], row["own_low"], row["own_high"] = summary(own)
            rows.append(row)
            print(row, flush=True)
        memory = own_memory(next(iter(models.values())))
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.profiling --rounds {options.rounds}"
    (options.out / "profiling.md").write_text(report(rows, memory, command), encoding="utf-8")
    body = {"machine": describe_machine(), "command": command, "rows": rows, "memory": memory}
    (options.out / "profiling.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
