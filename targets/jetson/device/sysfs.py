"""Clocks, power rails, temperatures and throttling from sysfs. What cannot be read is absent, never zero."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

GPU_NAMES = ("gv11b", "gp10b", "gm20b", "ga10b", "gb10b", "gpu")
SUM_OF_SHUNTS = 7
EMC_PATHS = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/class/devfreq/bwmgr/cur_freq")
LOAD_PATHS = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load")


@dataclass(frozen=True)
class Clocks:
    """A clock domain in hertz."""

    current: int
    highest: int | None
    lowest: int | None
    governor: str | None


@dataclass(frozen=True)
class SysfsSample:
    """One reading.

    Attributes:
        rails: milliwatts by the rail's label.
        gpu_load: percent.
        temperatures: degrees Celsius by zone.
        throttle: counts of over-current events and states of cooling devices that are engaged, by name.
    """

    rails: dict[str, float]
    gpu_hz: int | None
    emc_hz: int | None
    gpu_load: float | None
    temperatures: dict[str, float]
    throttle: dict[str, int]


def read_sample(root: Path = Path("/")) -> SysfsSample:
    """Read everything once."""
    gpu = read_gpu_clocks(root)
    return SysfsSample(
        rails=read_rails(root),
        gpu_hz=gpu.current if gpu is not None else None,
        emc_hz=read_emc_hz(root),
        gpu_load=read_gpu_load(root),
        temperatures=read_temperatures(root),
        throttle=read_throttle(root),
    )


def read_gpu_clocks(root: Path = Path("/")) -> Clocks | None:
    """The GPU's clock from its devfreq node; on Thor that of its first cluster."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if _is_gpu(folder):
            current = _integer(folder / "cur_freq")
            if current is not None:
                highest, lowest = _integer(folder / "max_freq"), _integer(folder / "min_freq")
                return Clocks(current, highest, lowest, _text(folder / "governor"))
    return None


def _is_gpu(folder: Path) -> bool:
    name = (_text(folder / "device/of_node/name") or "").strip("\0")
    if name:
        return name in GPU_NAMES
    return re.search(r"(?:\.(?:gv11b|gp10b|gm20b|ga10b|gb10b|gpu)|^gpu-gpc-0)$", folder.name) is not None


def read_emc_hz(root: Path = Path("/")) -> int | None:
    """The memory clock; most releases show it to root only."""
    return next((value for value in (_integer(root / path) for path in EMC_PATHS) if value), None)


def read_gpu_load(root: Path = Path("/")) -> float | None:
    """Utilisation of the GPU in percent."""
    value = next((v for v in (_integer(root / path) for path in LOAD_PATHS) if v is not None), None)
    return None if value is None else value / 10


def read_rails(root: Path = Path("/")) -> dict[str, float]:
    """Milliwatts of every labelled rail: INA3221 and INA238 under hwmon, or JetPack 4's IIO nodes."""
    rails: dict[str, float] = {}
    for driver in ("ina3221", "ina3221x", "ina238"):
        base = root / "sys/bus/i2c/drivers" / driver
        for monitor in sorted(base.glob("*/hwmon/hwmon*")):
            rails.update(_hwmon_rails(monitor))
        for device in sorted(base.glob("*/iio:device*")):
            rails.update(_iio_rails(device))
    return rails


def _hwmon_rails(folder: Path) -> Iterator[tuple[str, float]]:
    for label_path in sorted(folder.glob("in*_label")):
        channel = re.fullmatch(r"in(\d+)_label", label_path.name)
        label = _text(label_path)
        if channel is None or not label or int(channel[1]) == SUM_OF_SHUNTS or label.startswith("sum of"):
            continue
        millivolts = _integer(folder / f"in{channel[1]}_input")
        milliamperes = _integer(folder / f"curr{channel[1]}_input")
        if millivolts is not None and milliamperes is not None:
            yield label, millivolts * milliamperes / 1000
    own = _text(folder / "power1_label")
    microwatts = _integer(folder / "power1_input")
    if own and microwatts is not None:
        yield own, microwatts / 1000


def _iio_rails(folder: Path) -> Iterator[tuple[str, float]]:
    for name_path in sorted(folder.glob("rail_name_*")):
        label = _text(name_path)
        milliwatts = _integer(folder / f"in_power{name_path.name.rsplit('_', 1)[1]}_input")
        if label and milliwatts is not None:
            yield label, float(milliwatts)


def read_temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius by thermal zone; zones that are switched off answer with an error or -256 and are absent."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _integer(zone / "temp")
        if name and value is not None and value > -256000:
            found[name] = value / 1000
    return found


def read_throttle(root: Path = Path("/")) -> dict[str, int]:
    """Signs of throttling: over-current event counters, and cooling devices (fans aside) that are engaged."""
    found: dict[str, int] = {}
    for counter in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
        value = _integer(counter)
        if value is not None:
            found[counter.name] = value
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        name, state = _text(device / "type"), _integer(device / "cur_state")
        if name and state and "fan" not in name:
            found[name] = state
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return None


def _integer(path: Path) -> int | None:
    text = _text(path)
    if text is None or re.fullmatch(r"-?\d{1,18}", text, re.ASCII) is None:
        return None
    return int(text)
