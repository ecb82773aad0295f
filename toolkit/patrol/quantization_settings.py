"""Options of the ``quantize`` stage beyond calibration: fine-tuning, layers kept in FP16, sensitivity.

No postponed annotations here: the reader of settings files looks into the types for its advice.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from calibration.errors import SettingsError
from calibration.settings import CalibrationSettings
from toolkit.patrol.settings import TrainSettings

SCHEDULE = TrainSettings(epochs=4, learning_rate=1e-4, weight_decay=0.0, precision="fp32")
Scored = Literal["feature", "map", "leakage"]


class QuantizationTraining(BaseModel):
    """How the INT8 edge half is trained further (``toolkit.patrol.quantization``).

    Attributes:
        train: the schedule; a batch is the product of identities, pictures and augmentations. Its losses are those
            of ``task``.
        when: ``needed`` trains only when post-training quantization loses more than ``limit``.
        limit: of mean average precision (0.003 are 0.3 points), on training pictures.
        feature: weight of the squared error between the decoded codes and the FP32 half's feature, relative to the
            feature's power. It also keeps the codes what privacy was trained for.
        embedding: weight of the same error of the embedding behind the frozen cloud half.
        task: weight of identity and triplet loss through the frozen cloud half.
        scale_rate: learning rate of a scale's logarithm, as a multiple of ``train.learning_rate``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train: TrainSettings = SCHEDULE
    when: Literal["needed", "always"] = "needed"
    limit: float = Field(default=0.003, ge=0, lt=1)
    feature: float = Field(default=1.0, ge=0)
    embedding: float = Field(default=1.0, ge=0)
    task: float = Field(default=0.0, ge=0)
    scale_rate: float = Field(default=10.0, ge=0)


@dataclass(frozen=True)
class QuantizeSettings(CalibrationSettings):
    """The ``quantize`` section: calibration, and what follows where it loses too much.

    Attributes:
        finetune: quantization-aware fine-tuning; None leaves calibration as it is.
        max_map_drop: mean average precision that INT8 may lose (0.003 are 0.3 points), on training pictures; more
            keeps layers in FP16, those whose gain costs the least predicted time on the run's first device. None
            keeps none.
        sensitivity: what each layer's part in the loss is measured by: ``feature`` (dB at the wire), ``map``, or
            ``leakage`` (the error of one decoder, fitted on the FP32 half's codes and never again).
        development: training pictures that mean average precision and leakage are measured on. Test pictures are
            never looked at; on training identities a loss shows later than on new ones.
    """

    finetune: QuantizationTraining | None = field(default_factory=QuantizationTraining)
    max_map_drop: float | None = None
    sensitivity: tuple[Scored, ...] = ("feature",)
    development: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_map_drop is not None and not 0 <= self.max_map_drop < 1:
            raise SettingsError(f"max_map_drop is {self.max_map_drop}; it lies from 0 to below 1")
        if self.development < 8:
            raise SettingsError(f"development is {self.development}; at least 8 pictures")

    def calibration(self, **changes: Any) -> CalibrationSettings:
        """The calibration's part, with changes."""
        values = {item.name: getattr(self, item.name) for item in fields(CalibrationSettings)}
        return CalibrationSettings(**{**values, **changes})
