"""What the edge half costs, as a function of how many channels each mask keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.errors import TrainingError
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.models.network import ReidNet

Counted = Literal["macs", "parameters", "activation_bytes", "wire_bytes"]
Unit = Literal["macs", "parameters", "activation_bytes", "wire_bytes", "ms", "budgets"]
FLOAT_BYTES = 4
WIRE = "wire"
Side = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class PartCost:
    """One parameter tensor of the edge half and the masks its cost shrinks with.

    Attributes:
        name: of the parameter.
        cost: MACs or parameters while everything is kept.
        sides: one per dimension that shrinks: the masks that own it and the share of the dimension each owns. A
            residual block that can go as a whole is one more side.
    """

    name: str
    cost: float
    sides: tuple[Side, ...]


class EdgeCost:
    """Cost of the edge half for given numbers of kept channels, charged rounded up to ``align``.

    Args:
        parts: the parameter tensors.
        sizes: channels of each mask; 0 for the scalar mask of a whole block.
        align: kept channels are charged as a multiple of this.
        unit: of the cost, for messages.
    """

    def __init__(
        self, parts: Sequence[PartCost], sizes: Mapping[str, int], align: int = 1, unit: Unit = "macs"
    ) -> None:
        self.parts = tuple(parts)
        self.sizes = dict(sizes)
        self.align = align
        self.unit = unit
        self.full = sum(part.cost for part in self.parts)

    def charged(self, mask: str, kept: int) -> int:
        """Channels that are paid for."""
        if not self.sizes[mask]:
            return kept
        return min(math.ceil(kept / self.align) * self.align, self.sizes[mask])

    def least(self, mask: str, minimum: int) -> int:
        """Channels that a mask keeps at any rate; a whole block may go."""
        return min(minimum, self.sizes[mask])

    def __call__(self, kept: Mapping[str, int]) -> float:
        """Cost in ``unit``; ``kept`` counts channels, 0 or 1 for a block."""
        gone = {name: 1 - self.charged(name, kept[name]) / (size or 1) for name, size in self.sizes.items()}
        return sum(
            part.cost * math.prod(1 - sum(share * gone[name] for name, share in side) for side in part.sides)
            for part in self.parts
        )

    def smooth(self) -> EdgeCost:
        """The same cost charged channel by channel, which changes with every one that goes."""
        return EdgeCost(self.parts, self.sizes, 1, self.unit)

    def smooth_target(self, target: float) -> float:
        """What :meth:`smooth` must reach for this cost to meet ``target``."""
        return target

    def check_reachable(self, target: float, minimum: int) -> None:
        """Refuse a target that is not met even with the least channels everywhere.

        Raises:
            TrainingError: with the smallest ratio that can be met.
        """
        least = self({name: self.least(name, minimum) for name in self.sizes})
        if least > target * (1 + 1e-9):
            raise TrainingError(
                f"no mask can bring the edge half to {target / self.full:.3f} of its {self.unit}: with {minimum} "
                f"channels (aligned to {self.align}) in every group it is {least / self.full:.3f}; raise "
                "masks.ratio, lower masks.minimum_channels or masks.align, or cut earlier"
            )


def edge_cost(net: ReidNet, masks: MaskSet, picture_size: tuple[int, int], unit: Counted, align: int) -> EdgeCost:
    """The cost of ``net``'s edge half for its masks, for one picture.

    MACs and activation bytes (float32) are those of convolutions and linear layers; parameters are all trainable
    ones; wire bytes are those of 8-bit codes.

    Args:
        net: masks attached or not; its mode is restored.
        masks: of this network.
        picture_size: (H, W).
        unit: what is counted.
        align: see :class:`EdgeCost`.
    """
    blocks = [block.name for block in masks.blocks]
    sizes = {group.name: group.channels for group in masks.groups} | {BLOCK_PREFIX + block: 0 for block in blocks}
    if unit == "wire_bytes":
        return EdgeCost((_wire_part(net, masks, picture_size),), sizes, align, unit)
    positions = {} if unit == "parameters" else _positions(net, picture_size)
    sides = parameter_sides(net, masks)
    parts = []
    for name, parameter in edge_parameters(net).items():
        module, _, leaf = name.rpartition(".")
        own = sides.get(name, {})
        if unit == "parameters":
            amount, shrinking = parameter.numel(), tuple(own.values())
        elif leaf == "weight" and unit == "macs":
            amount, shrinking = parameter.numel() * positions.get(module, 0), tuple(own.values())
        elif leaf == "weight":
            amount = parameter.shape[0] * positions.get(module, 0) * FLOAT_BYTES
            shrinking = (own[0],) if 0 in own else ()
        else:
            amount, shrinking = 0, ()
        if amount:
            inside = [((BLOCK_PREFIX + block, 1.0),) for block in blocks if name.startswith(block + ".")]
            parts.append(PartCost(name, float(amount), (*shrinking, *inside)))
    return EdgeCost(parts, sizes, align, unit)


def _wire_part(net: ReidNet, masks: MaskSet, picture_size: tuple[int, int]) -> PartCost:
    """What is sent, and the groups that cross the cut; a frozen channel stays."""
    channels, positions = _feature(net, picture_size, net.cut_index)
    sent = {group.name: group.channels * group.width for group in masks.groups if group.crosses_cut}
    whole = max(channels, sum(sent.values()))
    side = tuple((name, count / whole) for name, count in sent.items())
    return PartCost(WIRE, float(channels * positions), (side,) if side else ())


@torch.no_grad()
def _feature(net: ReidNet, picture_size: tuple[int, int], index: int) -> tuple[int, int]:
    """Channels and positions behind a block; behind the network's own cut those of what is sent."""
    was_training = net.training
    try:
        pictures = torch.zeros(1, 3, *picture_size, device=next(net.parameters()).device)
        net.eval()
        own = index == net.cut_index
        found = net.edge(pictures) if own else net.backbone.forward_range(net.normalize(pictures), 0, index)
    finally:
        net.train(was_training)
    return int(found.shape[1]), int(found[0, 0].numel())


