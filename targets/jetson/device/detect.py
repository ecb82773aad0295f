"""Which Jetson this is, what runs on it, and what is free: read from files and nvpmodel's output.

Every reader takes the root of the file system, so that recorded devices can be read like the one at hand.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence

from .errors import DetectionError
from .sysfs import Clocks, read_emc_hz, read_gpu_clocks

Run = Callable[[Sequence[str]], Optional[str]]
THOR_SMALL_KIB = 80 * 2**20
COMMAND_SECONDS = 20


@dataclass(frozen=True)
class L4T:
    """The release of the driver package, from ``/etc/nv_tegra_release``."""

    version: str
    board: str
    gcid: str
    date: str


@dataclass(frozen=True)
class NvpMode:
    """The power mode that is set; the name is None where only the number is known."""

    id: int | None
    name: str | None


@dataclass(frozen=True)
class FreeMemory:
    """MiB, from ``/proc/meminfo``; the GPU shares it."""

    total: float
    available: float
    swap_total: float
    swap_free: float


@dataclass(frozen=True)
class Device:
    """A Jetson as it is now; what it does not say is None.

    Attributes:
        model: as the device tree prints it.
        part: of the module, such as ``p3767-0005``.
        module: key in the catalogue, such as ``orin-nano-8gb``.
        super: whether it was flashed with the Super configuration.
        gpu: clocks of the GPU; ``emc_hz`` needs root.
        tensorrt, jetpack: versions of the installed packages.
        trtexec: its path.
    """

    l4t: L4T | None
    model: str | None
    part: str | None
    module: str | None
    super: bool
    mode: NvpMode | None
    gpu: Clocks | None
    emc_hz: int | None
    memory: FreeMemory | None
    tensorrt: str | None
    jetpack: str | None
    trtexec: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def run_command(command: Sequence[str]) -> str | None:
    """Standard output of a command, or None when it is absent, fails or hangs."""
    try:
        done = subprocess.run(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def detect(root: Path = Path("/"), run: Run = run_command) -> Device:
    """Describe this device.

    Args:
        root: of the file system to read.
        run: how to run a command; returns its output or None.

    Raises:
        DetectionError: nothing says that this is a Jetson.
    """
    l4t = parse_release(_text(root / "etc/nv_tegra_release") or "")
    model = _text(root / "proc/device-tree/model")
    compatible = _text(root / "proc/device-tree/compatible") or ""
    if l4t is None and "nvidia,tegra" not in compatible:
        raise DetectionError(
            f"this is not a Jetson: {root / 'etc/nv_tegra_release'} is absent and the device tree names no Tegra; "
            "run this on the device"
        )
    memory = parse_meminfo(_text(root / "proc/meminfo") or "")
    part = find_part(compatible, _text(root / "etc/nv_boot_control.conf") or "")
    packages = _text(root / "var/lib/dpkg/status") or ""
    trtexec = root / "usr/src/tensorrt/bin/trtexec"
    return Device(
        l4t=l4t,
        model=model,
        part=part,
        module=module_of(part, memory),
        super="super" in f"{compatible} {model or ''}".lower(),
        mode=read_mode(root, run),
        gpu=read_gpu_clocks(root),
        emc_hz=read_emc_hz(root),
        memory=memory,
        tensorrt=package_version(packages, r"libnvinfer\d+"),
        jetpack=package_version(packages, r"nvidia-jetpack"),
        trtexec=str(trtexec) if trtexec.is_file() else None,
    )


def parse_release(text: str) -> L4T | None:
    """The first line of ``/etc/nv_tegra_release``, or None when it is not one."""
    match = re.search(r"R(\d{1,4}) \(release\), REVISION: ([\d.]{1,20})", text)
    if match is None:
        return None
    fields = dict(re.findall(r"(GCID|BOARD|DATE): ([^,\n]*)", text))
    revision = match[2].rstrip(".")
    version = f"{match[1]}.{revision}" if "." in revision else f"{match[1]}.{revision}.0"
    return L4T(
        version, fields.get("BOARD", "").strip(), fields.get("GCID", "").strip(), fields.get("DATE", "").strip()
    )


def find_part(compatible: str, boot_control: str = "") -> str | None:
    """Part number of the module, from the device tree's ``compatible`` and, for Thor, the flash specification.

    A carrier's number (``p3768-0000``) is told apart by not being in the list of modules.
    """
    known = known_parts()
    spec = re.search(r"TNSPEC\s+(\d{4})-\d{3}-(\d{4})", boot_control)
    if spec is not None and f"p{spec[1]}-{spec[2]}" in known:
        return f"p{spec[1]}-{spec[2]}"
    found = re.findall(r"p\d{4}-\d{4}", compatible)
    return next((part for part in found if part in known), None)


def module_of(part: str | None, memory: FreeMemory | None) -> str | None:
    """The catalogue's key of a part. Thor's modules share a device tree, so its memory decides between them."""
    if part is None:
        return None
    key = known_parts()[part]
    if key == "thor-t5000" and memory is not None and memory.total < THOR_SMALL_KIB / 1024:
        return "thor-t4000"
    return key


def known_parts() -> Mapping[str, str]:
    """Part number -> module key."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / "parts.json").read_text(encoding="utf-8"))
    parts: dict[str, str] = content["parts"]
    return parts


