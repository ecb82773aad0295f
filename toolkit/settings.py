"""The schema of a run's YAML: one section per stage, each defined by the library that does the work."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from targets.errors import TargetError
from targets.jetson.catalogue import device_of
from toolkit.checks.limits import Limit, load_limits
from toolkit.datasets.settings import DataSettings
from toolkit.device import describe_machine, usable_cores
from toolkit.engines.settings import BuildSettings
from toolkit.errors import SettingsError
from toolkit.export.settings import ExportSettings
from toolkit.patrol.quantization_settings import QuantizeSettings
from toolkit.patrol.settings import DefenceSettings, PatrolSettings, TrainSettings
from toolkit.privacy.suite import AttackSettings
from toolkit.profiling import ProfileSettings
from toolkit.settings_file import read_settings
from toolkit.surgery import PlanSettings, SourceSettings


class Section(BaseModel):
    """Base of the sections that are defined here."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PictureSettings(Section):
    """Size of the network's input in pixels, and how pictures get it."""

    height: int = Field(default=64, ge=32, le=1024)
    width: int = Field(default=64, ge=32, le=1024)
    interpolation: Literal["area", "linear"] = "area"


class EnterSettings(Section):
    """Where the run begins.

    Attributes:
        kind: ``train`` from scratch; ``checkpoint`` (a .pth file with torchvision's names, or a folder that this
            toolkit saved): the run begins at ``slim``; ``onnx``: a file with a named cut: it begins at
            ``quantize``.
        path: the checkpoint or the ONNX file.
        cut: for ``onnx``: name of the tensor or node whose output is sent.
        normalization: for ``onnx``: whether the network normalizes its input itself (``inside``).
    """

    kind: Literal["train", "checkpoint", "onnx"] = "train"
    path: Path | None = None
    cut: str = ""
    normalization: Literal["inside", "outside"] = "inside"

    @model_validator(mode="after")
    def _complete(self) -> EnterSettings:
        if self.kind != "train" and self.path is None:
            raise ValueError(f"kind {self.kind} needs path")
        if self.kind == "onnx" and not self.cut:
            raise ValueError("kind onnx needs cut, the name of a tensor or node")
        return self


