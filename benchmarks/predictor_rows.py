"""The published latencies that the predictor is judged on: which rows count, and why others do not.

``eligible.csv`` is frozen: it holds every published row with the verdict. ``freeze`` made it from the raw table.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks.predictor_models import classifiers, detectors, segmenters, transformers
from targets.jetson.catalogue import Module, PowerMode, find_module

WHOLE_PROCESS_MIB = 600
ELIGIBLE = Path(__file__).parent / "data" / "predictor_eligible.csv"
FIELDS = (
    "model", "input", "precision", "batch", "device", "power_mode", "gpu_mhz", "emc_mhz", "engine", "metric",
    "value", "unit", "p50_ms", "power_w", "power_scope", "software", "quality", "source",
)  # fmt: skip
ADDED = ("eligible", "reason", "graph", "module", "sms", "ghz", "gbps", "documented", "ms", "group", "memory_mib")

MODULES = {
    "Xavier NX 8GB": "xavier-nx-8gb", "Xavier NX": "xavier-nx-8gb", "AGX Orin 64GB": "agx-orin-64gb",
    "AGX Orin devkit": "agx-orin-64gb", "AGX Orin (variant not stated)": "agx-orin-64gb",
    "AGX Orin": "agx-orin-64gb",
    "Orin NX 16GB": "orin-nx-16gb", "AGX Xavier 32GB": "agx-xavier-32gb", "AGX Xavier": "agx-xavier-32gb",
    "Jetson Nano": "nano-4gb", "Orin Nano 8GB": "orin-nano-8gb", "Orin Nano": "orin-nano-8gb",
    "Orin Nano 8GB (variant not stated)": "orin-nano-8gb", "Orin Nano Super 8GB": "orin-nano-8gb",
    "Jetson TX2": "tx2-8gb", "AGX Orin 32GB": "agx-orin-32gb", "AGX Thor T5000": "thor-t5000",
    "AGX Thor": "thor-t5000",
}  # fmt: skip

LICENCES = {
    "yolo11": "defined in AGPL-3.0 code only", "yolov8": "defined in AGPL-3.0 code only",
    "yolov10": "defined in AGPL-3.0 code only", "yolov5": "defined in AGPL-3.0 code only",
    "yolov9": "original is GPL-3.0; not rebuilt", "yolov7": "original is GPL-3.0; not rebuilt",
    "fastsam": "defined in AGPL-3.0 code only", "segform": "licence forbids commercial use",
    "rtmpose": "its source switched TF32 off, which FP32 engines use unless told otherwise",
    "rtmw": "its source switched TF32 off in FP32, and the clock moved during the run (310 MHz is a mean)",
    "rf-detr": "size not stated",
}  # fmt: skip

ALIASES = {
    "movilevit_s": "mobilevit_s", "depthanythingv2 vit_s": "depth_anything_v2_s",
    "depthanythingv2 vit_b": "depth_anything_v2_b",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One eligible row.

    Attributes:
        graph: key of :func:`build`.
        sms, ghz, gbps: the state it names, or the module's highest where it names none.
        documented: clocks are stated, or locked at their highest.
        watts: at the supply of the development kit, where they were measured there.
        memory_mib: that the GPU took for the network, where a source gives it.
        group: source, for leave-one-source-out.
    """

    graph: str
    precision: str
    module: str
    sms: float
    ghz: float
    gbps: float
    documented: bool
    ms: float
    group: str
    watts: float | None
    model: str
    memory_mib: float | None


def build(key: str) -> onnx.ModelProto:
    """The graph of a key such as ``resnet50@224``."""
    name, size = key.split("@")
    return BUILDERS[name](size)


def _square(function: Callable[[int], onnx.ModelProto]) -> Callable[[str], onnx.ModelProto]:
    return lambda size: function(int(size))


def _fcn(size: str) -> onnx.ModelProto:
    width, height = (int(part) for part in size.split("x"))
    return detectors.fcn_resnet18(width, height, 21)


