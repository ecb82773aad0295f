"""What this machine can do, what is missing, and how to install it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.device import cpu_flags, cpu_name, usable_cores

State = Literal["ok", "absent", "warning"]

HOST_PACKAGES = (
    ("torch", "torch", "training, slimming, attacks"),
    ("torch-pruning", "torch_pruning", "slimming"),
    ("onnx", "onnx", "export, quantization"),
    ("onnxsim", "onnxsim", "simplification"),
    ("torchmetrics", "torchmetrics", "similarity metrics"),
    ("matplotlib", "matplotlib", "report"),
    ("jinja2", "jinja2", "report"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    state: State
    detail: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at this machine. Nothing is imported that could crash without a driver."""
    return [*_machine(), *_packages(), *_gpu(), _jetson()]


def _machine() -> list[Finding]:
    flags = cpu_flags()
    known = [
        name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp") if name in flags
    ]
    memory = _memory_gib()
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    return [
        Finding("Python", "ok", sys.version.split()[0]),
        Finding("CPU", "ok", f"{cpu_name()}, {usable_cores()} cores"),
        Finding(
            "CPU features",
            "ok" if {"avx512_vnni", "avx_vnni", "asimddp"} & flags else "warning",
            " ".join(known) or "none of those that matter",
            "without VNNI or dot-product instructions INT8 on this CPU is slow; TensorRT is not affected",
        ),
        Finding("memory", "ok", f"{memory:.1f} GiB" if memory else "unknown"),
        Finding(
            "disk",
            "ok" if free > 2 else "warning",
            f"{free:.1f} GiB free here",
            "a run needs up to 2 GiB",
        ),
        Finding(
            "OMP_WAIT_POLICY",
            "ok" if policy.upper() == "PASSIVE" else "warning",
            policy or "not set",
            "export OMP_WAIT_POLICY=PASSIVE before your own scripts; patrol-edge sets it for itself",
        ),
    ]


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return 0.0


def _packages() -> list[Finding]:
    findings = []
    for package, module, purpose in HOST_PACKAGES:
        if importlib.util.find_spec(module) is None:
            findings.append(Finding(package, "absent", purpose, "pip install 'patrol-edge[host]'"))
        else:
            findings.append(Finding(package, "ok", f"{_version(package)} ({purpose})"))
    return findings


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def _gpu() -> list[Finding]:
    from toolkit.engines import probe

    findings = []
    for status in probe():
        can = (("builds", status.can_build), ("runs", status.can_run))
        abilities = " and ".join(word for word, able in can if able)
        state: State = "ok" if status.can_run else ("warning" if status.can_build else "absent")
        detail = f"{status.version or 'not usable'}{f', {abilities} here' if abilities else ''}"
        findings.append(Finding(f"engine {status.engine}", state, detail, status.note))
    return findings


def _jetson() -> Finding:
    release = Path("/etc/nv_tegra_release")
    if release.exists():
        first = release.read_text(encoding="utf-8", errors="replace").splitlines()[0]
        return Finding("JetPack", "ok", first.lstrip("# "))
    return Finding("JetPack", "absent", "not a Jetson", "engines for a Jetson are built on the Jetson")
