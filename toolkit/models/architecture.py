"""What a re-ID network is, without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from toolkit.errors import ModelError
from toolkit.models.registry import BACKBONES

Pooling = Literal["gap", "gem"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the dense network's shape.

    Attributes:
        backbone: name of a backbone (``toolkit.models.registry``).
        cut: block or stage whose output is sent; the last block of the edge half.
        identities: classes of the training head.
        last_stride: stride of the backbone's last reduction, 1 or 2.
        pooling: ``gap`` (average) or ``gem`` (generalized mean with a learned exponent).
        embedding: dimensions of a linear reduction behind the pooling; 0 keeps the backbone's channels.
        width: multiplies the backbone's channels; 1 is the published network.
        bottleneck: channels that a 1x1 convolution behind the cut leaves on the wire; 0: none.
        bottleneck_pool: side of the average pooling behind it.
        zero_init_residual: begin with residual branches at zero (ResNets only).
        mean, std: normalization of RGB in [0, 1], inside the edge half.
    """

    backbone: str
    cut: str
    identities: int
    last_stride: int = 2
    pooling: Pooling = "gap"
    embedding: int = 0
    width: float = 1.0
    bottleneck: int = 0
    bottleneck_pool: int = 1
    zero_init_residual: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ModelError(f"no backbone {self.backbone!r}; one of {', '.join(BACKBONES)}")
        if self.identities < 1:
            raise ModelError(f"the training head needs at least one identity, not {self.identities}")
        if self.pooling not in get_args(Pooling):
            raise ModelError(f"no pooling {self.pooling!r}; one of {', '.join(get_args(Pooling))}")
        if self.bottleneck < 0 or self.bottleneck_pool < 1 or (self.bottleneck_pool > 1 and not self.bottleneck):
            raise ModelError(
                f"a bottleneck has channels and a pooling of at least 1, not {self.bottleneck} and "
                f"{self.bottleneck_pool}; 0 channels are no bottleneck, and then there is no pooling"
            )
        if self.embedding < 0:
            raise ModelError(f"embedding is a number of dimensions, or 0 for the backbone's, not {self.embedding}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ModelError(f"mean and std need three numbers each, std above 0: {self.mean}, {self.std}")

    def backbone_arguments(self) -> dict[str, Any]:
        """Arguments for ``build_backbone``."""
        arguments: dict[str, Any] = {"last_stride": self.last_stride, "width": self.width}
        if self.zero_init_residual:
            arguments["zero_init_residual"] = True
        return arguments

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in ``model.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The architecture of :meth:`to_dict`.

        Raises:
            ModelError: unknown or missing field, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise ModelError(f"an architecture has no field {', '.join(sorted(unknown))}")
        try:
            triples = {key: tuple(float(v) for v in values[key]) for key in ("mean", "std") if key in values}
            return cls(**{**values, **triples})
        except (TypeError, ValueError) as error:
            raise ModelError(f"not an architecture: {error}") from error

    def to_json(self) -> str:
        """The architecture as JSON text."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read :meth:`to_json`'s text.

        Raises:
            ModelError: not JSON, or see :meth:`from_dict`.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ModelError(f"not an architecture: {error}") from error
        if not isinstance(values, dict):
            raise ModelError("not an architecture: a JSON object is expected")
        return cls.from_dict(values)
