"""Options of training. Where the paper gives no value, the default is ours and not the authors'."""

from __future__ import annotations

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
from targets.jetson.predictor.predict import device_of as predicted_device
from toolkit.errors import ModelError
from toolkit.models.decoders import check_decoder_name
from toolkit.reid.augmentation import AugmentSettings
from toolkit.reid.losses import LossSettings

CostName = Literal["macs", "parameters", "activation_bytes", "wire_bytes"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainSettings(_Settings):
    """One phase of training: AdamW with a one-cycle learning rate on PK batches.

    The defaults train a ResNet-18 from scratch at 64 px.

    Attributes:
        epochs: passes over the identities; 0 leaves the network as it is.
        learning_rate: peak of the one-cycle schedule.
        warm_fraction: part of the schedule that rises.
        weight_decay: on matrices and kernels only.
        gradient_clip: largest gradient norm; 0 turns clipping off.
        identities, pictures, augmentations: a batch is their product.
        losses: identity and triplet loss.
        augment: strength of the augmentation.
        precision: ``bf16`` computes under autocast, parameters stay float32.
        device: ``cpu``, ``cuda`` or ``auto`` (cuda where there is one).
        patience: epochs without a better validation before training stops; 0 never stops. A run then holds out a
            tenth of its training identities, whose mAP is the validation.
        seed: of order, augmentation, noise and decoders.
    """

    epochs: int = Field(default=50, ge=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    warm_fraction: float = Field(default=0.2, gt=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    gradient_clip: float = Field(default=5.0, ge=0)
    identities: int = Field(default=24, ge=2)
    pictures: int = Field(default=2, ge=2)
    augmentations: int = Field(default=2, ge=1)
    losses: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    patience: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)


class LipschitzSettings(_Settings):
    """The Lipschitz term (``toolkit.patrol.lipschitz``).

    Attributes:
        form: ``raw`` is the paper's ratio; ``scale_free`` divides by the feature's energy, because shrinking a
            block lowers the raw constant and hides nothing.
        perturbation: ``gaussian`` (paper) or ``counterfactual`` (the same scene with its sensitive content
            changed; the training data must hold such pictures).
        sigma: standard deviation of the Gaussian perturbation, pictures in [0, 1].
        reduction: ``max`` takes the batch maximum as supremum, ``mean`` the batch mean.
        alpha: one weight for all blocks, or one per block.
        share: part of the batch that is perturbed each step; it bounds the cost.
        statistics: batch normalization of both passes from the ``running`` statistics or from the joint ``batch``.
        epsilon: added to every denominator.
    """

    form: Literal["raw", "scale_free"] = "raw"
    perturbation: Literal["gaussian", "counterfactual"] = "gaussian"
    sigma: float = Field(default=0.05, gt=0)
    reduction: Literal["max", "mean"] = "max"
    alpha: float | tuple[float, ...] = 0.02
    share: float = Field(default=0.25, gt=0, le=1)
    statistics: Literal["running", "batch"] = "running"
    epsilon: float = Field(default=1e-6, gt=0)


class AdversarySettings(_Settings):
    """Adversarial reconstruction (``toolkit.patrol.adversary``).

    Attributes:
        decoders: names from ``toolkit.models.decoders``; more than one is an ensemble.
        ensemble: the edge answers to the ``worst`` decoder of each picture (the one that reconstructs it best), to
            their ``mean``, or to one per step in ``turns`` (costs what one decoder costs).
        loss: ``mse``, ``ssim`` (1 - SSIM) or ``mixed`` (mean of the two). Errors are divided by the mean picture's
            error, so 1 means "no better than the mean picture".
        beta: weight of the reward for reconstruction error.
        ceiling: relative error of a picture after which more is not rewarded; it keeps the edge from winning by
            breaking one decoder.
        inner_steps: decoder steps per edge step.
        learning_rate: of the decoder (Adam).
        warmup_steps: decoder steps before the first joint step, and after a re-initialization.
        reset_every: epochs between re-initializations of one decoder in turn; 0 never.
    """

    decoders: tuple[str, ...] = ("adversary",)
    ensemble: Literal["worst", "mean", "turns"] = "worst"
    loss: Literal["mse", "ssim", "mixed"] = "mse"
    beta: float = Field(default=2.0, ge=0)
    ceiling: float = Field(default=1.0, gt=0)
    inner_steps: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    reset_every: int = Field(default=0, ge=0)

    @field_validator("decoders")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("name at least one decoder, or leave the adversary out")
        try:
            return tuple(check_decoder_name(name) for name in names)
        except ModelError as error:
            raise ValueError(str(error)) from error


class NoPeekSettings(_Settings):
    """Distance correlation between pictures and wire (``toolkit.patrol.nopeek``), a baseline of the field.

    Attributes:
        weight: of the correlation in the loss.
    """

    weight: float = Field(default=1.0, gt=0)


class LinearSettings(_Settings):
    """The linear adversary in closed form (``toolkit.patrol.linear``); ours.

    Attributes:
        beta: weight of the reward for its error.
        ceiling: relative error after which more is not rewarded.
        coarse: side of the coarsened picture that it predicts, in values.
        ridge: of the regression on standardized values.
        memory: batches over which its moments are averaged.
        features: rectified random mixtures of what is sent, beside the values themselves, so that it is not blind
            to what is not linear; 0 leaves them out.
    """

    beta: float = Field(default=2.0, gt=0)
    ceiling: float = Field(default=1.0, gt=0)
    coarse: int = Field(default=16, ge=1, le=32)
    ridge: float = Field(default=0.1, gt=0)
    memory: int = Field(default=20, ge=1)
    features: int = Field(default=1024, ge=0, le=4096)


class DistillSettings(_Settings):
    """The dense network as a teacher (``toolkit.patrol.distillation``).

    Attributes:
        weight: of the term in the loss.
        form: ``embedding`` takes 1 - cosine of the two embeddings of a picture; ``relational`` compares the
            distances between the batch's pictures.
    """

    weight: float = Field(default=1.0, gt=0)
    form: Literal["embedding", "relational"] = "embedding"


class LatencyBudget(_Settings):
    """What the edge half may take on a Jetson, *predicted* (``targets.jetson.predictor``), never measured.

    The upper end of the prediction's 90 % interval has to be within the limit.

    Attributes:
        device: a module, ``orin-nano-8gb``, or one in a power mode, ``orin-nano-8gb@15W``.
        precision: of the engine; ``int8`` takes every layer to be INT8.
        max_ms: milliseconds of one picture, without transfers.
    """

    device: str
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    max_ms: float = Field(gt=0)

    @field_validator("device")
    @classmethod
    def _predictable(cls, device: str) -> str:
        try:
            predicted_device(*device_of(device))
        except TargetError as error:
            raise ValueError(str(error)) from error
        return device


class MaskSettings(_Settings):
    """Sparse soft masks (``toolkit.patrol.sparsity``).

    Attributes:
        l1: weight lambda of |m|_1, for runs without a ratio.
        learning_rate: length of a gradient step of a mask, relative to its group's root mean square gradient.
        method: ``fista`` (accelerated) or ``ista``.
        weighting: ``uniform`` pushes all masks alike (paper); ``saliency`` pushes harder where removing the
            channel changes the loss less (reweighted L1).
        ratio: part of the edge half's cost that may stay; lambda is steered so that it is met. None: constant
            lambda.
        as_split: an earlier cut; the edge half may then cost what the dense split there costs, and ``ratio`` is
            not used. This is the paper's point: deeper within the same budget.
        budget: what the ratio is of.
        budgets: several costs that bind at once, instead of ``budget``; with ``as_split`` each may be what that
            split costs, else ``ratio`` of its own dense cost.
        latency: a limit in milliseconds on a named Jetson instead; ``ratio`` and ``budget`` are not used then.
        align: kept channels are charged as if rounded up to a multiple of this.
        prune_fraction: part of the epochs after which the ratio must be met and the zero masks stay zero.
        minimum_channels: channels that every group keeps.
        blocks: mask whole residual blocks too, those with an identity shortcut; one whose mask becomes zero goes.
    """

    l1: float = Field(default=0.05, ge=0)
    learning_rate: float = Field(default=0.01, gt=0)
    method: Literal["fista", "ista"] = "fista"
    weighting: Literal["uniform", "saliency"] = "saliency"
    ratio: float | None = Field(default=0.5, gt=0, le=1)
    as_split: str | None = None
    budget: CostName = "macs"
    budgets: tuple[CostName, ...] = ()
    blocks: bool = False
    latency: LatencyBudget | None = None
    prune_fraction: float = Field(default=0.6, gt=0, le=1)
    minimum_channels: int = Field(default=1, ge=1)
    align: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> MaskSettings:
        if self.latency is not None and self.as_split is not None:
            raise ValueError("masks.latency and masks.as_split are two budgets; leave one of them out")
        if len(set(self.budgets)) != len(self.budgets):
            raise ValueError("masks.budgets names a cost twice")
        return self

    @model_serializer(mode="wrap")
    def _without_additions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings without them keep the hash that they had before they could be named."""
        absent = {name for name in ("budgets", "blocks") if not getattr(self, name)}
        return {name: value for name, value in handler(self).items() if name not in absent}

    def bound(self) -> tuple[CostName, ...]:
        """The costs that have a limit, where no latency is asked for."""
        return self.budgets or (self.budget,)


class DefenceSettings(_Settings):
    """What is trained beside the task; a part that is None is off.

    Attributes:
        train: the schedule and the task loss.
        lipschitz: the Lipschitz term.
        adversary: adversarial reconstruction.
        noise: standard deviation, in wire steps, of Gaussian noise added to the feature before the wire quantizer.
        dropout: part of the feature's values that are sent as zero, drawn anew for every picture, in training and
            on the device (He, Zhang, Lee, IoT Journal 2020); the others are scaled up.
        nopeek: the distance correlation term.
        linear: the linear adversary.
        distill: the dense network as a teacher; joint training takes the network that it begins with.
    """

    train: TrainSettings = TrainSettings()
    lipschitz: LipschitzSettings | None = LipschitzSettings()
    adversary: AdversarySettings | None = AdversarySettings()
    noise: float = Field(default=0.0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    nopeek: NoPeekSettings | None = None
    linear: LinearSettings | None = None
    distill: DistillSettings | None = None

    @model_serializer(mode="wrap")
    def _without_baselines(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings without them keep the hash that they had before they could be named."""
        absent = {"dropout"} if not self.dropout else set()
        absent |= {name for name in ("nopeek", "linear", "distill") if getattr(self, name) is None}
        return {name: value for name, value in handler(self).items() if name not in absent}


class PatrolSettings(DefenceSettings):
    """Joint PATROL training: the defence and the masks.

    Attributes:
        masks: sparsity of the masks.
    """

    train: TrainSettings = TrainSettings(epochs=30, learning_rate=1e-3)
    masks: MaskSettings | None = MaskSettings()
