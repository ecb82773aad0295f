"""Build, verify, keep and roll back the engine of a bundle, on the device that will run it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from .bundle import ENGINES, Manifest, file_sha256, verify
from .detect import Device, detect, tensorrt_version
from .errors import BundleError, DeviceBuildError
from .lock import alone
from .package import SINCE, build_with_package, find_package
from .trtexec import (
    BUILD_SECONDS,
    MEMORY_ADVICE,
    RUN_SECONDS,
    build_command,
    infer_command,
    read_output,
    run_trtexec,
)

CURRENT = "current.json"
ENGINE = "edge.engine"
SIDECAR = "engine.json"
STRONGLY_TYPED_SINCE = 10


@dataclass(frozen=True)
class Built:
    """The engine in use.

    Attributes:
        key: of what it depends on.
        rebuilt: False when the engine of this key was there already.
        equal, within_one: shares of codes that agree with the host's.
    """

    key: str
    engine: str
    form: str
    rebuilt: bool
    equal: float
    within_one: float


def check(root: Path, system: Path = Path("/")) -> tuple[Manifest, Device, str]:
    """Verify the bundle and this device.

    Returns:
        The manifest, the device and the form of network to build.

    Raises:
        BundleError: the bundle is damaged or made for another module.
        DetectionError: this is no Jetson.
        DeviceBuildError: TensorRT, trtexec or memory are lacking.
    """
    manifest = verify(root)
    device = detect(system)
    if manifest.modules and device.module not in manifest.modules:
        here = device.module or device.model or "an unknown module"
        raise BundleError(
            f"this bundle was made for {', '.join(manifest.modules)} and this is {here}; pack one for this device"
        )
    version = tensorrt_version(device)
    if version is None:
        raise DeviceBuildError("TensorRT is not installed; install it with: sudo apt install nvidia-jetpack")
    if version < manifest.needs_tensorrt:
        needed = ".".join(str(part) for part in manifest.needs_tensorrt)
        raise DeviceBuildError(f"TensorRT is {device.tensorrt} and this bundle needs {needed}; upgrade JetPack")
    if device.trtexec is None and _package(version, system) is None:
        raise DeviceBuildError("trtexec is missing; install it with: sudo apt install libnvinfer-bin")
    form = choose_form(manifest, version)
    _check_memory(manifest, device)
    return manifest, device, form


def choose_form(manifest: Manifest, version: Sequence[int]) -> str:
    """The form of network that a TensorRT takes.

    Raises:
        DeviceBuildError: the bundle has none for it.
    """
    wanted = ("b", "float") if version[0] >= STRONGLY_TYPED_SINCE else ("a", "float")
    for form in wanted:
        if form in manifest.networks:
            return form
    raise DeviceBuildError(f"the bundle has no network for TensorRT {version[0]}; pack one with form {wanted[0]}")


def _check_memory(manifest: Manifest, device: Device) -> None:
    memory = device.memory
    if memory is None:
        return
    if memory.available < manifest.needs_mb:
        swap = f", {memory.swap_free:.0f} MiB of swap (which the GPU cannot use)" if memory.swap_total else ""
        raise DeviceBuildError(
            f"{memory.available:.0f} MiB are free{swap} and building needs {manifest.needs_mb}; {MEMORY_ADVICE}"
        )


def build(root: Path, system: Path = Path("/"), force: str = "") -> Built:
    """Build the engine if the one in use is not of this device, TensorRT, mode and network; then verify it.

    The engine in use stays until the new one has passed, and can be rolled back to afterwards.

    Args:
        root: the unpacked bundle.
        system: root of the device's file system.
        force: anything but empty builds even when the engine is there.

    Raises:
        TargetError: see :func:`check`; or building or verifying failed, and the engine in use is unchanged.
    """
    manifest, device, form = check(root, system)
    version = tensorrt_version(device) or ()
    network = root / manifest.networks[form]
    key = engine_key(device, file_sha256(network))
    engines = root / ENGINES
    folder = engines / key
    state = read_state(root)
    if state.get("current") == key and not force and _is_whole(folder):
        side = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        return Built(key, str(folder / ENGINE), form, False, side["equal"], side["within_one"])
    with alone(engines):
        partial = engines / f"{key}.{os.getpid()}.partial"
        partial.mkdir(parents=True)
        try:
            made = _make(root, manifest, device, form, partial, _package(version, system))
        except DeviceBuildError:
            shutil.rmtree(str(partial), ignore_errors=True)
            raise
        side = {
            "key": key, "form": form, "device": device.to_dict(), "bundle": manifest.id,
            "sha256": file_sha256(partial / ENGINE), **made,
        }  # fmt: skip
        (partial / SIDECAR).write_text(json.dumps(side, indent=1), encoding="utf-8")
        _promote(root, partial, folder, key, read_state(root))
    return Built(key, str(folder / ENGINE), form, True, made["equal"], made["within_one"])


def _package(version: Sequence[int], system: Path) -> Any:
    """The command of the patrol-edge package where it may build; else None, and trtexec does."""
    return find_package(system) if version[0] >= SINCE else None


def _make(
    root: Path, manifest: Manifest, device: Device, form: str, partial: Path, package: Any
) -> dict[str, Any]:
    """Build and verify, with the package where it is installed; with trtexec where it is not, or fails.

    Returns:
        What the engine's sidecar says of it: builder, shares of equal codes, and why the package failed if it did.
    """
    facts: dict[str, Any] = {}
    if package is not None:
        try:
            equal, within_one = build_with_package(package, root, form, partial / ENGINE, BUILD_SECONDS)
            return {"builder": "patrol-edge", "equal": equal, "within_one": within_one}
        except DeviceBuildError as error:
            if device.trtexec is None:
                raise
            facts["package_failed"] = str(error)
    trtexec, log = device.trtexec or "trtexec", root / ENGINES / "build.log"
    network, version = root / manifest.networks[form], tensorrt_version(device) or ()
    command = build_command(trtexec, manifest, form, network, partial / ENGINE, version)
    run_trtexec(command, BUILD_SECONDS, log)
    equal, within_one = verify_outputs(root, manifest, trtexec, partial / ENGINE, partial)
    return {**facts, "builder": "trtexec", "command": command, "equal": equal, "within_one": within_one}


def engine_key(device: Device, network: str) -> str:
    """Short hash of everything that an engine depends on."""
    facts = [
        device.tensorrt, device.l4t.version if device.l4t else None, device.module,
        device.mode.id if device.mode else None, network,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def verify_outputs(
    root: Path, manifest: Manifest, trtexec: str, engine: Path, scratch: Path
) -> tuple[float, float]:
    """Run every test vector and compare the codes.

    Returns:
        Shares of codes that are equal, and equal to one step.

    Raises:
        DeviceBuildError: fewer agree than the manifest demands.
    """
    same = near = total = 0
    for number, vector in enumerate(manifest.vectors):
        out, log = scratch / f"output_{number}.json", scratch / f"verify_{number}.log"
        files = [root / name for name in (vector.input, vector.noise) if name]
        run_trtexec(infer_command(trtexec, manifest, engine, files, out), RUN_SECONDS, log)
        got = read_output(out, manifest.output)
        raw = (root / vector.expected).read_bytes()
        expected = struct.unpack(f"<{len(raw)}b", raw)
        if len(expected) != len(got):
            raise DeviceBuildError(f"{vector.expected} has {len(expected)} codes, the engine wrote {len(got)}")
        same += sum(a == b for a, b in zip(got, expected))
        near += sum(abs(a - b) <= 1 for a, b in zip(got, expected))
        total += len(got)
    if not total:
        raise DeviceBuildError("the bundle has no test vectors, so the engine cannot be verified; pack it again")
    equal, within_one = same / total, near / total
    if equal < manifest.equal or within_one < manifest.within_one:
        raise DeviceBuildError(
            f"the engine's codes differ from the host's: {equal:.4f} are equal (at least {manifest.equal}), "
            f"{within_one:.4f} within one step (at least {manifest.within_one}); the engine in use was kept"
        )
    return equal, within_one


def rollback(root: Path) -> str:
    """Take the previous engine into use again; returns its key.

    Raises:
        DeviceBuildError: there is none, or it was changed.
    """
    state = read_state(root)
    previous = state.get("previous")
    if not previous:
        raise DeviceBuildError("there is no previous engine to go back to")
    if not _is_whole(root / ENGINES / previous):
        raise DeviceBuildError(f"the previous engine {previous} is missing or was changed; build again")
    _write_state(root, {"current": previous, "previous": state["current"]})
    return str(previous)


def read_state(root: Path) -> dict[str, Any]:
    """Which engine is in use and which was before; empty before the first build."""
    try:
        content: dict[str, Any] = json.loads((root / ENGINES / CURRENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def engine_in_use(root: Path) -> Path:
    """Path of the verified engine.

    Raises:
        DeviceBuildError: none was built, or it was changed since.
    """
    key = read_state(root).get("current")
    if not key:
        raise DeviceBuildError("no engine was built yet; run ./build.sh")
    if not _is_whole(root / ENGINES / key):
        raise DeviceBuildError(f"engine {key} is missing or was changed since it was verified; run ./build.sh")
    return root / ENGINES / str(key) / ENGINE


def _is_whole(folder: Path) -> bool:
    try:
        side = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        return bool(side["sha256"] == file_sha256(folder / ENGINE))
    except (OSError, ValueError, KeyError):
        return False


def _promote(root: Path, partial: Path, folder: Path, key: str, state: dict[str, Any]) -> None:
    shutil.rmtree(str(folder), ignore_errors=True)
    os.replace(str(partial), str(folder))  # noqa: PTH105
    before = state.get("current")
    _write_state(root, {"current": key, "previous": before if before != key else state.get("previous")})
    keep = {key, before, state.get("previous") if before == key else before}
    for other in (root / ENGINES).iterdir():
        if other.is_dir() and other.name not in keep:
            shutil.rmtree(str(other), ignore_errors=True)


def _write_state(root: Path, state: dict[str, Any]) -> None:
    path = root / ENGINES / CURRENT
    scratch = path.with_suffix(".partial")
    scratch.write_text(json.dumps(state), encoding="utf-8")
    os.replace(str(scratch), str(path))  # noqa: PTH105
