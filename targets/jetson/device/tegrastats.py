"""One line of tegrastats, from JetPack 4 to 7, as the values a person reads in it.

What a line does not print is None or not in the mapping, never zero; tokens without a rule are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Callable, Mapping, Match, Pattern

SENSOR_OFF = -256.0
MIB = {"k": 1.0 / 1024, "M": 1.0, "G": 1024.0, "": 1.0 / 2**20}


@dataclass(frozen=True)
class Clock:
    """A unit with a clock.

    Attributes:
        on: False where the line says ``off``.
        percent: utilisation.
        mhz: one clock per cluster; empty where none is printed.
    """

    on: bool = True
    percent: float | None = None
    mhz: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rail:
    """One power rail in milliwatts; ``average`` and ``others`` are tegrastats' own, since it was started."""

    now: float
    average: float | None = None
    others: tuple[float, ...] = ()


@dataclass(frozen=True)
class Memory:
    """MiB in use and in all; ``block`` and ``blocks`` are the largest free blocks, ``cached`` the swap cache."""

    used: float
    total: float
    blocks: int | None = None
    block: float | None = None
    cached: float | None = None


@dataclass(frozen=True)
class Sample:
    """One line.

    Attributes:
        time: the device's local time, where the line begins with it.
        cpus: one per core; ``on`` is False for cores that are off.
        emc, gpu: memory controller and GPU.
        units: video, DLA and other units, by name without ``_FREQ``.
        temperatures: degrees Celsius by name, as printed; sensors that are off (-256) are in ``sensors_off``.
        temperature_others: further values of a sensor, such as JetPack 7's highest so far.
        rails: by name.
        unknown: tokens that no rule read.
    """

    time: datetime | None = None
    ram: Memory | None = None
    swap: Memory | None = None
    cpus: tuple[Clock, ...] = ()
    emc: Clock | None = None
    gpu: Clock | None = None
    units: Mapping[str, Clock] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    temperature_others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sensors_off: tuple[str, ...] = ()
    rails: Mapping[str, Rail] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


