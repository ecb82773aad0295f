"""Options of quantization-aware fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from toolkit.patrol.settings import TrainSettings

SCHEDULE = TrainSettings(epochs=4, learning_rate=1e-4, weight_decay=0.0, precision="fp32")


class QuantizationTraining(BaseModel):
    """How the INT8 edge half is trained further (``toolkit.patrol.quantization``).

    Attributes:
        train: the schedule; a batch is the product of identities, pictures and augmentations. Its losses are those
            of ``task``.
        when: ``needed`` trains only when post-training quantization loses more than ``limit``.
        limit: of mean average precision (0.003 are 0.3 points), on training pictures.
        feature: weight of the squared error between the decoded codes and the FP32 half's feature, relative to the
            feature's power. It also keeps the codes what the attacks were measured on.
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
