"""The other end of splitting: the whole network runs on the device, and the embedding is what is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.export.settings import EMBEDDING_BITS
from toolkit.wire import WireFormat, choose_step


class WholeNetwork(nn.Module):
    """A network whose edge half is all of it; the wire carries the embedding as a feature of one position.

    Every reader asks for this row beside a split network: it shows what more the split's feature gives away than
    what the task needs anyway, and what the rest of the network would cost on the device.

    Args:
        net: a ReidNet; it is not changed.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def edge(self, x: Tensor) -> Tensor:
        """Pictures ``(N, 3, H, W)`` to the embedding ``(N, D, 1, 1)``."""
        embedding: Tensor = self.net(x)
        return embedding[:, :, None, None]

    def cloud(self, feature: Tensor) -> Tensor:
        """``(N, D, 1, 1)`` to ``(N, D)``."""
        return feature.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to embeddings."""
        return self.cloud(self.edge(x))


def embedding_wire(net: WholeNetwork, batches: Iterable[NDArray[np.float32]]) -> WireFormat:
    """The wire of the embedding, its step chosen on the inputs ``(N, 3, H, W)`` of training pictures."""
    net.eval()
    with torch.no_grad():
        features = np.concatenate([part.numpy() for part in _features(net, batches)])
    signed = bool((features < 0).any())
    step = choose_step(features, EMBEDDING_BITS, signed)
    return WireFormat(features.shape[1], 1, 1, EMBEDDING_BITS, step, signed)


def _features(net: WholeNetwork, batches: Iterable[NDArray[np.float32]]) -> Iterator[Tensor]:
    for batch in batches:
        yield net.edge(torch.from_numpy(batch))
