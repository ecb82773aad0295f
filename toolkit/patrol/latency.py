"""A latency budget for the masks: what the edge half is predicted to take on a Jetson, for any kept channels.

Two models of one thing. On the way, masks are steered by a smooth one (:meth:`LatencyCost.smooth`): each layer has
a constant for its launch, and the rest of its dense time shrinks with its channels. The end is chosen by the
predictor itself on the resized layers, which knows that tensor cores pad channels and that the SMs work in waves.
Both are charged with the upper end of the prediction's interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from targets.jetson.catalogue import device_of
from targets.jetson.layers import NETWORK_INPUT, Layer, LayerGraph
from targets.jetson.predictor import Prediction, predict
from toolkit.errors import TrainingError
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.models.network import ReidNet
from toolkit.patrol.cost import EdgeCost, PartCost, Side, parameter_sides
from toolkit.patrol.settings import LatencyBudget

SHARES = 64
"""Uniform widths that are tried to find where the smooth model has to aim."""


@dataclass(frozen=True)
class EdgeLayers:
    """The fused edge half of a dense network (``toolkit.planning.edge`` makes it).

    Attributes:
        graph: its layers.
        weights: for each layer the name of its weight in the network; empty where it has none.
    """

    graph: LayerGraph
    weights: tuple[str, ...]


ReadLayers = Callable[[ReidNet, tuple[int, int]], EdgeLayers]
"""The fused edge half of a network for pictures of (H, W)."""


class LatencyCost(EdgeCost):
    """Upper end of the predicted latency in ms for given numbers of kept channels.

    Args:
        layers: of the dense edge half.
        net: the network they were read from.
        masks: of it.
        budget: device, mode, precision.
        align: see :class:`EdgeCost`.

    Raises:
        TrainingError: a layer is not one of the network.
    """

    def __init__(
        self, layers: EdgeLayers, net: ReidNet, masks: MaskSet, budget: LatencyBudget, align: int
    ) -> None:
        self.layers, self.budget = layers, budget
        self.module, self.mode = device_of(budget.device)
        self._own = parameter_sides(net, masks)
        unknown = set(layers.weights) - set(dict(net.named_parameters())) - {""}
        if unknown:
            raise TrainingError(f"the edge half's layers name {min(unknown)}, which is not in the network")
        blocks = [block.name for block in masks.blocks]
        self._inside = [
            tuple(BLOCK_PREFIX + block for block in blocks if name.startswith(block + "."))
            for name in layers.weights
        ]
        sizes = {group.name: group.channels for group in masks.groups}
        super().__init__((), sizes | {BLOCK_PREFIX + block: 0 for block in blocks}, align, "ms")
        self._known: dict[tuple[int, ...], float] = {}
        self.full = self(self._all(1.0))
        self.parts = tuple(self._smooth_parts())

    def __call__(self, kept: Mapping[str, int]) -> float:
        """Upper end of the interval in ms; ``kept`` counts channels, 0 or 1 for a block."""
        charged = {name: self.charged(name, kept[name]) for name in self.sizes}
        key = tuple(charged.values())
        if key not in self._known:
            found = self.prediction(charged)
            gone = sum(
                layer.ms
                for layer, inside in zip(found.layers, self._inside, strict=True)
                if any(not kept[block] for block in inside)
            )
            self._known[key] = found.latency_ms.high * (1 - gone / found.latency_ms.value)
        return self._known[key]

    def prediction(self, kept: Mapping[str, int]) -> Prediction:
        """The prediction for kept channels."""
        return predict(self.resized(kept), self.module, self.mode, self.budget.precision)

    def resized(self, kept: Mapping[str, int]) -> LayerGraph:
        """The layers with as many channels as the masks keep; a layer without weights follows what it reads."""
        gone = {name: 1 - kept[name] / size if size else 0.0 for name, size in self.sizes.items()}
        written: list[float] = []
        layers = []
        for layer, name in zip(self.layers.graph.layers, self.layers.weights, strict=True):
            reads = [1.0 if t.producer == NETWORK_INPUT else written[t.producer] for t in layer.inputs]
            dims = self._own.get(name, {})
            if name:
                share = _left(dims.get(0, ()), gone)
            else:
                total = sum(tensor.elements for tensor in layer.inputs)
                share = sum(t.elements * r for t, r in zip(layer.inputs, reads, strict=True)) / max(total, 1)
            layers.append(_resized(layer, reads, share, _left(dims.get(1, ()), gone)))
            written.append(share)
        return replace(self.layers.graph, layers=tuple(layers))

    def smooth(self) -> EdgeCost:
        """The smooth model, charged channel by channel."""
        return EdgeCost(self.parts, self.sizes, 1, self.unit)

    def smooth_target(self, target: float) -> float:
        """What the smooth model must reach so that the prediction meets ``target``: its value at the widest
        uniform width that does."""
        smooth = self.smooth()
        for step in range(SHARES, -1, -1):
            kept = self._all(step / SHARES)
            if self(kept) <= target:
                return smooth(kept)
        return smooth(self._all(0.0))

    def check_reachable(self, target: float, minimum: int) -> None:
        """Refuse a budget that is not met even with the least channels everywhere.

        Raises:
            TrainingError: with the smallest latency that can be met, and how much of it is launches.
        """
        least = {name: self.charged(name, self.least(name, minimum)) for name in self.sizes}
        smallest = self(least)
        if smallest <= target:
            return
        found = self.prediction(least)
        launches = sum(layer.ms for layer in found.layers if layer.bound == "launch") / found.latency_ms.value
        raise TrainingError(
            f"no mask can bring the edge half to {target:.3g} ms on {self.module.key} in mode {self.mode.label}; "
            f"with {minimum} channels (aligned to {self.align}) in every group it is still predicted to take up "
            f"to {smallest:.3g} ms, {100 * launches:.0f} % of it in layers that are bound by their launch; raise "
            "masks.latency.max_ms to that or more, or cut earlier"
        )

    def _all(self, share: float) -> dict[str, int]:
        """Every group at one width, at least one channel; blocks stay."""
        return {name: max(1, round(share * size)) if size else 1 for name, size in self.sizes.items()}

    def _smooth_parts(self) -> list[PartCost]:
        """Launch, arithmetic and traffic of every layer, in proportion to the dense prediction."""
        found = self.prediction(self._all(1.0))
        scale = found.latency_ms.high / found.latency_ms.value
        fixed = found.latency_ms.value - sum(layer.ms for layer in found.layers)
        least = self.prediction(dict.fromkeys(self.sizes, 1))
        sides = self._tensor_sides()
        parts = [PartCost("fixed", fixed * scale, ())]
        for index, (layer, dense, small) in enumerate(
            zip(self.layers.graph.layers, found.layers, least.layers, strict=True)
        ):
            blocks: tuple[Side, ...] = tuple(((block, 1.0),) for block in self._inside[index])
            constant = min(dense.ms, small.ms) * scale
            work = dense.ms * scale - constant
            own = self._own.get(self.layers.weights[index], {})
            shrinking = tuple(own.values()) if dense.bound == "compute" and own else (sides[index],)
            parts.append(PartCost(f"{layer.name} launch", constant, blocks))
            parts.append(PartCost(f"{layer.name} work", work, (*(s for s in shrinking if s), *blocks)))
        return parts

    def _tensor_sides(self) -> list[Side]:
        """For every layer, the masks that shrink what it writes."""
        found: list[Side] = []
        for layer, name in zip(self.layers.graph.layers, self.layers.weights, strict=True):
            inner = [tensor.producer for tensor in layer.inputs if tensor.producer != NETWORK_INPUT]
            follows = found[inner[0]] if inner and not name else ()
            found.append(self._own.get(name, {}).get(0, ()) if name else follows)
        return found


def _left(side: Side, gone: Mapping[str, float]) -> float:
    return 1 - sum(share * gone[name] for name, share in side)


def _resized(layer: Layer, reads: list[float], outside: float, inside: float) -> Layer:
    """A layer that reads and writes shares of its tensors, ``inside`` of its input channels per group."""
    changed = replace(
        layer,
        inputs=tuple(
            replace(tensor, elements=round(tensor.elements * share))
            for tensor, share in zip(layer.inputs, reads, strict=True)
        ),
        outputs=tuple(replace(tensor, elements=round(tensor.elements * outside)) for tensor in layer.outputs),
    )
    if not layer.macs:
        return changed
    apart = layer.groups > 1 and layer.groups == layer.in_channels
    within = outside if apart else inside
    macs = round(layer.macs * outside * (1.0 if apart else inside))
    bias = layer.weights - layer.macs // layer.positions
    return replace(
        changed,
        out_channels=round(layer.out_channels * outside),
        in_channels=round(layer.in_channels * within),
        groups=round(layer.groups * outside) if apart else layer.groups,
        macs=macs,
        weights=macs // layer.positions + round(bias * outside),
    )


def latency_cost(
    net: ReidNet,
    masks: MaskSet,
    picture_size: tuple[int, int],
    budget: LatencyBudget,
    align: int,
    read: ReadLayers,
) -> LatencyCost:
    """The predicted cost of ``net``'s edge half for its masks.

    Args:
        net: masks attached or not.
        masks: of this network.
        picture_size: (H, W).
        budget: device, mode, precision and limit.
        align: see :class:`EdgeCost`.
        read: makes the layers.
    """
    with torch.no_grad():
        return LatencyCost(read(net, picture_size), net, masks, budget, align)
