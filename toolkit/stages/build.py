"""Stage ``build``: engines of every variant, and the codes that they really send."""

from __future__ import annotations

import logging
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.arrays import create_array
from toolkit.engines import EngineStatus, build_engine, form_for, open_engine, probe
from toolkit.engines.edge_inputs import Draw, edge_inputs, no_noise, noise_shape
from toolkit.engines.settings import RunSettings as OpenSettings
from toolkit.errors import EngineError
from toolkit.export.settings import EMBEDDING_BITS
from toolkit.preprocess import to_input
from toolkit.progress import track
from toolkit.settings import RunSettings
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.export import CLOUD, WHOLE, exported, networks_of, wire_of
from toolkit.stages.sent import FOLDER, file_of, has_noise, plain_network, warn_of_training, write_private
from toolkit.stages.slim import COST
from toolkit.variants import EngineKind, Variant
from toolkit.wire import standard_normal

logger = logging.getLogger(__name__)
VARIANTS = "variants.json"
BATCH = 32


class BuildStage(Stage):
    """Dense FP32, slim FP32 and INT8 in ONNX Runtime, and in TensorRT where it runs; else INT8 is only built."""

    name = "build"
    version = 1
    sections = ("build", "wire")
    inputs = ("data", "slim", "export", "quantize")

    def examine(self, settings: RunSettings) -> None:
        warn_of_training(settings)

    def run(self, context: Context) -> None:
        data = RunData.load(context)
        networks, final = networks_of(context)
        noise = context.settings.wire.noise
        if noise:
            write_private(context)
        plan = plan_variants(networks, final, context.settings.wire.bits, probe(), noise)
        table = [self._build(context, data, planned) for planned in plan]
        for network in networks:
            self._cloud(context, network)
        deployed = [row["key"] for row in table if row["runs"] and row["precision"] == "int8"][-1]
        context.write_json(VARIANTS, {"variants": table, "deployed": deployed})
        context.summary.update(engines=len(table), deployed=deployed)

    def _build(self, context: Context, data: RunData, planned: Planned) -> dict[str, Any]:
        variant = planned.variant
        fmt = wire_of(context, variant.network)
        settings = context.settings.build.model_copy(
            update={
                "engine": variant.engine,
                "precision": variant.precision,
                "wire_step": fmt.step,
                "threads": context.settings.thread_count(),
            }
        )
        row: dict[str, Any] = {
            "key": variant.key,
            "network": variant.network,
            "precision": variant.precision,
            "engine": variant.engine,
            "runs": planned.runs,
            **({"noise": planned.noise} if planned.noise else {}),
        }
        if planned.noise:
            context.measure("wire.noise", planned.noise, unit="steps", variant=variant.key)
        for quantity, value in _cost(context, variant.network).items():
            unit = "bytes" if quantity.endswith("bytes") else "count"
            context.measure(f"edge.{quantity}", value, unit=unit, variant=variant.key)
        folder = context.folder / variant.key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            built = build_engine(planned.onnx(context), folder / engine_name(variant.engine), settings)
        except EngineError as error:
            if variant.engine == "onnxruntime":
                raise
            logger.warning("%s was not built: %s", variant.key, error)
            return {**row, "runs": False, "built": False, "why": str(error)}
        context.measure("size.engine", built.path.stat().st_size, unit="bytes", variant=variant.key)
        if row["runs"]:
            self._codes(context, data, variant, built.path)
        return {**row, "built": True, "file": built.path.name}

    def _cloud(self, context: Context, network: str) -> None:
        """The cloud half runs on the server, in FP32."""
        settings = context.settings.build.model_copy(
            update={"engine": "onnxruntime", "precision": "fp32", "threads": context.settings.thread_count()}
        )
        folder = context.folder / f"cloud-{network}"
        folder.mkdir(exist_ok=True)
        build_engine(exported(context, network, CLOUD), folder / CLOUD, settings)

    def _codes(self, context: Context, data: RunData, variant: Variant, path: Path) -> None:
        fmt = wire_of(context, variant.network)
        target = context.folder / "codes" / f"{variant.key}.npy"
        target.parent.mkdir(exist_ok=True)
        shape = (len(data.pictures), *fmt.shape)
        codes = create_array(target, np.int8, shape)
        random = noise_random(context.settings.seed, f"codes {variant.key}")
        with Encoder.open(path, context.settings.thread_count(), fmt.step, random) as encoder:
            starts = range(0, len(codes), BATCH)
            for start in track(starts, f"codes of {variant.key}"):
                rows = slice(start, start + BATCH)
                codes[rows] = encoder(np.asarray(data.pictures[rows]))
        codes.flush()


def _cost(context: Context, network: str) -> dict[str, int]:
    """What a network's edge half costs; empty for a user's own ONNX file."""
    if context.run.has("export", network, COST):
        return dict(context.read_json("export", network, COST))
    return dict(context.read_json("slim", COST)[network]) if context.run.has("slim", COST) else {}


def noise_random(seed: int, purpose: str) -> np.random.Generator:
    """The private noise of a run for one purpose: a run repeats itself, and no two purposes share a number."""
    return np.random.default_rng((seed, zlib.crc32(purpose.encode())))


