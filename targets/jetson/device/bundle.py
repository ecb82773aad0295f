"""A bundle on a device: its manifest, and whether every file is what the host wrote."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from .errors import BundleError

VERSION = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
ENGINES = "engines"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Port:
    """The network's input or output: name, shape with the batch size, numpy's name of the type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Vector:
    """Files of one input and of the codes that the host computed for it, raw and little-endian.

    ``noise`` is the file of the second input, empty where the network has none.
    """

    input: str
    expected: str
    noise: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    Attributes:
        modules: keys it was made for; empty for any.
        networks: path of the network by form: ``a`` for TensorRT 8.x, ``b`` for 10 and newer, ``float``.
        noise: the second input, private noise, where the network has it; the device draws it for every picture.
        needs_tensorrt: the oldest TensorRT that takes one of them.
        needs_mb: MiB that must be free while the engine is built.
        equal, within_one: shares of codes that must agree with the host's exactly, and to one step.
        files: sha256 and size by path.
        id: sha256 of the manifest file.
    """

    name: str
    modules: tuple[str, ...]
    precision: str
    networks: Mapping[str, str]
    input: Port
    output: Port
    needs_tensorrt: tuple[int, ...]
    needs_mb: int
    equal: float
    within_one: float
    vectors: tuple[Vector, ...]
    files: Mapping[str, Mapping[str, Any]]
    id: str
    noise: Port | None = None

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Everything that the network reads."""
        return (self.input,) if self.noise is None else (self.input, self.noise)


def read_manifest(root: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises:
        BundleError: it is absent, damaged or of another version.
    """
    path = root / MANIFEST
    try:
        body = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{root} is no bundle: {MANIFEST} is missing; unpack the whole archive") from error
    try:
        content = json.loads(body)
        if content["version"] != VERSION:
            raise BundleError(f"{MANIFEST} has version {content['version']}, this bundle's tools read {VERSION}")
        return Manifest(
            name=content["name"],
            modules=tuple(content["modules"]),
            precision=content["precision"],
            networks=content["networks"],
            input=_port(content["input"]),
            output=_port(content["output"]),
            needs_tensorrt=tuple(content["needs"]["tensorrt"]),
            needs_mb=int(content["needs"]["free_mb"]),
            equal=float(content["tolerance"]["equal"]),
            within_one=float(content["tolerance"]["within_one"]),
            vectors=tuple(
                Vector(one["input"], one["expected"], one["noise"] if "noise" in content else "")
                for one in content["vectors"]
            ),
            files=content["files"],
            id=hashlib.sha256(body).hexdigest(),
            noise=_port(content["noise"]) if "noise" in content else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{MANIFEST} is damaged ({error}); copy the bundle again") from error


def _port(content: Mapping[str, Any]) -> Port:
    return Port(content["name"], tuple(int(dim) for dim in content["shape"]), content["dtype"])


def verify(root: Path) -> Manifest:
    """Check every file of a bundle against its manifest.

    Files beside those named are let be, but for scripts and networks: nothing unknown is built or run.

    Raises:
        BundleError: names the first file that is missing, changed or unknown.
    """
    manifest = read_manifest(root)
    for name, expected in sorted(manifest.files.items()):
        path = _inside(root, name)
        if not path.is_file():
            raise BundleError(f"{name} is missing from the bundle; copy the bundle again")
        if path.stat().st_size != expected["bytes"]:
            size = f"{path.stat().st_size} bytes where {expected['bytes']} were packed"
            raise BundleError(f"{name} has {size}; copy the bundle again")
        if file_sha256(path) != expected["sha256"]:
            raise BundleError(
                f"{name} was changed after packing; copy the bundle again, from the host that made it"
            )
    for folder in ("device", "model", "vectors"):
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and name not in manifest.files:
                raise BundleError(f"{name} does not belong to the bundle; remove it, or copy the bundle again")
    return manifest


def _inside(root: Path, name: str) -> Path:
    """The path of a file in the bundle; names that lead out of it are refused."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not re.fullmatch(r"[\w./-]+", name):
        raise BundleError(f"the manifest names {name!r}, which is no file of a bundle; do not use this bundle")
    return root / name


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for chunk in iter(lambda: source.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