def read_mode(root: Path, run: Run = run_command) -> NvpMode | None:
    """The power mode: what nvpmodel says, else its state file."""
    said = parse_nvpmodel(run(["nvpmodel", "-q"]) or "")
    if said is not None:
        return said
    state = re.search(r"pmode:(\d{1,4})", _text(root / "var/lib/nvpmodel/status") or "")
    if state is None:
        return None
    number = int(state[1])
    names = mode_names(_text(root / "etc/nvpmodel.conf") or "")
    return NvpMode(number, names.get(number))


def parse_nvpmodel(text: str) -> NvpMode | None:
    """Output of ``nvpmodel -q``, with or without ``--verbose`` and warnings."""
    name = re.search(r"NV Power Mode:[ \t]*(\S[^\r\n]*)", text)
    number = re.search(r"^\s*(\d{1,4})\s*$", text, re.MULTILINE)
    if name is None and number is None:
        return None
    label = name[1].strip() if name is not None else None
    if label is not None and label.startswith("MODE_"):
        label = label[len("MODE_") :]
    return NvpMode(int(number[1]) if number is not None else None, label)


def mode_names(conf: str) -> dict[int, str]:
    """Names of the modes that a configuration file (or ``nvpmodel -p --verbose``) lists, by number."""
    return {int(number): name for number, name in re.findall(r"POWER_MODEL:? ID=(\d{1,4}) NAME=(\w+)", conf)}


def parse_meminfo(text: str) -> FreeMemory | None:
    """``/proc/meminfo``, or None when it lacks what is needed."""
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d{1,15})", text, re.MULTILINE)}
    if "MemTotal" not in kib or "MemAvailable" not in kib:
        return None
    return FreeMemory(*(kib.get(n, 0) / 1024 for n in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")))


def package_version(status: str, name: str) -> str | None:
    """Version of an installed Debian package whose name matches, without epoch and packaging suffix."""
    for block in status.split("\n\n"):
        if re.search(rf"^Package: {name}$", block, re.MULTILINE) and "ok installed" in block:
            version = re.search(r"^Version: (?:\d+:)?([\w.]+)", block, re.MULTILINE)
            return version[1] if version is not None else None
    return None


def tensorrt_version(device: Device) -> tuple[int, ...] | None:
    """The installed TensorRT as numbers."""
    if device.tensorrt is None:
        return None
    return tuple(int(part) for part in re.findall(r"\d+", device.tensorrt))


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace").replace("\0", "\n").strip()
    except OSError:
        return None