class Encoder:
    """An edge engine as a function: uint8 pictures (N, H, W, 3) to int8 codes (N, C, h, w), as they are sent.

    Args:
        engine: an edge half.
        step: of its wire.
        random: of the private noise where the engine has it, drawn anew for every picture and call; None draws
            from the operating system, as a device does.
    """

    def __init__(self, engine: Any, step: float, random: np.random.Generator | None = None) -> None:
        self.engine, self.step, self._random = engine, step, random

    @classmethod
    def open(cls, path: Path, threads: int, step: float, random: np.random.Generator | None = None) -> Encoder:
        """Open an engine that this run built."""
        return cls(open_engine(path, OpenSettings(threads=threads)), step, random)

    @property
    def noisy(self) -> bool:
        """Whether the engine adds private noise."""
        return noise_shape(self.engine) is not None

    def signal(self, pictures: NDArray[np.uint8]) -> NDArray[np.int8]:
        """The codes without noise, which never leave a device."""
        return self._run(pictures, no_noise)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.close()

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.int8]:
        return self._run(pictures, partial(standard_normal, random=self._random))

    def _run(self, pictures: NDArray[np.uint8], draw: Draw) -> NDArray[np.int8]:
        parts = [
            self.engine.run(edge_inputs(self.engine, to_input(pictures[start : start + BATCH]), draw))["wire"]
            for start in range(0, len(pictures), BATCH)
        ]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Planned:
    """A variant, the form of the ONNX file that it is built from, and whether it can run on this machine.

    Attributes:
        noise: standard deviation, in steps, of the private noise inside; 0: none.
    """

    variant: Variant
    form: str
    runs: bool
    noise: float = 0.0

    def onnx(self, context: Context) -> Path:
        """The file, its content checked; one with noise was just written by this stage."""
        if self.noise:
            return context.folder / FOLDER / file_of(self.form)
        return plain_network(context.run, self.variant.network, self.form)


def plan_variants(
    networks: list[str], final: str, bits: int, engines: Sequence[EngineStatus], noise: float = 0.0
) -> list[Planned]:
    """The variants of a run: every network in FP32 and the last one in INT8, per engine that builds here.

    The whole network on the device comes last, in FP32: it is there for comparison.

    A TensorRT that runs here also gets the FP16 engine, which INT8 has to beat; one that only builds gets INT8.
    """
    split = [network for network in networks if network != WHOLE]
    planned = [_plain(network, bits) for network in split]
    planned.append(_int8(final, bits, "onnxruntime", True))
    for status in engines:
        if status.engine == "onnxruntime" or not status.can_build:
            continue
        if status.can_run:
            planned += _floats(split, final, bits, status.engine)
        planned.append(_int8(final, bits, status.engine, status.can_run))
    planned += [_plain(WHOLE, EMBEDDING_BITS)] if WHOLE in networks else []
    noisy = [has_noise(one.variant.network, one.variant.precision, networks, final) for one in planned]
    return [replace(one, noise=noise if adds else 0.0) for one, adds in zip(planned, noisy, strict=True)]


def _plain(network: str, bits: int) -> Planned:
    return Planned(Variant(network, "fp32", "float", bits, "onnxruntime"), "float", True)  # type: ignore[arg-type]


def _int8(network: str, bits: int, engine: EngineKind, runs: bool) -> Planned:
    form = form_for(engine)
    return Planned(Variant(network, "int8", form, bits, engine), form, runs)  # type: ignore[arg-type]


def _floats(networks: list[str], final: str, bits: int, engine: EngineKind) -> list[Planned]:
    """FP32 of every network and FP16 of the last: by a flag, or in a strongly typed file of its own."""
    planned = [
        Planned(Variant(network, "fp32", "float", bits, engine), "float", True)  # type: ignore[arg-type]
        for network in networks
    ]
    variant = Variant(final, "fp16", "float", bits, engine)  # type: ignore[arg-type]
    return [*planned, Planned(variant, "fp16" if form_for(engine) == "b" else "float", True)]


def engine_name(kind: EngineKind) -> str:
    """File name of an engine in its folder."""
    return "edge.onnx" if kind == "onnxruntime" else "edge.engine"


def running_variants(context: Context) -> list[str]:
    """Keys of the variants whose codes were made, in the order dense, slim, INT8."""
    return [row["key"] for row in context.read_json("build", VARIANTS)["variants"] if row["runs"]]


def deployed_variant(context: Context) -> str:
    """Key of the deployed variant."""
    return str(context.read_json("build", VARIANTS)["deployed"])


def codes_of(context: Context, key: str) -> NDArray[np.int8]:
    """Codes of every picture of the run, memory-mapped."""
    path = context.run.path("build", "codes", f"{key}.npy")
    codes: NDArray[np.int8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return codes


def noise_of(context: Context, key: str) -> float:
    """Standard deviation, in steps, of the private noise that a variant sends with; 0: none."""
    rows = context.read_json("build", VARIANTS)["variants"]
    return float(next(row.get("noise", 0.0) for row in rows if row["key"] == key))


def open_encoder(context: Context, key: str, purpose: str = "attack") -> Encoder:
    """The engine of a variant that runs here; ``purpose`` names the noise that it draws, where it does."""
    step = wire_of(context, Variant.from_key(key).network).step
    random = noise_random(context.settings.seed, f"{purpose} {key}")
    return Encoder.open(engine_path(context, key), context.settings.thread_count(), step, random)


def engine_path(context: Context, key: str) -> Path:
    """Engine file of a variant, checked with its sidecar."""
    return context.run.folder("build", key) / engine_name(Variant.from_key(key).engine)


def cloud_path(context: Context, network: str) -> Path:
    """Engine file of a network's cloud half."""
    return context.run.folder("build", f"cloud-{network}") / CLOUD
