"""Bytes of a network: weights, and the largest set of activations that are alive together."""

from __future__ import annotations

from targets.jetson.layers import LayerGraph
from targets.jetson.predictor.table import BYTES, layer_precisions


def weight_bytes(graph: LayerGraph, precision: str) -> int:
    """Bytes of the weights as the engine stores them."""
    chosen = layer_precisions(graph, precision)
    return sum(layer.weights * BYTES[own] for layer, own in zip(graph.layers, chosen, strict=True))


def peak_activation_bytes(graph: LayerGraph, precision: str) -> int:
    """Bytes of the activations that exist at the same time, at most; the network's input is FP32.

    A tensor lives from the layer that writes it to the last that reads it; outputs of the network to the end.
    """
    chosen = layer_precisions(graph, precision)
    sizes: list[int] = []
    last = list(range(len(graph.layers)))
    read: set[int] = set()
    for index, layer in enumerate(graph.layers):
        sizes.append(sum(t.elements * (1 if t.codes else BYTES[chosen[index]]) for t in layer.outputs))
        for tensor in layer.inputs:
            if tensor.producer >= 0:
                last[tensor.producer] = max(last[tensor.producer], index)
                read.add(tensor.producer)
    for index in range(len(graph.layers)):
        if index not in read:
            last[index] = len(graph.layers)
    inputs = [
        sum(tensor.elements * BYTES["fp32"] for tensor in layer.inputs if tensor.producer < 0)
        for layer in graph.layers
    ]
    alive = [
        sum(size for made, size in enumerate(sizes) if made <= index <= last[made]) + inputs[index]
        for index in range(len(graph.layers))
    ]
    return max(alive)
