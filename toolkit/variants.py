"""What a variant is: network x precision x form x wire x engine. Artifacts and metrics are keyed by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from toolkit.errors import SettingsError

Network = Literal["dense", "masked", "slim", "whole"]
Precision = Literal["fp32", "fp16", "int8"]
Form = Literal["float", "a", "b", "cpu"]
EngineKind = Literal["onnxruntime", "tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True)
class Variant:
    """One way to run the edge half.

    Attributes:
        network: the dense network, the masked one, the physically smaller one, or all of that on the device
            with the embedding on the wire.
        precision: of the computation.
        form: ``float`` (no Q/DQ inside), ``a`` (TensorRT 8.x), ``b`` (strongly typed), ``cpu`` (ONNX Runtime).
        bits: of the wire codes (2 to 8), or 32 for a float wire.
        engine: what runs it.
    """

    network: Network
    precision: Precision
    form: Form
    bits: int
    engine: EngineKind

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.network, Network),
            (self.precision, Precision),
            (self.form, Form),
            (self.engine, EngineKind),
        ):
            if value not in get_args(allowed):
                raise SettingsError(f"a variant has no {value!r}; one of {', '.join(get_args(allowed))}")
        if self.bits not in (2, 3, 4, 5, 6, 7, 8, 32):
            raise SettingsError(f"the wire has 2 to 8 bits, or 32 for floats, not {self.bits}")

    @property
    def key(self) -> str:
        """Stable text key, e.g. ``slim-int8-cpu-w8-onnxruntime``; also a folder name."""
        return f"{self.network}-{self.precision}-{self.form}-w{self.bits}-{self.engine}"

    @classmethod
    def from_key(cls, key: str) -> Variant:
        """The variant that a key names.

        Raises:
            SettingsError: the text is not a variant's key.
        """
        parts = key.split("-")
        if len(parts) != 5 or not parts[3].startswith("w") or not parts[3][1:].isdigit():
            raise SettingsError(f"not a variant: {key!r} (form: network-precision-form-wBITS-engine)")
        network, precision, form, wire, engine = parts
        return cls(network, precision, form, int(wire[1:]), engine)  # type: ignore[arg-type]

    @property
    def title(self) -> str:
        """For people: ``slim INT8 (cpu form, 8-bit wire, onnxruntime)``."""
        return f"{self.network} {self.precision.upper()} ({self.form} form, {self.bits}-bit wire, {self.engine})"
