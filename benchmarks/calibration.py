"""Post-training quantization side by side: ours, onnxruntime's quantize_static, and Model Optimizer.

    python -m benchmarks.calibration runs/NAME --counts 64 256 1024 --out benchmarks/results/NAME

Reads a finished ``export`` stage: same FP32 edge half, same calibration pictures (training split, balanced), same
wire for all. Every calibration runs in a process of its own, methods interleaved within each repeat. Quality is
measured on test pictures: cosine and SQNR of the decoded wire against the FP32 feature, and mAP through the
FP32 cloud half; what INT8 loses in mAP is told with its paired interval, before and after fine-tuning.
``--modelopt PYTHON`` names the interpreter of an environment with nvidia-modelopt (it also needs onnxslim,
onnx-graphsurgeon, lief, cppimport, and onnxconverter-common without its dependencies).
``python -m benchmarks.calibration_backbones`` makes the runs and does this for each.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.calibration_loss import losses
from benchmarks.calibration_run import Run
from benchmarks.calibration_table import markdown
from benchmarks.calibration_worker import FORWARD
from calibration import acceptance, coverage, lint
from calibration.agreement import fidelity
from calibration.prepare import prepare
from calibration.session import open_session, run_all
from calibration.suffix import activations_of
from toolkit.device import describe_machine

OURS = ("ours-auto", "ours-mse", "ours-minmax", "ours-entropy", "ours-percentile")
PEERS = ("ort-minmax", "ort-entropy", "ort-percentile")
MODELOPT = ("modelopt-max", "modelopt-entropy")
FIDELITY_PICTURES = 256
TIMED = 200


def main() -> None:
    options = _options()
    run = Run(options.run)
    everything = (*OURS, *PEERS, *(MODELOPT if options.modelopt else ()))
    methods = tuple(options.methods or everything)
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.calibration {shlex.join(sys.argv[1:])}",
        "machine": describe_machine(),
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "run": options.run.name,
        "threads": options.threads,
        "forward_pictures": FORWARD,
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "calibrations": [],
    }
    for network in options.networks:
        for count in options.counts:
            with tempfile.TemporaryDirectory() as folder:
                report["calibrations"] += _one_setting(run, network, count, methods, options, Path(folder))
    report["losses"] = [row for name in options.networks for row in losses(run, name, options)]
    report["latency"] = _latency(run, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(markdown(report), encoding="utf-8")
    print(options.out.with_suffix(".md").read_text(encoding="utf-8"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--networks", nargs="+", default=["dense", "slim"])
    parser.add_argument("--counts", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--methods", nargs="+", choices=(*OURS, *PEERS, *MODELOPT))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-gib", type=float, default=6.0, help="limit of one calibration")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--finetune-epochs", type=int, default=4, help="of fine-tuning; 0: none")
    parser.add_argument("--modelopt", help="interpreter of an environment with nvidia-modelopt")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _one_setting(
    run: Run, network: str, count: int, methods: tuple[str, ...], options: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    rows = run.chosen(count).tolist()
    measured: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    for repeat in range(options.repeats):
        for method in methods[repeat % len(methods) :] + methods[: repeat % len(methods)]:
            job = {
                "method": method,
                "edge": str(run.half(network, "edge")),
                "pictures": str(run.pictures),
                "rows": rows,
                "threads": options.threads,
                "memory_gib": options.memory_gib,
                "out": str(folder / f"{method}.onnx"),
            }
            python = options.modelopt if method in MODELOPT else sys.executable
            sample = _process(job, folder / "job.json", python, options.threads)
            if sample is not None:
                measured[method].append(sample)
    reference = _Reference(run, network)
    found = []
    for method, samples in measured.items():
        if len(samples) < options.repeats:
            found.append(
                {"network": network, "pictures": len(rows), "method": method, "failed": options.memory_gib}
            )
            continue
        model = onnx.load(folder / f"{method}.onnx")
        quality = reference.quality(model, ours=method in OURS)
        extra = {}
        if method == OURS[0]:
            extra["cpu_form"] = reference.quality(onnx.load(folder / f"{method}.onnx.cpu.onnx"), ours=True)
        found.append(
            {
                "network": network,
                "pictures": len(rows),
                "method": method,
                "seconds": [sample["seconds"] for sample in samples],
                "rss_peak_mib": max(sample["rss_peak_mib"] for sample in samples),
                "rss_before_mib": max(sample["rss_before_mib"] for sample in samples),
                **quality,
                **extra,
                "fp32_map": reference.map,
            }
        )
        print(json.dumps(found[-1]), file=sys.stderr)
    return found


def _process(job: dict[str, Any], path: Path, python: str, threads: int) -> dict[str, float] | None:
    """What the worker measured; None when it failed, with its last line on stderr."""
    path.write_text(json.dumps(job), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [python, "-m", "benchmarks.calibration_worker", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{job['method']} failed ({done.returncode}): {done.stderr[-500:]}", file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


class _Reference:
    """The FP32 half on the test pictures, and what a quantized one makes of them."""

    def __init__(self, run: Run, network: str) -> None:
        self._run, edge = run, run.half(network, "edge")
        self._prepared = prepare(edge)
        self._cloud = open_session(onnx.load(run.half(network, "cloud")), 0)
        self._all = run.batch(run.test)
        step = max(1, len(self._all) // FIDELITY_PICTURES)
        self._part = self._all[::step][:FIDELITY_PICTURES]
        wire = self._prepared.wire
        feature = np.concatenate(
            [
                activations_of(self._prepared, [wire.feature], self._part[i : i + 32], 0)[wire.feature]
                for i in range(0, len(self._part), 32)
            ]
        )
        self._feature = np.clip(feature, np.float32(wire.low * wire.step), np.float32(wire.high * wire.step))
        self._codes = np.rint(self._feature / np.float32(wire.step)).astype(np.int8)
        codes = run_all(open_session(self._prepared.model, 0), self._all, 64)
        self.map = run.mean_average_precision(self._cloud, codes)

    def quality(self, model: onnx.ModelProto, ours: bool) -> dict[str, Any]:
        wire = self._prepared.wire
        cpu = model.graph.name == "form_cpu"
        session = open_session(model, 0, integer_kernels=cpu)
        outputs = run_all(session, self._all, 64)
        codes = outputs if ours else self._to_codes(outputs)
        step = max(1, len(self._all) // FIDELITY_PICTURES)
        found = fidelity(codes[::step][:FIDELITY_PICTURES], self._codes, self._feature, wire.step)
        kinds = Counter(node.op_type for node in model.graph.node)
        result: dict[str, Any] = {
            "cosine": found.cosine,
            "sqnr_db": found.sqnr_db,
            "map": self._run.mean_average_precision(self._cloud, codes),
            "quantize": kinds["QuantizeLinear"],
            "dequantize": kinds["DequantizeLinear"],
        }
        if not cpu:
            verdicts = {row.judge: row.verdict for row in acceptance({"a": model})}
            result["tensorrt_rtx"] = verdicts["tensorrt-rtx"] if ours else _rtx_of_float(model)
            result["tensorrt8_errors"] = sum(item.severity == "error" for item in lint(model, "tensorrt8"))
            result["efficiency_findings"] = dict(Counter(item.rule for item in lint(model, "efficiency")))
            result["int8_coverage"] = coverage(model).share
        return result

    def _to_codes(self, feature: np.ndarray) -> np.ndarray:
        wire = self._prepared.wire
        return np.clip(np.rint(feature / np.float32(wire.step)), wire.low, wire.high).astype(np.int8)


def _rtx_of_float(model: onnx.ModelProto) -> str:
    """A peer's network ends in a float feature, which is not its fault."""
    [row] = [row for row in acceptance({"a": model}) if row.judge == "tensorrt-rtx"]
    return "accepted" if row.verdict == "refused" and row.detail.startswith("the wire is") else row.verdict


