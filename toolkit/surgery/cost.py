"""What a network costs, counted on a run of it, and what a plan will leave of that."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import Tensor, nn

from toolkit.models.channels.records import Production, Trace
from toolkit.models.channels.trace import run_trace
from toolkit.surgery.run import clone
from toolkit.surgery.structure import Flags, Structure

Half = Literal["all", "edge", "cloud"]
FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer.

    Attributes:
        channels: outputs.
        parameters: weight and bias.
        macs: multiply-accumulates per picture, over all its calls.
        activation_bytes: what it writes per picture, in float32.
    """

    layer: str
    channels: int
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Cost:
    """A network or one half of it.

    Attributes:
        parameters: trainable numbers, normalizations included.
        macs: multiply-accumulates of convolutions and linear layers, per picture.
        activation_bytes: what they write, in float32 per picture; normalization and activation are counted as
            fused into them.
    """

    parameters: int
    macs: int
    activation_bytes: int
    per_layer: tuple[LayerCost, ...]


def cost(net: nn.Module, example: Tensor, half: Half = "all") -> Cost:
    """Count a network on an example input, ``(1, 3, H, W)``; masks are ignored.

    Args:
        half: of a network with halves; the training classifier belongs to the cloud.
    """
    work = clone(net)
    trace = run_trace(work, example)
    shapes = {name: tuple(p.shape) for name, p in work.named_parameters()}
    return _count(trace, shapes, half)


def predicted_cost(structure: Structure, net: nn.Module, kept: Flags, biases: tuple[str, ...], half: Half) -> Cost:
    """The cost that a state of the channels will have, without building it."""
    shapes = {name: structure.shape(name, kept) for name, _ in net.named_parameters()}
    for layer in biases:
        weight = shapes[f"{layer}.weight"]
        shapes[f"{layer}.bias"] = weight[:1]
    return _count(structure.channel_map.trace, shapes, half)


def _count(trace: Trace, shapes: dict[str, tuple[int, ...]], half: Half) -> Cost:
    layers: dict[str, LayerCost] = {}
    for run in trace.productions:
        if half == "all" or run.in_edge == (half == "edge"):
            layers[run.module] = _layer(run, shapes, layers.get(run.module))
    parameters = sum(prod(shape) for name, shape in shapes.items() if _belongs(trace, name, half))
    return Cost(
        parameters,
        sum(layer.macs for layer in layers.values()),
        sum(layer.activation_bytes for layer in layers.values()),
        tuple(layers.values()),
    )


def _belongs(trace: Trace, name: str, half: Half) -> bool:
    if half == "all":
        return True
    module = name.rpartition(".")[0]
    beside = f"{module}.weight"
    return (name in trace.edge_parameters or beside in trace.edge_parameters) == (half == "edge")


def _layer(run: Production, shapes: dict[str, tuple[int, ...]], earlier: LayerCost | None) -> LayerCost:
    weight = shapes[run.parameter]
    bias = shapes.get(run.parameter.removesuffix("weight") + "bias", (0,))
    channels = len(run.labels) if run.out_dim is None else weight[run.out_dim]
    macs = run.repeats * prod(weight)
    written = channels * run.positions * FLOAT_BYTES
    if earlier is not None:
        macs, written = macs + earlier.macs, written + earlier.activation_bytes
    return LayerCost(run.module, channels, prod(weight) + prod(bias), macs, written)
