"""The catalogue of Jetson modules, power modes and JetPack releases, read from ``data/``.

Every figure carries its source (a key of ``data/sources.json``) or the mark ``unverified``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from targets.errors import CatalogueError
from targets.jetson.device.detect import known_parts

UNVERIFIED = "unverified"


@dataclass(frozen=True)
class Figure:
    """One number of a module.

    Attributes:
        unit: for instance ``GB/s``.
        source: a key of :func:`sources`, or ``unverified``.
    """

    value: float
    unit: str
    source: str

    @property
    def verified(self) -> bool:
        """Whether a source is named."""
        return self.source != UNVERIFIED


@dataclass(frozen=True)
class PowerMode:
    """One nvpmodel mode: what it leaves of the module.

    Attributes:
        configuration: ``standard`` or ``super``; both number their modes from 0.
        sms: streaming multiprocessors that stay powered.
        gpu_mhz, emc_mhz: highest GPU and memory clock; None when not published.
        dla_mhz: highest clock of the DLA cores; None without DLA or when not published.
        default: the mode a freshly installed device starts in.
        source: of the row; fields named in ``unverified`` are from no source.
    """

    id: int
    name: str
    configuration: str
    sms: int
    gpu_mhz: float | None
    emc_mhz: float | None
    dla_mhz: float | None
    cpu_cores: int
    default: bool
    source: str
    unverified: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name that is unique within the module, such as ``super:15W``."""
        return self.name if self.configuration == "standard" else f"{self.configuration}:{self.name}"


@dataclass(frozen=True)
class Module:
    """One Jetson module.

    Attributes:
        key: the name used on the command line, such as ``orin-nano-8gb``.
        family: nano, tx2, xavier, orin, thor.
        generation: of the GPU: maxwell, pascal, volta, ampere, blackwell.
        compute_capability: (major, minor).
        parts: part numbers as they appear in the device tree.
        figures: by name; what is not published is not in it.
    """

    key: str
    name: str
    family: str
    generation: str
    compute_capability: tuple[int, int]
    parts: tuple[str, ...]
    headline: str
    note: str
    figures: Mapping[str, Figure]
    modes: tuple[PowerMode, ...]

    def value(self, figure: str) -> float:
        """A figure's number.

        Raises:
            CatalogueError: it is not published.
        """
        if figure not in self.figures:
            raise CatalogueError(f"no {figure} is published for {self.name}")
        return self.figures[figure].value

    def mode(self, name: str | None = None) -> PowerMode:
        """A power mode by name (``15W``), id (``2``) or label (``super:15W``); without a name the default one.

        A name that both configurations have means the standard one.

        Raises:
            CatalogueError: there is no such mode; the message lists those there are.
        """
        if name is None:
            return next((mode for mode in self.modes if mode.default), self.modes[0])
        wanted = name.lower().removeprefix("mode_")
        for match in (_is_label, _is_name, _is_id):
            for mode in self.modes:
                if match(mode, wanted):
                    return mode
        known = ", ".join(mode.label for mode in self.modes)
        raise CatalogueError(f"{self.key} has no power mode {name}; it has {known}")


def _is_label(mode: PowerMode, wanted: str) -> bool:
    return mode.label.lower() == wanted


def _is_name(mode: PowerMode, wanted: str) -> bool:
    return mode.name.lower() == wanted


def _is_id(mode: PowerMode, wanted: str) -> bool:
    return str(mode.id) == wanted


