"""trtexec: the command lines of each TensorRT version, and what it writes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Sequence

from .bundle import Manifest, Port
from .errors import DeviceBuildError

WORKSPACE_MB = 512
BUILD_SECONDS = 4 * 3600
RUN_SECONDS = 600
KNOWN_FAILURES = (
    (r"out of memory|OutOfMemory|Cannot allocate|Tactic Device request", "out of memory while building; {memory}"),
    (r"Version tag does not match", "the engine was built by another TensorRT; build it again on this device"),
    (r"Platform specific tag mismatch", "the engine was built on another platform; build it on this device"),
    (r"incompatible device|expecting compute", "the engine was built for another GPU; build it on this device"),
    (r"Magic tag does not match", "the file is no TensorRT engine; build it again"),
    (r"No importer registered|Unsupported ONNX|unsupported operator", "this TensorRT lacks an operator: {line}"),
)
MEMORY_ADVICE = "close the desktop, disable zram, add a swap file on NVMe, or build in a mode with all memory"


def build_command(
    trtexec: str, manifest: Manifest, form: str, network: Path, engine: Path, version: Sequence[int]
) -> list[str]:
    """The command that builds an engine for a batch of one."""
    command = [trtexec, f"--onnx={network}", f"--saveEngine={engine}"]
    command += [f"--{kind}Shapes={_shapes(manifest)}" for kind in ("min", "opt", "max")]
    command += [f"--memPoolSize=workspace:{WORKSPACE_MB}", "--profilingVerbosity=detailed"]
    command.append("--skipInference" if tuple(version) >= (8, 6) else "--buildOnly")
    if form == "a":
        command += ["--int8", "--fp16"]
    elif form == "b":
        command += ["--stronglyTyped"] if version[0] < 11 else []
    elif version[0] < 11:
        command += ["--fp16", "--int8"]
    return command


def infer_command(trtexec: str, manifest: Manifest, engine: Path, files: Sequence[Path], out: Path) -> list[str]:
    """The command that runs one test vector, a file for every input, and writes the output."""
    loaded = ",".join(f"{port.name}:{path}" for port, path in zip(manifest.inputs, files))
    return [
        trtexec, f"--loadEngine={engine}", f"--shapes={_shapes(manifest)}",
        f"--loadInputs={loaded}", f"--exportOutput={out}",
        "--iterations=1", "--warmUp=0", "--duration=0",
    ]  # fmt: skip


def profile_command(
    trtexec: str, manifest: Manifest, engine: Path, out: Path, seconds: int, version: Sequence[int]
) -> list[str]:
    """The command that times inference without copies, with a CUDA graph: what TensorRT 11 does by itself."""
    command = [trtexec, f"--loadEngine={engine}", f"--shapes={_shapes(manifest)}"]
    command += ["--warmUp=500", f"--duration={seconds}", "--iterations=100", f"--exportTimes={out}"]
    return command + (["--useCudaGraph", "--noDataTransfers", "--useSpinWait"] if version[0] < 11 else [])


def _shapes(manifest: Manifest) -> str:
    """``picture:1x3x64x64``, and the noise behind a comma where there is any."""
    return ",".join(f"{port.name}:{'x'.join(str(dim) for dim in port.shape)}" for port in manifest.inputs)


def run_trtexec(command: Sequence[str], seconds: int, log: Path) -> None:
    """Run trtexec, its output into a log.

    Raises:
        DeviceBuildError: it failed; the message says what to do where the failure is a known one.
    """
    try:
        with log.open("wb") as sink:
            done = subprocess.run(
                list(command), stdout=sink, stderr=subprocess.STDOUT, timeout=seconds, check=False
            )
    except OSError as error:
        raise DeviceBuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceBuildError(f"trtexec did not end within {seconds} s; see {log}") from error
    if done.returncode != 0:
        raise DeviceBuildError(f"{explain_failure(log, done.returncode)}; see {log}")


def explain_failure(log: Path, code: int) -> str:
    """What a log says went wrong, in one line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    for pattern, advice in KNOWN_FAILURES:
        found = re.search(rf"^.*(?:{pattern}).*$", text, re.MULTILINE)
        if found is not None:
            return advice.format(memory=MEMORY_ADVICE, line=found[0].strip()[:200])
    if code in (-9, 137):
        return f"trtexec was killed, most likely for lack of memory; {MEMORY_ADVICE}"
    lines = [line for line in text.splitlines() if line.strip()]
    return f"trtexec failed with code {code}: {lines[-1].strip()[:200] if lines else 'no output'}"


def read_output(path: Path, port: Port) -> list[float]:
    """Values of one output from ``--exportOutput``.

    Raises:
        DeviceBuildError: the output is not there or has another size.
    """
    count = 1
    for dim in port.shape:
        count *= dim
    try:
        tensors = json.loads(path.read_text(encoding="utf-8"))
        values = next(one["values"] for one in tensors if one["name"] == port.name)
        numbers = [float(value) for value in values]
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise DeviceBuildError(f"trtexec wrote no output named {port.name} to {path}") from error
    if len(numbers) != count:
        raise DeviceBuildError(f"output {port.name} has {len(numbers)} values where {count} were expected")
    return numbers


def read_times(path: Path) -> list[float]:
    """Milliseconds of every inference from ``--exportTimes``: GPU time alone.

    Raises:
        DeviceBuildError: there are none.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        times = [float(row["computeMs"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeviceBuildError(f"trtexec wrote no times to {path}") from error
    if not times:
        raise DeviceBuildError(f"trtexec timed no inference; see {path}")
    return times
