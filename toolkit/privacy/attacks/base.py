"""The one base class of all attacks: declared knowledge, checked parameters, checked input and output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.errors import AttackError
from toolkit.privacy.codes import Floats, Indices, Pictures, WireCodes, expect_codes
from toolkit.privacy.pairs import Pairs

BATCH = 64


class Knowledge(BaseModel):
    """What an adversary has besides the codes it sees.

    Attributes:
        edge_weights: the weights of the edge half (white-box), so also gradients through it.
        edge_queries: may pass pictures of its own through the edge half.
        architecture: the shape of the edge half.
        step: the wire step and the bit width.
        cloud_half: the weights of the cloud half.
        training_set: the pictures that the target model was trained on.
        own_pictures: other pictures of the same kind.
        frames: how many transmissions of one scene it sees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edge_weights: bool = False
    edge_queries: bool = False
    architecture: bool = False
    step: bool = True
    cloud_half: bool = False
    training_set: bool = False
    own_pictures: bool = False
    frames: int = Field(default=1, ge=1)


class AttackerSettings(BaseModel):
    """What every attack can be told. ``label`` names it in tables; two attackers of a suite have two labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(default="", pattern=r"^[a-z0-9_.-]*$")
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class FitReport:
    """How well an attack was prepared.

    Attributes:
        converged: neither more steps nor (where that was tested) twice the pictures gain the tolerance; None where
            steps were not tested.
        validation_ssim: mean SSIM on validation pictures at the end.
        validation_mse: mean MSE on them.
        gain: SSIM gained by the last half of training (or by the last doubling of the steps).
        steps: optimizer steps taken; 0 for a closed form.
        pairs: pairs of codes and pictures it learned from.
        parameters: trained numbers.
        curve: (step, validation SSIM).
        chosen: what was chosen on validation pictures, by name.
        seconds: wall time.
        data_gain: validation SSIM gained from half of the attacker's pictures to all of them, with as many steps;
            None where that was not tested.
    """

    converged: bool | None
    validation_ssim: float
    validation_mse: float
    gain: float
    steps: int
    pairs: int
    parameters: int
    curve: tuple[tuple[int, float], ...] = ()
    chosen: dict[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0
    data_gain: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> FitReport:
        """From :meth:`to_dict`."""
        return cls(**{**body, "curve": tuple((int(s), float(v)) for s, v in body["curve"])})


class Attack(ABC):
    """An attack: fitted on the adversary's own pairs, it turns codes into pictures.

    Ground truth reaches ``reconstruct`` through the codes alone: it is never given pictures.

    Class attributes:
        kind: name in settings.
        knowledge: what the adversary is assumed to know.
        reference: the paper it comes from.
        settings_type: the pydantic model of its parameters.
    """

    kind: ClassVar[str]
    knowledge: ClassVar[Knowledge]
    reference: ClassVar[str]
    settings_type: ClassVar[type[AttackerSettings]]

    def __init__(self, settings: AttackerSettings | dict[str, Any] | None = None) -> None:
        """Check the parameters, for every attack in this one place.

        Raises:
            AttackError: a parameter is unknown or out of range; the message names it.
        """
        if settings is None:
            settings = self.settings_type()
        if isinstance(settings, dict):
            try:
                settings = self.settings_type.model_validate(settings)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise AttackError(f"{self.kind}: {where}: {first['msg']}") from error
        if not isinstance(settings, self.settings_type):
            raise AttackError(f"{self.kind} takes {self.settings_type.__name__}, not {type(settings).__name__}")
        self._settings = settings
        self._fitted: tuple[tuple[int, int, int], float, tuple[int, int]] | None = None

    @property
    def name(self) -> str:
        """The label of this attacker in tables."""
        return self._settings.label or self.kind

    def options_json(self) -> str:
        """Kind and parameters as JSON: what a stored result must have been made with."""
        return self.kind + self._settings.model_dump_json()

    def fit(self, train: Pairs, validation: Pairs, folder: Path | None = None) -> FitReport:
        """Prepare the attack.

        Args:
            train: the adversary's pairs.
            validation: pairs of other identities, for choices and for stopping.
            folder: where an attack that takes long keeps its checkpoint; killed, it goes on from there.

        Raises:
            AttackError: the two lists are of different models, or the attack fails (NaN).
        """
        expect_codes(validation.code_shape, validation.step, train.code_shape, train.step)
        if train.picture_size != validation.picture_size:
            raise AttackError(f"pictures of {train.picture_size} and {validation.picture_size} in one attack")
        report = self._fit(train, validation, folder)
        self._fitted = (train.code_shape, train.step, train.picture_size)
        return report

    def reconstruct(self, codes: WireCodes, indices: Indices | None = None) -> Pictures:
        """Pictures ``(N, H, W, 3)`` uint8 from codes alone.

        Raises:
            AttackError: not fitted yet, codes of another model, or a reconstruction that is NaN.
        """
        if self._fitted is None:
            raise AttackError(f"{self.name}: fit the attack before reconstructing")
        shape, step, size = self._fitted
        codes.expect(shape, step)
        rows = np.arange(len(codes)) if indices is None else np.asarray(indices)
        out = np.empty((len(rows), *size, 3), np.uint8)
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            out[start : start + len(chosen)] = to_pictures(self._decode(codes.features(chosen)), self.name)
        return out

    @abstractmethod
    def _fit(self, train: Pairs, validation: Pairs, folder: Path | None) -> FitReport: ...

    @abstractmethod
    def _decode(self, features: Floats) -> Floats:
        """Dequantized codes ``(n, C, h, w)`` to pictures ``(n, H, W, 3)`` in [0, 1], not clipped."""


def to_pictures(values: Floats, name: str) -> Pictures:
    """Clip to [0, 1] and round to uint8.

    Raises:
        AttackError: a value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise AttackError(f"{name}: the reconstruction is NaN or infinite; lower the learning rate")
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