@dataclass(frozen=True)
class Release:
    """One JetPack and what it brings.

    Attributes:
        l4t: L4T versions of it; empty for an optional TensorRT.
        families: module families it runs on; ``modules`` narrows them where it is not empty.
        unverified: names of the fields that have no source.
    """

    l4t: tuple[str, ...]
    jetpack: str
    tensorrt: str
    cuda: str
    cudnn: str | None
    ubuntu: str
    python: str
    families: tuple[str, ...]
    modules: tuple[str, ...]
    source: str
    unverified: tuple[str, ...]
    note: str

    @property
    def tensorrt_version(self) -> tuple[int, ...]:
        """TensorRT's version as numbers."""
        return tuple(int(part) for part in self.tensorrt.split("."))

    def runs_on(self, module: Module) -> bool:
        """Whether it supports a module."""
        return module.family in self.families and (not self.modules or module.key in self.modules)


def _read(name: str) -> dict[str, Any]:
    text = resources.files("targets.jetson").joinpath("data", name).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    if content["version"] != 1:
        raise CatalogueError(f"{name} has version {content['version']}; this program reads version 1")
    return content


@cache
def sources() -> Mapping[str, str]:
    """Where figures come from, by key."""
    return MappingProxyType(_read("sources.json")["sources"])


@cache
def modules() -> tuple[Module, ...]:
    """Every module, oldest first."""
    content, modes = _read("modules.json"), _read("power_modes.json")["modes"]
    return tuple(_module(row, content["units"], modes[row["key"]]) for row in content["modules"])


def _module(row: dict[str, Any], units: Mapping[str, str], modes: Iterable[dict[str, Any]]) -> Module:
    figures = {name: Figure(float(value), units[name], source) for name, (value, source) in row["figures"].items()}
    major, minor = row["compute_capability"].split(".")
    return Module(
        key=row["key"],
        name=row["name"],
        family=row["family"],
        generation=row["generation"],
        compute_capability=(int(major), int(minor)),
        parts=tuple(part for part, key in known_parts().items() if key == row["key"]),
        headline=row["headline"],
        note=row["note"],
        figures=MappingProxyType(figures),
        modes=tuple(PowerMode(**{**mode, "unverified": tuple(mode["unverified"])}) for mode in modes),
    )


@cache
def releases() -> tuple[Release, ...]:
    """Every JetPack release, oldest first."""
    return tuple(_release(row) for row in _read("releases.json")["releases"])


def _release(row: dict[str, Any]) -> Release:
    lists = {name: tuple(row[name]) for name in ("l4t", "families", "modules", "unverified")}
    return Release(**{**row, **lists})


def find_module(name: str) -> Module:
    """A module by its key, its printed name or its part number (``p3767-0003``).

    Raises:
        CatalogueError: it is unknown; the message names what is close to it.
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    for module in modules():
        if wanted in (module.key, module.name.lower().replace(" ", "-"), *module.parts):
            return module
    known = [module.key for module in modules()]
    close = get_close_matches(wanted, known, 3, 0.5) or [key for key in known if wanted and wanted in key] or known
    raise CatalogueError(f"there is no Jetson module {name} in the catalogue; did you mean {', '.join(close)}?")


def device_of(text: str) -> tuple[Module, PowerMode]:
    """A module and its power mode from ``NAME`` or ``NAME@MODE``; without a mode the module's default one.

    Raises:
        CatalogueError: there is no such module or mode.
    """
    name, _, mode = text.partition("@")
    module = find_module(name)
    return module, module.mode(mode or None)


def find_release(l4t: str) -> Release:
    """The JetPack of an L4T version such as ``36.4.3``.

    An unknown revision takes the newest known release of the same line (``36.4``).

    Raises:
        CatalogueError: the line is unknown.
    """
    for release in releases():
        if l4t in release.l4t:
            return release
    line = ".".join(l4t.split(".")[:2])
    same = [release for release in releases() if any(known.startswith(line + ".") for known in release.l4t)]
    if same:
        return same[-1]
    raise CatalogueError(f"L4T {l4t} is not in the catalogue; the newest it knows is {releases()[-2].l4t[-1]}")


def releases_for(module: Module) -> tuple[Release, ...]:
    """The JetPack releases that support a module, oldest first."""
    return tuple(release for release in releases() if release.runs_on(module))