class ModelSettings(Section):
    """The re-identification network (``toolkit.models``)."""

    backbone: str = "resnet18"
    cut: str = "layer2"
    last_stride: Literal[1, 2] = 1
    pooling: Literal["gap", "gem"] = "gap"
    embedding: int = Field(default=0, ge=0, description="dimensions of a linear reduction; 0: none")
    width: float = Field(default=1.0, gt=0, le=4)
    bottleneck: int = Field(default=0, ge=0, description="channels behind the cut that are sent; 0: none")
    bottleneck_pool: int = Field(default=1, ge=1, description="side of the average pooling behind it")

    @model_serializer(mode="wrap")
    def _without_bottleneck(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings without one keep the hash that they had before there was one."""
        body: dict[str, Any] = handler(self)
        return body if self.bottleneck else {k: v for k, v in body.items() if not k.startswith("bottleneck")}


class WireSettings(Section):
    """The codes that are sent; the step is chosen once, from training pictures.

    Attributes:
        bits: of a code.
        noise: standard deviation, in wire steps, of the private noise that the deployed edge half adds before its
            last quantizer, drawn on the device and never sent; 0: none. A network should be trained with as much
            (``patrol.noise``, ``slim.finetune.noise``).
    """

    bits: int = Field(default=8, ge=2, le=8)
    noise: float = Field(default=0.0, ge=0, le=64)

    @model_serializer(mode="wrap")
    def _without_noise(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings without noise keep the hash that they had before there was any."""
        body: dict[str, Any] = handler(self)
        return body if self.noise else {name: value for name, value in body.items() if name != "noise"}


class SlimSettings(SourceSettings, Section):
    """From a dense or masked network to a smaller one; what goes is decided as in ``SourceSettings``.

    Attributes:
        plan: alignment, and what may be removed.
        finetune: training of the slim network; 0 epochs leave it as it is.
    """

    plan: PlanSettings = PlanSettings()
    finetune: DefenceSettings = DefenceSettings(train=TrainSettings(epochs=10, learning_rate=5e-4))


class EvaluateSettings(Section):
    """Re-identification with what was deployed."""

    batch: int = Field(default=64, ge=1)
    bootstrap: int = Field(default=1000, ge=100)


class ReportSettings(Section):
    """The report.

    Attributes:
        title: heading; the run's name when empty.
        publish: leave real pictures out.
        pictures: columns of the picture grid.
        measured: records of devices (``patrol-edge deploy --save``), or folders of them, each of a network of this
            run.
    """

    title: str = ""
    publish: bool = False
    pictures: int = Field(default=8, ge=1, le=32)
    measured: tuple[Path, ...] = ()


class CheckSettings(Section):
    """The gate: limits here, or in a file of their own, or both."""

    limits: tuple[Limit, ...] = ()
    file: Path | None = None


class RunSettings(Section):
    """Everything that decides what a run makes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    seed: int = Field(default=0, ge=0, lt=2**31)
    threads: int = Field(default=0, ge=0, le=256, description="0: every core this process may use")
    data: DataSettings = DataSettings()
    picture: PictureSettings = PictureSettings()
    enter: EnterSettings = EnterSettings()
    model: ModelSettings = ModelSettings()
    wire: WireSettings = WireSettings()
    train: TrainSettings = TrainSettings()
    patrol: PatrolSettings = PatrolSettings()
    slim: SlimSettings = SlimSettings()
    export: ExportSettings = ExportSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    build: BuildSettings = BuildSettings()
    profile: ProfileSettings = ProfileSettings()
    devices: tuple[str, ...] = Field(
        default=("orin-nano-8gb",),
        description="Jetsons to predict for: NAME or NAME@MODE (patrol-edge devices)",
    )
    attack: AttackSettings = AttackSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    report: ReportSettings = ReportSettings()
    check: CheckSettings = CheckSettings()

    @field_validator("devices")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                device_of(name)
            except TargetError as error:
                raise ValueError(str(error)) from error
        return names

    def thread_count(self) -> int:
        """Threads that computations use."""
        return self.threads or usable_cores()

    def use_threads(self) -> None:
        """Hold torch and OpenCV to the run's threads, so that the same command repeats the same sums."""
        os.environ.setdefault("OMP_NUM_THREADS", str(self.thread_count()))
        import cv2
        import torch

        torch.set_num_threads(self.thread_count())
        cv2.setNumThreads(self.thread_count())


def load_settings(path: Path, changes: Sequence[str] = ()) -> RunSettings:
    """Read a run's YAML; paths in it are looked up in the working folder, then in the file's folder.

    Raises:
        SettingsError: see :func:`toolkit.settings_file.read_settings`; or a file that it names is wrong.
    """
    settings = read_settings(path, RunSettings, changes)
    base = path.parent
    updates: dict[str, Any] = {}
    if settings.data.root is not None:
        updates["data"] = settings.data.model_copy(update={"root": _absolute(base, settings.data.root)})
    if settings.enter.path is not None:
        entry = _absolute(base, settings.enter.path)
        if not entry.exists():
            raise SettingsError(f"enter.path: {entry} does not exist")
        updates["enter"] = settings.enter.model_copy(update={"path": entry})
    if settings.report.measured:
        measured = tuple(_absolute(base, path) for path in settings.report.measured)
        updates["report"] = settings.report.model_copy(update={"measured": measured})
    if settings.check.file is not None:
        limits = _absolute(base, settings.check.file)
        load_limits(limits)  # what is wrong in it is said now, not when the run ends
        updates["check"] = settings.check.model_copy(update={"file": limits})
    return settings.model_copy(update=updates)


def _absolute(base: Path, path: Path) -> Path:
    path = path.expanduser()
    return path.resolve() if path.is_absolute() or path.exists() else (base / path).resolve()


PACKAGES = (
    "patrol-edge",
    "numpy",
    "torch",
    "torch-pruning",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "opencv-python-headless",
    "tensorrt-rtx",
    "tensorrt",
)


def environment() -> dict[str, Any]:
    """Machine, versions and revision, as the manifest keeps them."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "packages": versions,
        "revision": _revision(),
    }


def _revision() -> str:
    """The git revision of this toolkit's checkout, empty when it is installed from a package."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
