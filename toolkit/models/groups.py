"""Coupled channel groups: which channels must be removed together, where a mask acts, and what may not go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.errors import ModelError
from toolkit.models.channels.coupling import (
    frozen_layers,
    frozen_roots,
    mask_points,
    residual_blocks,
    stirred_roots,
)
from toolkit.models.channels.grouping import coupled_groups
from toolkit.models.channels.labels import Indices
from toolkit.models.channels.records import Trace
from toolkit.models.channels.structures import (
    ChannelGroup,
    FrozenChannels,
    MaskPoint,
    Member,
    ResidualBlock,
)
from toolkit.models.channels.trace import run_trace

__all__ = [
    "ChannelGroup", "ChannelMap", "FrozenChannels", "GroupError", "MaskPoint", "Member", "ResidualBlock",
    "find_blocks", "find_groups", "survey",
]  # fmt: skip


class GroupError(ModelError):
    """No channel of the network can be removed, or a group is not what a mask or plan expects."""


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """The removable structure of one network.

    Attributes:
        groups: in the order of the forward pass.
        blocks: removable residual blocks, in order.
        frozen: producers whose channels stay, with the reason.
        roots: ``(labels,)``, the coupled set of every label of the trace.
        stirred: ``(labels,)`` by root: a mask of zero need not leave zeros in everything that reads the channel.
        trace: the run that showed it.
    """

    groups: tuple[ChannelGroup, ...]
    blocks: tuple[ResidualBlock, ...]
    frozen: tuple[FrozenChannels, ...]
    roots: Indices
    stirred: NDArray[np.bool_]
    trace: Trace

    def group(self, name: str) -> ChannelGroup:
        """A group by name.

        Raises:
            GroupError: there is none; the message lists some.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise GroupError(f"no channel group {name!r}; groups: {', '.join(g.name for g in self.groups[:12])}, ...")


def find_groups(net: nn.Module, example: Tensor) -> tuple[ChannelGroup, ...]:
    """Coupled channel groups with a producer in the edge half (of a network without halves: all).

    Args:
        net: a ReidNet (traced through edge, neck and classifier) or any module; no masks attached.
        example: an input, ``(1, 3, H, W)``.

    Raises:
        GroupError: nothing can be removed; the message says why.
    """
    return survey(net, example).groups


def find_blocks(net: nn.Module, example: Tensor) -> tuple[ResidualBlock, ...]:
    """Residual blocks of the edge half that can be removed as a whole (identity shortcut)."""
    return survey(net, example).blocks


def survey(net: nn.Module, example: Tensor) -> ChannelMap:
    """Groups, blocks, and what is frozen and why. See :func:`find_groups`.

    Of several pictures the first is traced: InstanceNorm hides its channels behind a batch, and a mask would act
    elsewhere.
    """
    trace = run_trace(net, example[:1] if example.dim() == 4 else example)
    roots = trace.labels.solve()
    points = mask_points(net, trace)
    frozen = frozen_roots(trace, roots)
    groups = coupled_groups(trace, roots, points, frozen)
    if not groups:
        reasons = sorted(set(frozen.values())) or ["there is no convolution or linear layer"]
        raise GroupError(f"no channel of this network can be removed: {'; '.join(reasons[:5])}")
    blocks, stays = residual_blocks(trace), frozen_layers(trace, roots, frozen)
    return ChannelMap(groups, blocks, stays, roots, stirred_roots(trace, roots, points), trace)