class _Reading:
    """The values of a line while it is being read."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.units: dict[str, Clock] = {}
        self.temperatures: dict[str, float] = {}
        self.others: dict[str, tuple[float, ...]] = {}
        self.off: list[str] = []
        self.rails: dict[str, Rail] = {}
        self.unknown: list[str] = []


NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
CLOCKS = rf"(?:{NUMBER}|\[[\d.,]{{0,200}}\])"
POWER = rf"{NUMBER}(?:m?W)?"


def _date(match: Match[str], reading: _Reading) -> None:
    try:
        reading.values["time"] = datetime.strptime(match.group(0), "%m-%d-%Y %H:%M:%S")
    except ValueError:
        reading.unknown.append(match.group(0))


def _memory(match: Match[str], reading: _Reading) -> None:
    scale = MIB[match["unit"]]
    block = match["block"]
    cached = match["cached"]
    memory = Memory(
        float(match["used"]) * scale,
        float(match["total"]) * scale,
        int(match["blocks"]) if match["blocks"] else None,
        float(block) * MIB[match["block_unit"]] if block else None,
        float(cached) * MIB[match["cached_unit"]] if cached else None,
    )
    if match["name"] in ("RAM", "SWAP"):
        reading.values[match["name"].lower()] = memory
    else:
        reading.unknown.append(match.group(0))


def _cpus(match: Match[str], reading: _Reading) -> None:
    shared = (float(match["shared"]),) if match["shared"] else ()
    cores = [_cpu(text.strip(), shared) for text in match["cores"].split(",")]
    if None in cores:
        reading.unknown.append(match.group(0))
    else:
        reading.values["cpus"] = tuple(core for core in cores if core is not None)


def _cpu(text: str, shared: tuple[float, ...]) -> Clock | None:
    """One core; ``shared`` is the clock behind the bracket, where all have one. None for what is no core."""
    if text == "off":
        return Clock(on=False)
    match = re.fullmatch(rf"({NUMBER})%(?:@({NUMBER}))?", text, re.ASCII)
    if match is None:
        return None
    return Clock(percent=float(match[1]), mhz=(float(match[2]),) if match[2] else shared)


def _clock(match: Match[str], reading: _Reading) -> None:
    name = match["name"]
    clock = Clock(
        on=match["off"] is None,
        percent=float(match["percent"]) if match["percent"] else None,
        mhz=_clocks(match["clocks"] or match["only"]),
    )
    if name == "EMC":
        reading.values["emc"] = clock
    elif name == "GR3D":
        reading.values["gpu"] = clock
    else:
        reading.units[name] = clock


def _clocks(text: str | None) -> tuple[float, ...]:
    if not text:
        return ()
    return tuple(float(part) for part in re.findall(NUMBER, text, re.ASCII))


def _plain_clock(match: Match[str], reading: _Reading) -> None:
    clock = Clock(mhz=(float(match["mhz"]),))
    if match["name"] in ("EMC", "GR3D"):
        reading.values[{"EMC": "emc", "GR3D": "gpu"}[match["name"]]] = clock
    else:
        reading.units[match["name"]] = clock


def _mts(match: Match[str], reading: _Reading) -> None:
    reading.units["MTS_FG"] = Clock(percent=float(match["fg"]))
    reading.units["MTS_BG"] = Clock(percent=float(match["bg"]))


def _temperature(match: Match[str], reading: _Reading) -> None:
    values = [float(text.rstrip("C")) for text in match["values"].split("/")]
    if values[0] <= SENSOR_OFF:
        reading.off.append(match["name"])
        return
    reading.temperatures[match["name"]] = values[0]
    if len(values) > 1:
        reading.others[match["name"]] = tuple(values[1:])


def _rail(match: Match[str], reading: _Reading) -> None:
    values = [_milliwatts(text) for text in match["values"].split("/")]
    reading.rails[match["name"]] = Rail(values[0], values[1] if len(values) > 1 else None, tuple(values[2:]))


def _milliwatts(text: str) -> float:
    if text.endswith("mW"):
        return float(text[:-2])
    if text.endswith("W"):
        return float(text[:-1]) * 1000
    return float(text)


def _rule(pattern: str) -> Pattern[str]:
    return re.compile(rf"(?:{pattern})(?=\s|$)", re.ASCII)


Reader = Callable[[Match[str], _Reading], None]
RULES: tuple[tuple[Pattern[str], Reader], ...] = (
    (_rule(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d"), _date),
    (
        _rule(
            r"(?P<name>\w{0,8}RAM|SWAP) (?P<used>\d{1,9})/(?P<total>\d{1,9})(?P<unit>[kMG]?)B"
            r"(?: ?\(lfb (?:(?P<blocks>\d{1,9})x)?(?P<block>\d{1,9})(?P<block_unit>[kMG]?)B\))?"
            r"(?: ?\(cached (?P<cached>\d{1,9})(?P<cached_unit>[kMG]?)B\))?"
        ),
        _memory,
    ),
    (_rule(rf"CPU \[(?P<cores>[^\]]{{0,2000}})\](?:@(?P<shared>{NUMBER}))?"), _cpus),
    (_rule(rf"MTS fg (?P<fg>{NUMBER})% bg (?P<bg>{NUMBER})%"), _mts),
    (
        _rule(
            rf"(?P<name>[A-Za-z]\w{{0,30}}?)(?:_FREQ)? "
            rf"(?:(?P<off>off)|(?P<percent>{NUMBER})%(?:@(?P<clocks>{CLOCKS}))?|@(?P<only>{CLOCKS}))"
        ),
        _clock,
    ),
    (
        _rule(rf"(?P<name>[A-Za-z][\w.-]{{0,40}})@(?P<values>-?{NUMBER}C(?:/-?{NUMBER}C){{0,3}})"),
        _temperature,
    ),
    (
        _rule(
            rf"(?!\w{{0,8}}RAM |SWAP )(?P<name>[A-Za-z]\w{{0,40}}) "  # memory whose unit was cut off is no power
            rf"(?P<values>{NUMBER}m?W|{POWER}(?:/{POWER}){{1,3}})"
        ),
        _rail,
    ),
    (_rule(rf"(?P<name>[A-Z]\w{{0,30}})_FREQ (?P<mhz>{NUMBER})"), _plain_clock),
    (_rule(rf"(?P<name>APE|NVENC\d?|NVDEC\d?|MSENC|SE|VIC|NVJPG\d?|OFA) (?P<mhz>{NUMBER})"), _plain_clock),
)


def parse_line(line: str) -> Sample:
    """Read one line; never raises, whatever the line holds."""
    reading = _Reading()
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        for pattern, read in RULES:
            match = pattern.match(line, position)
            if match is not None:
                read(match, reading)
                position = match.end()
                break
        else:
            end = next((i for i in range(position, len(line)) if line[i].isspace()), len(line))
            reading.unknown.append(line[position:end])
            position = end
    return Sample(
        units=reading.units,
        temperatures=reading.temperatures,
        temperature_others=reading.others,
        sensors_off=tuple(reading.off),
        rails=reading.rails,
        unknown=tuple(reading.unknown),
        **reading.values,  # type: ignore[arg-type]
    )
