"""What was measured on devices: the records of ``patrol-edge deploy --save``, as metrics and for the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.errors import ArtifactError
from toolkit.metrics import Metric
from toolkit.runs import RunFolder, file_sha256
from toolkit.stages.sent import FOLDER, STAGE, file_of
from toolkit.variants import Variant

PROTOCOL = "on the device, batch 1"
LATENCIES = ("p50", "p90", "p95", "p99")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Network(_Part):
    """The network that the engine was built from."""

    form: Literal["a", "b", "float"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class DeviceRecord(_Part):
    """One device's build and profile.

    Attributes:
        network: form and hash of the ONNX file.
        precision: of the engine.
        build: the builder's words: ``equal`` is the share of codes that agree with the host's.
        metrics: the profile's: ``latency_ms``, ``n``, ``device``, ``throttled``, ``gpu_mhz``, and where the rails
            were sampled ``power_w``, ``power_rails`` and ``power_curve`` (seconds, watts).
    """

    schema_version: Literal[1] = Field(alias="schema")
    network: Network
    precision: Literal["int8", "fp16"]
    build: dict[str, Any] = {}
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A record, and which variant it measured on what."""

    record: DeviceRecord
    variant: str
    machine: str

    @property
    def power(self) -> list[tuple[float, float]]:
        """Power over time (seconds, watts); empty where the rails were not sampled."""
        return [(float(second), float(watts)) for second, watts in self.record.metrics.get("power_curve", [])]

    def metrics(self) -> Iterator[Metric]:
        """Latency, power and energy; what was not measured is absent."""
        found = self.record.metrics
        base: dict[str, Any] = {"variant": self.variant, "machine": self.machine, "protocol": PROTOCOL}
        count = int(found["n"])
        for name in LATENCIES:
            if name in found["latency_ms"]:
                value = float(found["latency_ms"][name])
                yield Metric(name=f"latency.{name}", value=value, unit="ms", n=count, **base)
        if "power_w" in found:
            watts, samples = float(found["power_w"]), int(found["power_samples"])
            yield Metric(name="power.mean", value=watts, unit="W", n=samples, **base)
            joules = watts * float(found["latency_ms"]["p50"])
            yield Metric(name="energy.per_picture", value=joules, unit="mJ", n=samples, **base)

    def cells(self) -> tuple[str, ...]:
        """A row of the report's table."""
        found = self.record.metrics
        latency = found["latency_ms"]
        clocks = found.get("gpu_mhz") or []
        return (
            self.machine,
            f"{self.record.precision.upper()} ({self.record.network.form} form)",
            *(f"{latency[name]:.3g}" if name in latency else "" for name in ("p50", "p99")),
            f"{found['power_w']:.3g}" if "power_w" in found else "",
            f"{min(clocks):.0f} to {max(clocks):.0f}" if clocks else "not read",
            "yes" if found.get("throttled") else "no",
            f"{self.record.build['equal']:.2%}" if "equal" in self.record.build else "",
        )


COLUMNS = (
    "device", "engine", "#median, ms", "#99th percentile, ms", "#W", "GPU clock, MHz", "throttled", "#codes equal",
)  # fmt: skip


def record_files(paths: tuple[Path, ...]) -> list[Path]:
    """The records among files and folders.

    Raises:
        ArtifactError: a path that does not exist, or a folder without a record.
    """
    found: list[Path] = []
    for path in paths:
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise ArtifactError(f"{path} holds no device record; write one with: patrol-edge deploy --save {path}")
        found += files
    return found


def read_measured(paths: tuple[Path, ...], run: RunFolder, bits: int) -> list[Measured]:
    """Read records and make sure that each measured a network of this run.

    Raises:
        ArtifactError: a file is not a device record, or of another network.
    """
    networks = _networks(run)
    found = []
    for file in record_files(paths):
        try:
            record = DeviceRecord.model_validate_json(file.read_text(encoding="utf-8"))
            known = networks.get(record.network.sha256)
            if known is None:
                raise ArtifactError(
                    f"{file} was measured with another network than this run's; bundle this run and deploy that"
                )
            variant = Variant(known, record.precision, record.network.form, bits, "tensorrt")  # type: ignore[arg-type]
            item = Measured(record, variant.key, machine_of(record.metrics["device"]))
            list(item.metrics()), item.cells(), item.power
        except (OSError, ValidationError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{file} is not a device record: {' '.join(str(error).split())[:200]}") from error
        found.append(item)
    return found


def _networks(run: RunFolder) -> dict[str, str]:
    """sha256 to the network's name, of everything that a bundle of this run can carry."""
    final = json.loads(run.path("export", "networks.json").read_text(encoding="utf-8"))["final"]
    files = [run.path("export", final, "edge.onnx")]
    files += [run.path("quantize", f"edge.{form}.onnx") for form in "ab"]
    private = [(STAGE, FOLDER, file_of(form)) for form in ("float", "a", "b")]
    files += [run.path(*parts) for parts in private if run.has(*parts)]
    return {file_sha256(file): final for file in files}


def machine_of(device: dict[str, Any]) -> str:
    """``NVIDIA Jetson Orin Nano, 15W, L4T 36.4.3, TensorRT 10.3.0``: no name of a host or user."""
    mode, release = device.get("mode") or {}, device.get("l4t") or {}
    parts = [device.get("model") or device.get("module") or "a Jetson", mode.get("name") or ""]
    parts += [f"L4T {release['version']}"] if "version" in release else []
    parts += [f"TensorRT {device['tensorrt']}"] if device.get("tensorrt") else []
    return ", ".join(part for part in parts if part)
