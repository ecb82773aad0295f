"""The split re-identification network: a backbone cut in two, pooling, BNNeck and a training head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.models.architecture import Architecture
from toolkit.models.backbone import initialize
from toolkit.models.registry import build_backbone

EdgeBlock = Callable[[Tensor], Tensor]


class Heads(NamedTuple):
    """What training looks at.

    Attributes:
        pooled: ``(N, D)``, before the neck; the triplet loss works on it.
        embedding: ``(N, D)``, behind the neck; the evaluation feature.
        logits: ``(N, identities)``.
    """

    pooled: Tensor
    embedding: Tensor
    logits: Tensor


class GemPool(nn.Module):
    """Generalized mean pooling with a learned exponent (Radenovic et al. 2019, arXiv:1711.02512)."""

    def __init__(self, exponent: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([exponent]))
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        powered = x.float().clamp(min=self.floor).pow(self.p)
        return F.adaptive_avg_pool2d(powered, 1).pow(1.0 / self.p)


def squeeze(channels: int, kept: int, pool: int) -> nn.Sequential:
    """End of the edge half: fewer channels, never negative, and fewer positions, averaged."""
    layers = [nn.Conv2d(channels, kept, 1, bias=False), nn.BatchNorm2d(kept), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.AvgPool2d(pool)] if pool > 1 else []))


def expand(kept: int, channels: int) -> nn.Sequential:
    """Begin of the cloud half: what the backbone's next block expects, at the wire's positions."""
    convolution = nn.Conv2d(kept, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class ReidNet(nn.Module):
    """A re-ID network after Luo et al. 2019 (arXiv:1903.07071), cut behind one block of its backbone.

    The edge half takes RGB pictures in [0, 1] and normalizes them itself. ID loss and evaluation use the
    feature behind the neck (BatchNorm whose shift stays zero), the triplet loss the one before it.

    Args:
        architecture: shape of the dense network.

    Raises:
        ModelError: the cut is not a block of the backbone (the message lists the cut points).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1))
        self.backbone = build_backbone(architecture.backbone, **architecture.backbone_arguments())
        self.cut_index = self.backbone.index_of(architecture.cut)
        self.squeeze: nn.Module = nn.Identity()
        self.expand: nn.Module = nn.Identity()
        if architecture.bottleneck:
            channels = self.backbone.channels_at(self.cut_index)
            self.squeeze = squeeze(channels, architecture.bottleneck, architecture.bottleneck_pool)
            self.expand = expand(architecture.bottleneck, channels)
            initialize(self.squeeze)
            initialize(self.expand)
        self.pool: nn.Module = GemPool() if architecture.pooling == "gem" else nn.AdaptiveAvgPool2d(1)
        dimensions = architecture.embedding or self.backbone.out_channels
        self.reduction: nn.Module = nn.Identity()
        if architecture.embedding:
            self.reduction = nn.Linear(self.backbone.out_channels, dimensions, bias=False)
            nn.init.kaiming_normal_(self.reduction.weight, mode="fan_out", nonlinearity="linear")
        self.neck = nn.BatchNorm1d(dimensions)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(dimensions, architecture.identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    @property
    def last_index(self) -> int:
        """Index of the backbone's last block."""
        return len(self.backbone.block_names) - 1

    def edge_modules(self) -> tuple[nn.Module, ...]:
        """The modules of the edge half, in order of use."""
        blocks = [m for index in range(self.cut_index + 1) for m in self.backbone.block_modules(index)]
        return (*blocks, self.squeeze)

    def normalize(self, x: Tensor) -> Tensor:
        """RGB in [0, 1] to the backbone's input."""
        return (x - self.mean) / self.std

    def edge(self, x: Tensor) -> Tensor:
        """Pictures ``(N, 3, H, W)``, RGB in [0, 1], to the feature ``(N, C, h, w)`` that is sent."""
        return cast(Tensor, self.squeeze(self.backbone.forward_range(self.normalize(x), 0, self.cut_index)))

    def edge_blocks(self) -> list[tuple[str, EdgeBlock]]:
        """Blocks f_1 .. f_N of the edge half; their composition is :meth:`edge` (f_1 normalizes first)."""
        blocks: list[tuple[str, EdgeBlock]] = [(self.backbone.block_names[0], self._first_block)]
        for index in range(1, self.cut_index + 1):
            blocks.append((self.backbone.block_names[index], partial(self.backbone.run_block, index)))
        if self.architecture.bottleneck:
            blocks.append(("squeeze", self.squeeze))
        return blocks

    def _first_block(self, x: Tensor) -> Tensor:
        return self.backbone.run_block(0, self.normalize(x))

    def pooled(self, feature: Tensor) -> Tensor:
        """Feature of the cut to the ``(N, D)`` vector before the neck."""
        x = self.backbone.forward_range(self.expand(feature), self.cut_index + 1, self.last_index)
        return cast(Tensor, self.reduction(self.pool(x).flatten(1)))

    def cloud(self, feature: Tensor) -> Tensor:
        """Feature of the cut to the embedding ``(N, D)`` behind the neck."""
        return cast(Tensor, self.neck(self.pooled(feature)))

    def heads(self, feature: Tensor) -> Heads:
        """All that the training losses need."""
        pooled = self.pooled(feature)
        embedding = self.neck(pooled)
        return Heads(pooled, embedding, self.classifier(embedding))

    def training_forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and logits: touches every parameter, which a tracing pruner needs."""
        heads = self.heads(self.edge(x))
        return heads.embedding, heads.logits

    def forward(self, x: Tensor) -> Tensor:
        """Pictures to embeddings."""
        return self.cloud(self.edge(x))


def build_network(architecture: Architecture, seed: int = 0) -> ReidNet:
    """A network whose initial weights depend on ``seed`` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReidNet(architecture)
