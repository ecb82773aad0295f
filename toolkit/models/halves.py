"""The two halves as modules of their own: what is exported. They share the network's parameters."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.models.network import ReidNet


class EdgeHalf(nn.Module):
    """Pictures ``(N, 3, H, W)``, RGB in [0, 1], to the feature of the cut."""

    def __init__(self, net: ReidNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture: Tensor) -> Tensor:
        return self.net.edge(picture)


class CloudHalf(nn.Module):
    """Feature of the cut to the embedding ``(N, D)`` behind the neck."""

    def __init__(self, net: ReidNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, feature: Tensor) -> Tensor:
        return self.net.cloud(feature)