def _latency(run: Run, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The dense FP32 half and the forms of ours at batch 1, interleaved, in ONNX Runtime."""
    from calibration import CalibrationSettings, quantize

    picture = run.batch(run.test[:1])
    rows = []
    for threads in sorted({1, options.threads}):
        sessions = {}
        for network in options.networks:
            edge = run.half(network, "edge")
            result = quantize(edge, [run.batch(run.chosen(64))], CalibrationSettings(threads=options.threads))
            sessions[f"{network} fp32"] = open_session(onnx.load(edge), threads)
            sessions[f"{network} int8 cpu"] = open_session(result.forms["cpu"], threads)
            sessions[f"{network} int8 a"] = open_session(result.forms["a"], threads)
        samples: dict[str, list[float]] = {name: [] for name in sessions}
        for index in range(TIMED + 20):
            for name, session in sessions.items():
                started = time.perf_counter()
                session.run(None, {"picture": picture})
                if index >= 20:
                    samples[name].append((time.perf_counter() - started) * 1e3)
        dense = statistics.median(samples["dense fp32"]) if "dense fp32" in samples else None
        for name, values in samples.items():
            middle = statistics.median(values)
            ratio = dense / middle if dense else None
            p90 = sorted(values)[int(0.9 * len(values))]
            rows.append(
                {"threads": threads, "variant": name, "p50_ms": middle, "p90_ms": p90, "times_faster": ratio}
            )
    return rows


if __name__ == "__main__":
    main()
