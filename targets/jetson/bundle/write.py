"""Writes a bundle: networks, calibration cache, test vectors, limits, the device's tools, hashes of all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.errors import BundleError
from targets.jetson.catalogue import find_module

FORMS = ("a", "b", "float")
OLDEST = {"a": [8, 5], "b": [10, 0], "float": [8, 5]}
BUILD_MB = 1200
TEXTS = ("limits.json", "preprocess.json", "wire.json")


@dataclass(frozen=True)
class TestVector:
    """One input and the codes that the host computed from it with the network of the bundle.

    Attributes:
        picture: float32 (1, 3, H, W) in [0, 1].
        codes: int8 (1, C, h, w).
        noise: float32 (1, C, h, w), the network's second input where it has private noise.
    """

    __test__ = False

    picture: NDArray[np.float32]
    codes: NDArray[np.int8]
    noise: NDArray[np.float32] | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        """Of picture, codes and noise."""
        return self.picture.shape, self.codes.shape, None if self.noise is None else self.noise.shape


@dataclass(frozen=True)
class BundleSpec:
    """What goes into a bundle.

    Attributes:
        name: of the network or run.
        networks: ONNX file by form: ``a``, ``b``, ``float``.
        vectors: at least one.
        modules: catalogue keys it may be built on; empty for any.
        precision: ``int8`` or ``fp16``.
        texts: content of ``preprocess.json``, ``wire.json`` and, where there are, ``limits.json``.
        calibration_cache: for DLA on TensorRT before 11.
        input_name, output_name, noise_name: of the networks; the last where the vectors have noise.
        free_mb: memory that must be free while building, in MiB.
        equal, within_one: shares of codes that must agree.
    """

    name: str
    networks: Mapping[str, Path]
    vectors: tuple[TestVector, ...]
    modules: tuple[str, ...] = ()
    precision: str = "int8"
    texts: Mapping[str, str] = field(default_factory=dict)
    calibration_cache: Path | None = None
    input_name: str = "picture"
    output_name: str = "wire"
    noise_name: str = "noise"
    free_mb: int = BUILD_MB
    equal: float = 0.9
    within_one: float = 0.995


def write_bundle(spec: BundleSpec, out: Path) -> str:
    """Write the archive (``.tar.gz``); the same content gives the same bytes.

    Returns:
        sha256 of the archive.

    Raises:
        BundleError: the specification lacks something or contradicts itself.
        CatalogueError: a module is unknown.
    """
    _check(spec)
    files = _collect(spec)
    files["manifest.json"] = _manifest(spec, files)
    listed = sorted(name for name in files if name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in listed)
    files["SHA256SUMS"] = sums.encode()
    body = _archive(spec.name, files)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(out.name + ".partial")
    scratch.write_bytes(body)
    scratch.replace(out)
    return hashlib.sha256(body).hexdigest()


def manifest_of(archive: Path) -> dict[str, Any]:
    """The manifest of a packed bundle.

    Raises:
        BundleError: not a bundle.
    """
    try:
        with tarfile.open(archive) as opened:
            names = [name for name in opened.getnames() if name.endswith("/manifest.json")]
            member = opened.extractfile(min(names, key=len))
            assert member is not None
            content: dict[str, Any] = json.loads(member.read())
    except (OSError, tarfile.TarError, ValueError) as error:
        raise BundleError(f"{archive} is no bundle ({error}); write one with: patrol-edge bundle") from error
    return content


def _check(spec: BundleSpec) -> None:
    unknown = set(spec.networks) - set(FORMS)
    if unknown or not spec.networks:
        raise BundleError(
            f"a bundle needs networks of the forms {', '.join(FORMS)}, not {sorted(unknown) or 'none'}"
        )
    if not spec.vectors:
        raise BundleError("a bundle needs at least one test vector, or its engine cannot be verified")
    if set(spec.texts) - set(TEXTS):
        raise BundleError(f"a bundle has the texts {', '.join(TEXTS)}, not {', '.join(sorted(spec.texts))}")
    first = spec.vectors[0]
    for vector in spec.vectors:
        floats = (vector.picture, *(() if vector.noise is None else (vector.noise,)))
        if any(values.dtype != np.float32 for values in floats) or vector.codes.dtype != np.int8:
            raise BundleError("test vectors are float32 pictures (and noise) and int8 codes")
        if vector.shapes != first.shapes:
            raise BundleError("test vectors differ in shape, or in having noise; a bundle has one input size")
    for key in spec.modules:
        find_module(key)


def _collect(spec: BundleSpec) -> dict[str, bytes]:
    """Content of every file but the manifest, by path."""
    files = {f"model/edge.{form}.onnx": path.read_bytes() for form, path in spec.networks.items()}
    if spec.calibration_cache is not None:
        files["model/calibration.cache"] = spec.calibration_cache.read_bytes()
    for name, text in spec.texts.items():
        files[name] = text.encode()
    for number, vector in enumerate(spec.vectors):
        files[f"vectors/input_{number}.bin"] = np.ascontiguousarray(vector.picture, "<f4").tobytes()
        files[f"vectors/wire_{number}.bin"] = np.ascontiguousarray(vector.codes).tobytes()
        if vector.noise is not None:
            files[f"vectors/noise_{number}.bin"] = np.ascontiguousarray(vector.noise, "<f4").tobytes()
    for item in resources.files("targets.jetson.device").iterdir():
        if item.name.endswith((".py", ".json")):
            files[f"device/{item.name}"] = item.read_bytes()
    files["build.sh"] = resources.files("targets.jetson.bundle").joinpath("build.sh").read_bytes()
    return files


def _manifest(spec: BundleSpec, files: Mapping[str, bytes]) -> bytes:
    first = spec.vectors[0]
    noise = {} if first.noise is None else {"name": spec.noise_name, "shape": list(first.noise.shape)}
    content = {
        "version": 1,
        "name": spec.name,
        "modules": list(spec.modules),
        "precision": spec.precision,
        "networks": {form: f"model/edge.{form}.onnx" for form in spec.networks},
        "input": {"name": spec.input_name, "shape": list(first.picture.shape), "dtype": "float32"},
        **({"noise": {**noise, "dtype": "float32"}} if noise else {}),
        "output": {"name": spec.output_name, "shape": list(first.codes.shape), "dtype": "int8"},
        "needs": {"tensorrt": min(OLDEST[form] for form in spec.networks), "free_mb": spec.free_mb},
        "tolerance": {"equal": spec.equal, "within_one": spec.within_one},
        "vectors": [
            {
                "input": f"vectors/input_{i}.bin",
                **({"noise": f"vectors/noise_{i}.bin"} if noise else {}),
                "expected": f"vectors/wire_{i}.bin",
            }
            for i in range(len(spec.vectors))
        ],
        "files": {
            name: {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
            for name, body in sorted(files.items())
        },
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _archive(name: str, files: Mapping[str, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, body in sorted(files.items()):
            item = tarfile.TarInfo(f"{name}/{path}")
            item.size = len(body)
            item.mode = 0o755 if path.endswith(".sh") else 0o644
            archive.addfile(item, io.BytesIO(body))
    return gzip.compress(plain.getvalue(), mtime=0)
