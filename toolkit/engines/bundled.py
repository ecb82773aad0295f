"""Build the engine of an unpacked bundle on this machine and verify it against the bundle's test vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.jetson.device.bundle import Manifest, Vector, verify
from toolkit.engines.base import Arrays, Engine
from toolkit.engines.build import build_engine, open_engine
from toolkit.engines.errors import EngineBuildError, NoDeviceError
from toolkit.engines.settings import BuildSettings
from toolkit.engines.sidecar import sidecar_path
from toolkit.engines.trt_build import form_for
from toolkit.variants import EngineKind


@dataclass(frozen=True)
class BundledEngine:
    """An engine whose codes agree with the bundle's.

    Attributes:
        path: of the engine; its sidecar is beside it.
        form: of the network that was built.
        equal, within_one: shares of codes that agree with the host's exactly, and to one step.
    """

    path: Path
    form: str
    equal: float
    within_one: float


def build_bundled(
    root: Path, out: Path, engine: EngineKind = "tensorrt", form: str | None = None
) -> BundledEngine:
    """Build and verify; an engine that cannot be verified here, or fails, is removed again.

    Args:
        root: the unpacked bundle; every file of it is checked first.
        out: the engine file to write.
        engine: the library.
        form: of the bundle's network; the one that the installed library takes if not given.

    Raises:
        BundleError: the bundle is damaged.
        EngineBuildError: it lacks a network, the model cannot be built, or too few codes agree.
        NoDeviceError: the engine can be built here but not run, so that it cannot be verified.
        MissingExtraError: the library is not installed.
    """
    manifest = verify(root)
    chosen = form or _form(manifest, engine)
    if chosen not in manifest.networks:
        known = ", ".join(sorted(manifest.networks))
        raise EngineBuildError(f"the bundle has no network in form {chosen}; it has {known}")
    if not manifest.vectors:
        raise EngineBuildError("the bundle has no test vectors, so no engine can be verified; pack it again")
    settings = BuildSettings(
        engine=engine,
        precision="int8" if manifest.precision == "int8" else "fp16",
        max_batch=manifest.input.shape[0],
        wire_step=_wire_step(root),
    )
    build_engine(root / manifest.networks[chosen], out, settings)
    try:
        opened = open_engine(out)
        try:
            equal, within_one = agreement(root, manifest, opened, settings.wire_step)
        finally:
            opened.close()
        _demand(manifest, equal, within_one)
    except NoDeviceError as error:
        _remove(out)
        raise NoDeviceError(
            f"the engine was built but cannot be verified here, and was removed: {error}"
        ) from error
    except Exception:
        _remove(out)
        raise
    return BundledEngine(out, chosen, equal, within_one)


def agreement(root: Path, manifest: Manifest, engine: Engine, step: float | None) -> tuple[float, float]:
    """Shares of the test vectors' codes that an engine gives exactly, and to one step."""
    differences = []
    for vector in manifest.vectors:
        expected = np.fromfile(root / vector.expected, np.int8).astype(np.int64)
        codes = _codes(engine.run(vector_inputs(root, manifest, vector))[manifest.output.name], step)
        if codes.size != expected.size:
            raise EngineBuildError(f"{vector.expected} has {expected.size} codes, the engine wrote {codes.size}")
        differences.append(np.abs(codes.ravel() - expected))
    every = np.concatenate(differences)
    return float((every == 0).mean()), float((every <= 1).mean())


def vector_inputs(root: Path, manifest: Manifest, vector: Vector) -> Arrays:
    """A test vector's inputs by name."""
    files = [name for name in (vector.input, vector.noise) if name]
    return {
        port.name: np.fromfile(root / name, "<f4").reshape(port.shape)
        for port, name in zip(manifest.inputs, files, strict=True)
    }


def _codes(output: NDArray[Any], step: float | None) -> NDArray[np.int64]:
    """Codes as whole numbers; a float output is codes times the step."""
    if output.dtype.kind == "f" and step is not None:
        output = np.rint(output / np.float32(step))
    return output.astype(np.int64)


def _demand(manifest: Manifest, equal: float, within_one: float) -> None:
    if equal < manifest.equal or within_one < manifest.within_one:
        raise EngineBuildError(
            f"the engine's codes differ from the host's: {equal:.4f} are equal (at least {manifest.equal}), "
            f"{within_one:.4f} within one step (at least {manifest.within_one}); it was removed"
        )


def _form(manifest: Manifest, engine: EngineKind) -> str:
    """The installed library's form; ONNX Runtime takes any, and form A is the vectors' own."""
    if manifest.precision != "int8":
        return "float"
    wanted = form_for(engine)
    return "a" if wanted == "cpu" else wanted


def _wire_step(root: Path) -> float | None:
    path = root / "wire.json"
    step = json.loads(path.read_text(encoding="utf-8")).get("step") if path.is_file() else None
    return float(step) if step else None


def _remove(out: Path) -> None:
    for path in (out, sidecar_path(out)):
        path.unlink(missing_ok=True)
