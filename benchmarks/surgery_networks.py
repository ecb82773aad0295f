"""What the slimming benchmark runs on: the backbones at full size, and small members of the other families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo_families import FAMILIES
from toolkit.models.registry import BACKBONES, build_backbone


class Classified(nn.Module):
    """A backbone with pooling and a linear classifier."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.backbone = build_backbone(name)
        self.head = nn.Linear(self.backbone.out_channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        make: the dense network with initial weights.
        side: of the picture that both tools are given when they are timed.
        judged_side: of the pictures that outputs are compared on.
    """

    make: Callable[[], nn.Module]
    side: int
    judged_side: int

    def build(self) -> nn.Module:
        """With statistics, scales and shifts as training leaves them."""
        net = self.make()
        randomize(net, 0)
        return net


NETWORKS = {
    **{f"{name} (full size)": Network(lambda n=name: Classified(n), 224, 64) for name in BACKBONES},  # type: ignore[misc]
    **{f"{name} (small)": Network(make, 64, 32) for name, make in FAMILIES.items()},
}