def share_of_split(net: ReidNet, cost: EdgeCost, cut: str, picture_size: tuple[int, int] | None = None) -> float:
    """What the dense edge half of an earlier cut costs, as a share of this one's full cost.

    Args:
        net: whose edge half ``cost`` describes.
        cost: its cost, in any unit.
        cut: a block or stage not behind the network's own cut.
        picture_size: (H, W); wire bytes need it.

    Raises:
        ModelError: there is no such block.
        TrainingError: it lies behind the network's cut.
    """
    index = net.backbone.index_of(cut)
    if index > net.cut_index:
        raise TrainingError(
            f"masks.as_split is {cut}, behind the network's own cut {net.architecture.cut}; name an earlier one"
        )
    if cost.unit == "wire_bytes":
        assert picture_size is not None, "the feature of another cut has another size"
        return float(np.prod(_feature(net, picture_size, index))) / cost.full
    own = edge_parameters(net, index)
    return sum(part.cost for part in cost.parts if part.name in own) / cost.full


def edge_parameters(net: ReidNet, last: int | None = None) -> dict[str, nn.Parameter]:
    """Parameters of the edge half by their name in the network; ``last`` ends it at an earlier block."""
    modules = net.edge_modules()
    if last is not None:
        modules = tuple(module for index in range(last + 1) for module in net.backbone.block_modules(index))
    own = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name: parameter for name, parameter in net.named_parameters() if id(parameter) in own}


def parameter_sides(net: ReidNet, masks: MaskSet) -> dict[str, dict[int, Side]]:
    """For every parameter, by dimension, the shares that masks own."""
    shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
    found: dict[str, dict[int, list[tuple[str, float]]]] = {}
    for group in masks.groups:
        for member in group.members:
            if member.parameter in shapes:
                share = member.index.size / shapes[member.parameter][member.dim]
                found.setdefault(member.parameter, {}).setdefault(member.dim, []).append((group.name, share))
    return {name: {dim: tuple(side) for dim, side in dims.items()} for name, dims in found.items()}


@torch.no_grad()
def _positions(net: ReidNet, picture_size: tuple[int, int]) -> dict[str, int]:
    """Output positions of every convolution and linear layer of the edge half, by path."""
    seen: dict[str, int] = {}
    names = {module: name for name, module in net.named_modules()}

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        channels = output.shape[1] if isinstance(module, nn.Conv2d) else output.shape[-1]
        seen[names[module]] = output[0].numel() // channels

    both = (*net.backbone.modules(), *net.squeeze.modules())
    layers = [module for module in both if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    was_training = net.training
    try:
        reference = next(net.parameters())
        net.eval().edge(torch.zeros(1, 3, *picture_size, device=reference.device))
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return seen
