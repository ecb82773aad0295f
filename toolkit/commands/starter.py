"""A commented configuration for a device and a data set."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from targets.jetson.catalogue import find_module
from targets.jetson.explain import Explanation, explain

DataKind = Literal["fleet", "two_camera", "veri776", "vehicleid", "veriwild"]
KINDS: tuple[DataKind, ...] = get_args(DataKind)
LARGE = ("veri776", "vehicleid", "veriwild")
TEST_SIZES = {"vehicleid": (800, 1600, 2400), "veriwild": (3000, 5000, 10000)}


@dataclass(frozen=True)
class Starter:
    """What a configuration is written for.

    Attributes:
        name: of the run.
        data: kind of the data set.
        root: its folder; empty lets a fleet lie beside its run.
        device: key of a Jetson module; empty for a host alone.
        size: side of the network's input in pixels.
        backbone, cut: of the network.
        found: what was found in ``root``, for people.
        has_fold: whether a two-camera folder brings its own test list, ``val.txt``.
    """

    name: str
    data: DataKind
    root: Path | None
    device: str
    size: int
    backbone: str
    cut: str
    found: str = ""
    has_fold: bool = True

    def text(self) -> str:
        """The YAML text."""
        module = explain(find_module(self.device)) if self.device else None
        parts = [
            *_head(self, module),
            "",
            f"name: {self.name}",
            "seed: 0                           # decides every random choice: the same seed repeats the run",
            "",
            *_data(self),
            "",
            *_network(self),
            "",
            *_training(self.data in LARGE),
            "",
            *_slim(module),
            "",
            *_attack(),
            "",
            *_report(self.data == "fleet"),
            "",
            *_check(),
        ]
        return "\n".join(parts) + "\n"


def _head(starter: Starter, module: Explanation | None) -> list[str]:
    lines = [
        "# A run of PATROL Edge: train -> slim -> export -> quantize -> build -> profile -> attack -> evaluate",
        "# -> report -> check. Start it, and go on after an interruption, with: patrol-edge run THIS_FILE",
        "# What a value may be: docs, page Settings. A misspelt key is refused with the nearest known one.",
    ]
    if module is None:
        return lines
    device = find_module(module.key)
    lines += [
        "#",
        f"# Device: {device.name}, compute capability {'.'.join(map(str, device.compute_capability))}.",
        *_comment(f"INT8: {module.int8}."),
        *_comment(f"DLA: {module.dla}."),
        *_comment(f"TensorRT: {module.tensorrt}."),
        *(
            f"# TensorRT {versions} takes quantize/edge.{form}.onnx of the run folder."
            for form, versions in _forms(module).items()
        ),
        "# An engine is built on the device itself; what is measured on this host says nothing about it.",
    ]
    return lines


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 105, initial_indent="# ", subsequent_indent="#   ")


def _forms(module: Explanation) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for version, form in module.forms.items():
        found.setdefault(form, []).append(".".join(version.split(".")[:2]))
    return {form: _range(list(dict.fromkeys(versions))) for form, versions in found.items()}


def _range(versions: Sequence[str]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"


def _data(starter: Starter) -> list[str]:
    lines = ["data:", f"  kind: {starter.data}"]
    if starter.root is not None:
        found = f"    # {starter.found}" if starter.found else ""
        lines.append(f"  root: {json.dumps(str(starter.root), ensure_ascii=False)}{found}")
    if starter.data == "fleet":
        lines += [
            "  fleet:                          # synthetic vehicles with plates and occupants, rendered once",
            f"    size: {max(starter.size, 64):<4}                    # side of the pictures in pixels, 64 to 256",
            "    identities_train: 80",
            "    identities_test: 40",
            "    pictures_per_identity: 10",
        ]
    elif starter.data == "two_camera":
        fold = "val" if starter.has_fold else "0"
        lines.append(
            f"  test_fold: {fold:<4}                 # val: the vehicles of val.txt; 0 to 4: one of five folds"
        )
    elif starter.data in TEST_SIZES:
        sizes = TEST_SIZES[starter.data]
        choice = ", ".join(map(str, sizes))
        lines.append(f"  test_identities: {sizes[0]:<5}          # the test list to use: {choice}")
    if starter.data != "fleet":
        lines.append("  on_error: refuse                # skip: leave unreadable pictures out and count them")
    return lines


def _network(starter: Starter) -> list[str]:
    return [
        f"picture: {{height: {starter.size}, width: {starter.size}}}  # what the network sees, pixels",
        "",
        "model:",
        f"  backbone: {starter.backbone}",
        f"  cut: {starter.cut:<10}                 # where the edge half ends; deeper hides more and costs more",
        "  last_stride: 1                  # 2: faster, a little less exact",
        "",
        "wire: {bits: 8}                   # of the codes that are sent, 2 to 8",
    ]


def _training(large: bool) -> list[str]:
    epochs, patrol = (60, 40) if large else (50, 30)
    return [
        "train:                            # the dense network, without any defence: the row to compare with",
        f"  epochs: {epochs}",
        "  device: auto                    # cuda where there is one",
        "",
        "patrol:                           # the same network with masks and the privacy terms",
        f"  train: {{epochs: {patrol}, learning_rate: 0.001}}",
        "  masks:",
        "    ratio: 0.5                    # part of the edge half's multiply-adds that may stay",
        "  lipschitz: {sigma: 0.05}        # null turns the term off",
        "  adversary: {beta: 2.0}          # weight of fooling the reconstruction; null turns it off",
    ]


def _slim(module: Explanation | None) -> list[str]:
    int8 = module is None or module.runs_int8
    why = "multiples of 16 channels, which INT8 tensor cores want" if int8 else "multiples of 8 channels, for FP16"
    return [
        "slim:",
        "  plan:",
        f"    precision: {'int8' if int8 else 'fp16'}               # of the deployed engine: {why}",
        "    align: auto                   # 32, 16, 8 or 1 instead; fewer channels are not faster by themselves",
        "  finetune:",
        "    train: {epochs: 10, learning_rate: 0.0005}",
    ]


def _attack() -> list[str]:
    return [
        "attack:",
        "  preset: screening               # a look, marked as not trusted. headline: trained until it converges,",
        "                                  # which takes several times as long and is what a privacy claim needs",
    ]


def _report(synthetic: bool) -> list[str]:
    if synthetic:
        return ["report: {publish: false}          # true would leave real pictures out; a fleet has none"]
    return ["report: {publish: false}          # true leaves the real pictures out of the report"]


def _check() -> list[str]:
    return [
        "check:                            # the gate: exit code 1 when one of these does not hold",
        "  limits:",
        "    - {metric: slim.deviation, max: 1.0e-5}",
        "    - {metric: reid.map, variant: slim-int8-*, relative_to: dense-fp32-*, drop_max: 0.02}",
        "    - {metric: latency.p50, variant: slim-int8-cpu-*, relative_to: slim-fp32-*, ratio_max: 1.0}",
        "    # With `preset: headline` (an attacker that is not trusted fails this limit):",
        "    # - {metric: privacy.ssim_normalized, variant: slim-int8-*, max: 0.3}",
        "    # On a GPU host with TensorRT: INT8 that is slower than FP16 is a failure.",
        "    # - {metric: latency.p50, variant: slim-int8-*-tensorrt, relative_to: slim-fp16-*, ratio_max: 1.0}",
    ]