BUILDERS: dict[str, Callable[[str], onnx.ModelProto]] = {
    **{n: _square(lambda s, n=n: classifiers.resnet(n, s, 1000)) for n in classifiers.RESNETS},
    **{n: _square(lambda s, n=n: classifiers.vgg(n, s, 1000)) for n in classifiers.VGG},
    **{f"mixnet_{k}": _square(lambda s, k=k: classifiers.mixnet(k, s, 3)) for k in "sml"},
    **{f"yolox_{k}": _square(lambda s, k=k: detectors.yolox(k, s, 80)) for k in "ntsmlx"},
    **{f"mobilenet_v3_{k}": _square(lambda s, k=k: classifiers.mobilenet_v3(k, s, 3)) for k in ("small", "large")},
    **{f"squeezenet{v}": _square(lambda s, v=v: classifiers.squeezenet(v, s, 1000)) for v in ("1_0", "1_1")},
    "alexnet": _square(lambda s: classifiers.alexnet(s, 1000)),
    "densenet121": _square(lambda s: classifiers.densenet121(s, 1000)),
    "mnasnet1_0": _square(lambda s: classifiers.mnasnet(s, 1000)),
    "shufflenet_v2_x1_0": _square(lambda s: classifiers.shufflenet_v2(s, 1000)),
    "mobilenet_v2": _square(lambda s: classifiers.mobilenet_v2(s, 1000)),
    "ssd_mobilenet": _square(lambda s: detectors.ssd_mobilenet(s, 91)),
    "ssd_resnet34": _square(lambda s: detectors.ssd_resnet34(s, 81)),
    "retinanet": _square(lambda s: detectors.retinanet(s, 264)),
    **{f"depth_anything_v2_{k}": _square(lambda s, k=k: transformers.depth_anything_v2(k, s)) for k in "sb"},
    "vit_tiny": _square(lambda s: transformers.vit_tiny(s, 3)),
    "efficientformer_l1": _square(lambda s: transformers.efficientformer_l1(s, 3)),
    "mobilevit_s": _square(lambda s: transformers.mobilevit_s(s, 3)),
    "pidnet_s": _square(lambda s: segmenters.pidnet_s(s, 35)),
    "fcn_resnet18": _fcn,
}


def graph_key(model: str, size: str) -> str | None:
    """Key of a published model, or None when there is no graph for it."""
    name = model.lower().replace("-", "_")
    if name == "fcn_resnet18":
        match = re.match(r"(\d+)x(\d+)", size)
        return f"{name}@{match[1]}x{match[2]}" if match else None
    name = re.sub(r"^mobilenetv3", "mobilenet_v3", name)
    if name.startswith("yolox"):
        name = "yolox_" + name[-1]
    name = ALIASES.get(name, name)
    match = re.search(r"x(\d+)x\1$", size)
    return f"{name}@{match[1]}" if match and name in BUILDERS else None


def judge(row: dict[str, str]) -> tuple[str, str]:
    """("yes" or "no", reason) of a published row."""
    if "DLA" in row["engine"] and "GPU (DLA unused" not in row["engine"]:
        return "no", "runs on the DLA or on both"
    if row["batch"] != "1":
        return "no", "batch is not 1"
    if row["metric"].startswith("end_to_end") or row["metric"] == "profile_sum_mean":
        return "no", "not the latency of an engine"
    if row["precision"] not in ("FP16", "INT8", "FP32"):
        return "no", f"precision is {row['precision']}"
    key = graph_key(row["model"], row["input"])
    if key is None:
        name = row["model"].lower()
        why = next((why for prefix, why in LICENCES.items() if name.startswith(prefix)), "no public graph or size")
        return "no", why
    if row["power_mode"].startswith("MLPerf MaxQ") and not row["gpu_mhz"]:
        return "no", "custom clocks that are not stated"
    if "v2.1" in row["source"] and "Orin_TRT_MaxQ/resnet50" in row["source"]:
        return "no", "suspect: contradicts the clock in its own configuration"
    if "torch2trt" in row["source"] and row["device"] == "AGX Xavier":
        return "no", "suspect: includes Python's launches, 16-33 % above another source on the same networks"
    return "yes", ""


