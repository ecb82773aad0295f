"""Options of calibration. A plain frozen dataclass, which pydantic validates where it is embedded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from calibration.errors import SettingsError

Method = Literal["minmax", "percentile", "entropy", "mse"]
ActivationMethod = Literal["minmax", "percentile", "entropy", "mse", "auto"]
WeightMethod = Literal["minmax", "percentile", "mse", "auto"]
Choice = Literal["int8", "float"]
Form = Literal["a", "b", "cpu", "fp16"]
FORMS: tuple[Form, ...] = ("a", "b", "cpu", "fp16")


@dataclass(frozen=True)
class CalibrationSettings:
    """How to calibrate.

    Attributes:
        method: threshold of activations; ``auto`` takes per tensor the one that disturbs the wire least, ``mse``
            where no other is clearly better.
        weight_method: threshold of weights, per channel; ``auto`` likewise, per layer.
        percentile: share of values inside the threshold, in percent.
        bins: of the histogram of absolute values; a power of two.
        forward_pictures: how many pictures go through the network at once (bounds memory).
        probe_pictures: how many pictures are kept to compare the forms and to correct biases.
        judge_pictures: how many of these show what each candidate threshold does to the wire.
        keep_float: names of layers to leave unquantized.
        first_layer, depthwise: whether these become INT8.
        bias_correction: take the mean error of quantized weights back out of the bias.
        forms: which networks to write.
        threads: of ONNX Runtime; 0 lets it choose.
        pictures_hash, preprocess_hash: what the pictures are and how they were made; part of the cache's key.
    """

    method: ActivationMethod = "auto"
    weight_method: WeightMethod = "auto"
    percentile: float = 99.99
    bins: int = 8192
    forward_pictures: int = 8
    probe_pictures: int = 8
    judge_pictures: int = 2
    keep_float: tuple[str, ...] = field(default=())
    first_layer: Choice = "int8"
    depthwise: Choice = "int8"
    bias_correction: bool = True
    forms: tuple[Form, ...] = FORMS
    threads: int = 0
    pictures_hash: str = ""
    preprocess_hash: str = ""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, allowed in (
            ("method", get_args(ActivationMethod)),
            ("weight_method", get_args(WeightMethod)),
            ("first_layer", get_args(Choice)),
            ("depthwise", get_args(Choice)),
        ):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; one of {', '.join(allowed)}")
        if not 50.0 < self.percentile <= 100.0:
            raise SettingsError(f"percentile is {self.percentile}; it lies above 50 and at most at 100")
        if self.bins < 2048 or self.bins & (self.bins - 1):
            raise SettingsError(f"bins is {self.bins}; take a power of two from 2048 on")
        for name in ("forward_pictures", "probe_pictures", "judge_pictures"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; at least 1")
        if not self.forms or set(self.forms) - set(FORMS):
            raise SettingsError(f"forms are {self.forms}; some of {', '.join(FORMS)}")
        if self.threads < 0:
            raise SettingsError(f"threads is {self.threads}; 0 (automatic) or more")
