"""What an adversary may hold of the target model; an attack that needs more than it is given says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from toolkit.errors import AttackError
from toolkit.privacy.pairs import Pairs
from toolkit.wire import WireFormat

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tools:
    """Parts of the target model.

    Attributes:
        edge: the edge half with its weights, pictures ``(N, 3, H, W)`` in [0, 1] to features; differentiable.
        cloud: the cloud half with its weights, features to embeddings ``(N, D)``; differentiable.
        fmt: the wire format; None for float32 features.
        identities: of the adversary's own pictures, by row, where it knows them.
        pretraining: pairs of synthetic pictures and their codes, where the adversary made some.
        noise: standard deviation, in the feature's units, of what the device adds before its last quantizer; its
            values are nobody's, its size is public.
    """

    edge: Network | None = None
    cloud: Network | None = None
    fmt: WireFormat | None = None
    identities: Sequence[str] | None = None
    pretraining: Pairs | None = None
    noise: float = 0.0

    def need_edge(self, who: str) -> Network:
        """The edge half.

        Raises:
            AttackError: it was not given.
        """
        if self.edge is None:
            raise AttackError(f"{who} needs the weights of the edge half; give run_attack its edge network")
        return self.edge

    def need_cloud(self, who: str) -> Network:
        """The cloud half.

        Raises:
            AttackError: it was not given.
        """
        if self.cloud is None:
            raise AttackError(f"{who} needs the weights of the cloud half; give run_attack its cloud network")
        return self.cloud