def state(row: dict[str, str]) -> tuple[float, float, float, bool]:
    """(SMs, GHz, GB/s, documented) of a row."""
    module = find_module(MODULES[row["device"]])
    said = row["power_mode"]
    documented = bool(row["gpu_mhz"]) or any(word in said for word in ("MaxP", "jetson_clocks", "MAX-N", "MAXN"))
    documented = documented and "assumed" not in said
    if said.startswith("MODE_15W_DESKTOP"):
        return _in_mode(module.mode("15W_DESKTOP"), module)
    mode = module.mode("MAXN_SUPER" if "Super" in row["device"] or "SUPER" in said else None)
    if mode.configuration == "standard":
        best = [m for m in module.modes if m.configuration == "standard" and m.gpu_mhz]
        mode = max(best, key=lambda m: (m.sms * (m.gpu_mhz or 0), m.emc_mhz or 0))
    ghz = float(row["gpu_mhz"] or mode.gpu_mhz or 0) / 1000
    emc = float(row["emc_mhz"] or mode.emc_mhz or 0)
    return mode.sms, ghz, emc * 2 * module.value("memory_bus_bits") / 8 / 1000, documented


def _in_mode(mode: PowerMode, module: Module) -> tuple[float, float, float, bool]:
    """State of a row that names its mode but left the clocks to the governor; its clocks may be unverified."""
    gbps = float(mode.emc_mhz or 0) * 2 * module.value("memory_bus_bits") / 8 / 1000
    return mode.sms, float(mode.gpu_mhz or 0) / 1000, gbps, False


def milliseconds(row: dict[str, str]) -> float:
    """The median where it is published, else the value; a rate of batch 1 becomes its inverse."""
    if row["p50_ms"]:
        return float(row["p50_ms"])
    return 1000 / float(row["value"]) if row["metric"] == "throughput" else float(row["value"])


def freeze(raw: Path, out: Path = ELIGIBLE) -> None:
    """Write ``eligible.csv`` from the raw table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with raw.open(encoding="utf-8") as source, out.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, [*ADDED, *FIELDS], lineterminator="\n")
        writer.writeheader()
        for row in csv.DictReader(source):
            row["source"] = re.sub(r";? ?find_string id \d+( \(.*\))?", "", row["source"]) or "secondary source"
            kept = {name: row[name] for name in FIELDS}
            verdict, reason = judge(row)
            added: dict[str, object] = {"eligible": verdict, "reason": reason}
            if verdict == "yes":
                sms, ghz, gbps, documented = state(row)
                added |= {
                    "graph": graph_key(row["model"], row["input"]), "module": MODULES[row["device"]], "sms": sms,
                    "ghz": round(ghz, 5), "gbps": round(gbps, 2), "documented": int(documented),
                    "ms": round(milliseconds(row), 5), "group": group(row["source"]),
                    "memory_mib": memory(row["notes"]),
                }  # fmt: skip
            writer.writerow({**kept, **added})


def memory(notes: str) -> str:
    """MiB of GPU memory that a note gives; on JetPack 4 that counts the whole process, and is left out."""
    found = re.search(r"GPU mem ([\d.]+) MB", notes)
    return found[1] if found and float(found[1]) < WHOLE_PROCESS_MIB else ""


def group(source: str) -> str:
    """Who published a row."""
    for name in ("mlcommons", "netspresso", "torch2trt", "jetson-inference", "trtutils"):
        if name in source.lower():
            return name
    return "other"


def family(model: str) -> str:
    """Models of one design in several sizes, and SSD or FCN with their backbones."""
    known = ("resnet", "vgg", "yolox", "mixnet", "mobilenet", "squeezenet", "depth_anything")
    return next((name for name in known if name in model), model)


def load(path: Path = ELIGIBLE) -> list[Row]:
    """The eligible rows."""
    with path.open(encoding="utf-8") as source:
        return [_row(row) for row in csv.DictReader(source) if row["eligible"] == "yes"]


def _row(row: dict[str, str]) -> Row:
    return Row(
        row["graph"], row["precision"].lower(), row["module"], float(row["sms"]), float(row["ghz"]),
        float(row["gbps"]), row["documented"] == "1", float(row["ms"]), row["group"],
        _wall_watts(row), row["graph"].split("@")[0],
        float(row["memory_mib"]) if row["memory_mib"] else None,
    )  # fmt: skip


def _wall_watts(row: dict[str, str]) -> float | None:
    """Power at the supply, as MLPerf measures it; sums of rails lack what the rails do not see."""
    measured = bool(row["power_w"]) and row["group"] == "mlcommons"
    return float(row["power_w"]) if measured else None
