"""What a trace shows: groups, mask points, blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkit.models.channels.labels import Indices


@dataclass(frozen=True, eq=False)
class Member:
    """One dimension of one parameter or buffer that a group indexes.

    Attributes:
        parameter: its name in the network's state.
        dim: the dimension.
        index: ``(channels, width)``: positions that each of the group's channels takes there.
    """

    parameter: str
    dim: int
    index: Indices


@dataclass(frozen=True, eq=False)
class MaskPoint:
    """A module whose output the mask multiplies.

    Attributes:
        module: its path: the normalization after a convolution or linear layer, or the layer itself without one.
        dim: the output's channel dimension.
        index: ``(C,)``: the group's channel at every output position, -1 where the position is another group's.
    """

    module: str
    dim: int
    index: Indices


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are removed together, in every tensor that has them.

    Attributes:
        name: the first layer that produces them (``#2``, ... where one layer feeds several groups).
        channels: removable units; ``width`` > 1 where a unit is a whole group of a grouped convolution.
        width: positions that one unit takes in its widest producer.
        producers: where the mask acts.
        layers: convolutions and linear layers that produce the channels.
        consumers: layers that read them.
        members: every parameter and buffer dimension that shrinks.
        crosses_cut: whether the channels are sent (removal changes the wire and the cloud half).
    """

    name: str
    channels: int
    width: int
    producers: tuple[MaskPoint, ...]
    layers: tuple[str, ...]
    consumers: tuple[str, ...]
    members: tuple[Member, ...]
    crosses_cut: bool
    roots: Indices = field(repr=False)


@dataclass(frozen=True)
class ResidualBlock:
    """A residual block with an identity shortcut: removable as a whole.

    Attributes:
        name: path of the block.
        module: the layer that ends its residual branch; a block mask multiplies its output.
    """

    name: str
    module: str


@dataclass(frozen=True)
class FrozenChannels:
    """Channels of a layer that are never removed, and why; 0 where a module mixes them beyond recognition."""

    layer: str
    channels: int
    reason: str
