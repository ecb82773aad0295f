"""Engine benchmarks on a GPU host: ``python3 -m benchmarks.gpu_host.bench build/gpu-bench OUT``.

For every model of benchmarks.gpu_host.prepare and batches 1 and 16: build, profile interleaved, and compare

- our GPU compute p50 with a bare loop of CUDA events around the same engine, and with trtexec where there is one;
- slim INT8 with dense FP16 and dense FP32 (TF32 off), as ratios with intervals;
- a build with a warm timing cache with a cold one;
- with ``--emulate MODULE`` the same inside a partition, as *emulated* rows.

Needs the base install, numpy and TensorRT; no torch, no onnx. Writes bench.json, bench.md and the layers of every
engine after each model, so that a killed run keeps what it had.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu_host.page import write_page
from toolkit.engines import BuildSettings, build_engine, form_for, open_engine
from toolkit.engines.driver import require_device
from toolkit.engines.layers import layers_path, lint_layers, read_graph
from toolkit.engines.trt_library import load
from toolkit.profiling import ProfileSettings, compare, engine_layers, percentile, profile
from toolkit.profiling.pair import noise

logger = logging.getLogger("bench")
Row = dict[str, Any]
BATCHES = (1, 16)
ENGINES = ("tensorrt", "tensorrt_rtx", "onnxruntime")
BARE = 200
SETTINGS = ProfileSettings(duration_s=1.0, rounds=2000, energy_s=1.0, warmup_limit_s=2.0)


def variants(rows: list[Row], kind: Any) -> Iterator[tuple[str, str, Row]]:
    """(name, precision, row) for what this TensorRT builds."""
    weak = form_for(kind) == "a"
    for row in rows:
        if row["form"] == "float":
            yield f"{row['network']} fp32", "fp32", row
            if weak:
                yield f"{row['network']} fp16", "fp16", row
        elif row["form"] == "fp16" and not weak:
            yield f"{row['network']} fp16", "fp16", row
        elif row["form"] == form_for(kind):
            yield f"{row['network']} int8", "int8", row


def measure(folder: Path, rows: list[Row], out: Path, options: argparse.Namespace) -> Row:
    """One backbone at one size: every variant in one interleaved run for each batch."""
    body: Row = {"built": [], "latency": [], "ratios": [], "failed": []}
    engines, opened = {}, {}
    for name, precision, row in variants(rows, options.engine):
        path = out / "engines" / f"{Path(row['file']).stem}-{precision}{options.suffix}.plan"
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = BuildSettings(
            engine=options.engine,
            precision=precision,  # type: ignore[arg-type]
            tactics=options.tactics,
            max_batch=max(BATCHES),
            typical_batch=options.typical,
            wire_step=row["step"],
            emulate=options.emulate,
        )
        try:
            built = build_engine(folder / row["file"], path, settings)
            opened[name] = open_engine(built.path)
            engines[name] = built
        except Exception as error:
            body["failed"].append({"variant": name, "file": row["file"], "why": str(error)[:600]})
            logger.warning("%s: %s", row["file"], error)
            continue
        facts = built.sidecar.model_dump(mode="json", include=FACTS)
        body["built"].append({"variant": name, "file": row["file"], **facts, "findings": _findings(path)})
    try:
        for batch in BATCHES:
            body["latency"] += _profiles(opened, batch, body["ratios"], options.seconds)
        for name, engine in opened.items():
            body["latency"] += _against_bare(name, engine, engines[name].path)
    finally:
        for engine in opened.values():
            engine.close()
    body["layers"] = _layers(engines)
    return body


FACTS = {
    "build_s",
    "engine_bytes",
    "build_peak_bytes",
    "build_device_mib",
    "wire_output",
    "typing",
    "emulated",
    "ignored",
}


def _findings(path: Path) -> list[Row]:
    if not layers_path(path).is_file():
        return []
    return [finding.to_dict() for finding in lint_layers(read_graph(path)) if finding.severity == "warning"]


def _profiles(opened: Row, batch: int, ratios: list[Row], seconds: float) -> list[Row]:
    rows = []
    for graph in ("off", "on"):
        energy = SETTINGS.energy_s if graph == "off" else 0
        settings = SETTINGS.model_copy(update={"graph": graph, "energy_s": energy, "duration_s": seconds})
        usable = {name: engine for name, engine in opened.items() if batch <= _largest(engine)}
        if not usable:
            return rows
        inputs = {name: noise(engine, batch) for name, engine in usable.items()}
        found = profile(usable, inputs, settings)
        for name, one in found.items():
            phases = {key: float(percentile(values, 50)) for key, values in one.phases_ms.items()}
            row = {
                "variant": name,
                "batch": batch,
                "graph": graph,
                "protocol": one.protocol,
                "machine": one.machine,
            }
            row.update(p50=one.p50, interval=one.interval(50), p99=one.p99, settled=one.settled, phases=phases)
            row["clocks"] = one.clocks.to_dict() if one.clocks is not None else None
            row["joules"] = one.energy.joules if one.energy is not None else None
            rows.append(row)
        for a in ("slim int8", "dense int8", "slim fp16", "dense fp16"):
            for b in ("dense fp32", "dense fp16"):
                if a != b and a in found and b in found:
                    ratio = compare(found[b], found[a])
                    body = {"faster": a, "than": b, "batch": batch, "graph": graph, "times": ratio.value}
                    ratios.append({**body, "interval": list(ratio.interval)})
    return rows


def _largest(engine: Any) -> int:
    largest = engine.inputs[0].largest
    return int(largest[0]) if largest is not None else max(BATCHES)


def _against_bare(name: str, engine: Any, path: Path) -> list[Row]:
    """The profiler's compute p50, CUDA events around nothing but the enqueue, and trtexec."""
    rows = []
    for batch in BATCHES:
        if batch > _largest(engine):
            continue
        binding = engine.bind(noise(engine, batch))
        if not hasattr(binding, "phases_ms"):
            continue  # a rehearsal on the CPU
        for _ in range(BARE // 4):
            binding.run()
        ours, bare = [], []
        for _ in range(BARE):
            ours.append(binding.phases_ms()["compute"])
            bare.append(binding.gpu_time_ms())
        row = {
            "variant": name,
            "batch": batch,
            "compute": sorted(ours)[BARE // 2],
            "bare": sorted(bare)[BARE // 2],
        }
        row["trtexec"] = _trtexec(path, engine, batch)
        rows.append(row)
    return rows


def _trtexec(path: Path, engine: Any, batch: int) -> float | None:
    """Median GPU compute time by trtexec; None where it is not installed or does not take the plan."""
    tool = shutil.which("trtexec")
    if tool is None:
        return None
    spec = engine.inputs[0]
    shape = "x".join(str(batch if side == -1 else side) for side in spec.shape)
    command = [tool, f"--loadEngine={path}", f"--shapes={spec.name}:{shape}", "--duration=3", "--useSpinWait"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = re.search(r"GPU Compute Time:.*?median = ([\d.]+) ms", done.stdout)
    return float(found.group(1)) if found else None


def _layers(engines: Row) -> Row:
    """Time per layer, in engines opened for that alone: the profiler stays with them."""
    found = {}
    for name, built in engines.items():
        engine: Any = open_engine(built.path)
        try:
            if not hasattr(engine, "layer_times"):
                continue
            times = engine_layers(engine, noise(engine, 1))
            rows = sorted(times, key=lambda one: -one.median_ms)
            found[name] = [[one.module or one.node, one.operator, one.median_ms, one.share] for one in rows[:12]]
        finally:
            engine.close()
    return found


def timing_cache(folder: Path, rows: list[Row], out: Path, options: argparse.Namespace) -> Row:
    """Seconds of a build with a cold and with a warm timing cache."""
    row = next(item for item in rows if item["form"] == "float" and item["network"] == "dense")
    cache = out / "timing.bin"
    cache.unlink(missing_ok=True)
    settings = BuildSettings(
        engine=options.engine,
        precision="fp16",
        tactics=options.tactics,
        wire_step=row["step"],
        timing_cache=str(cache),
    )
    times = [build_engine(folder / row["file"], out / "cache.plan", settings).sidecar.build_s for _ in range(2)]
    return {"file": row["file"], "cold_s": times[0], "warm_s": times[1], "times": times[0] / times[1]}


def host(kind: str) -> Row:
    """What the numbers are taken on. With ONNX Runtime it is a rehearsal of this script on a CPU."""
    if kind == "onnxruntime":
        return {"gpu": "a CPU: a rehearsal", "driver": "none", "tensorrt": "none"}
    gpu = require_device("for the benchmarks")
    return {"gpu": gpu.title, "driver": gpu.driver, "tensorrt": load(kind).__version__}  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=ENGINES, default="tensorrt")
    parser.add_argument("--tactics", choices=("default", "no_external"), default="no_external")
    parser.add_argument("--typical", type=int, default=16, help="batch that engines are tuned for")
    parser.add_argument("--seconds", type=float, default=1.0, help="of sampling, for each engine, batch and graph")
    parser.add_argument("--emulate", help="a Jetson module, e.g. orin-nano-8gb")
    parser.add_argument("--only", nargs="*", default=[], help="backbone-size, e.g. resnet50-256")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    options.suffix = f"-{options.emulate}" if options.emulate else ""
    if options.emulate:
        options.typical = min(options.typical, 8)
    options.out.mkdir(parents=True, exist_ok=True)
    table = json.loads((options.models / "models.json").read_text(encoding="utf-8"))
    body: Row = host(options.engine)
    body.update(tactics=options.tactics, typical=options.typical, emulate=options.emulate, models={})
    name = f"bench{options.suffix}"
    previous = options.out / f"{name}.json"
    if previous.is_file():  # an earlier call with other models
        body["models"] = json.loads(previous.read_text(encoding="utf-8"))["models"]
    for key in sorted({f"{row['backbone']}-{row['size']}" for row in table}, reverse=True):
        if options.only and key not in options.only:
            continue
        rows = [row for row in table if f"{row['backbone']}-{row['size']}" == key]
        started = time.monotonic()
        try:
            body["models"][key] = measure(options.models, rows, options.out, options)
            if "cache" not in body and not options.emulate:
                body["cache"] = timing_cache(options.models, rows, options.out, options)
        except Exception:
            body["models"].setdefault(key, {})["error"] = traceback.format_exc()[-2000:]
            logger.exception("%s failed", key)
        logger.info("%s took %.0f s", key, time.monotonic() - started)
        (options.out / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        write_page(body, options.out / f"{name}.md")


if __name__ == "__main__":
    main()
