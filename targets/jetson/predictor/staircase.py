"""Channel step of a module: over how many channels the predicted time of a network's convolutions stays level.

Tensor cores work on whole multiples of channels, so that the time of a layer climbs in stairs: 33 channels cost
what 64 do. A network is best cut down to the edge of a stair. The step is the largest multiple up to which any
width can be padded at no cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from targets.jetson.catalogue import Module, PowerMode
from targets.jetson.layers import Layer, LayerGraph, Tensor
from targets.jetson.predictor.predict import Model, predict

STEPS = (32, 16, 8)
FREE = 0.02
WIDTHS = 16
SMALLEST = 16
SIDES = ("in", "out")


@dataclass(frozen=True)
class Staircase:
    """What padding costs.

    Attributes:
        step: the largest of the steps whose padding costs nothing; None where all of them cost.
        costs: by step: time that padding to multiples of it adds, as a share of the time that the channels decide.
    """

    step: int | None
    costs: Mapping[int, float]


def staircase(
    graph: LayerGraph, module: Module, mode: PowerMode, precision: str, model: Model | None = None
) -> Staircase:
    """Predict the step from the times of every convolution at widths between half and all of its channels.

    Inputs and outputs are varied one at a time, and the launch of a kernel, which no channel changes, is left out.

    Args:
        graph: the fused network; convolutions of few channels (pictures) and grouped ones do not count.
        precision: ``fp32``, ``fp16`` or ``int8``; every layer is taken to be in it.
        model: coefficients; the package's own by default.

    Raises:
        PredictionError: see :func:`targets.jetson.predictor.predict`.
    """
    plain = [layer for layer in graph.layers if layer.kind == "conv" and layer.groups == 1]
    series = [(layer, side, dense) for layer in plain for side, dense in _sides(layer) if dense >= SMALLEST]
    times = _times(series, module, mode, precision, model)
    spent = dict.fromkeys(STEPS, 0.0)
    moving = 0.0
    for (_, _, dense), known in zip(series, times, strict=True):
        for width in _widths(dense):
            moving += known[width] - known[1]
            for step in STEPS:
                spent[step] += known[_padded(width, step, dense)] - known[width]
    costs = {step: value / moving if moving > 0 else float("inf") for step, value in spent.items()}
    return Staircase(next((step for step in STEPS if costs[step] <= FREE), None), costs)


def _sides(layer: Layer) -> Iterator[tuple[str, int]]:
    return zip(SIDES, (layer.in_channels, layer.out_channels), strict=True)


def _widths(dense: int) -> list[int]:
    return sorted({round(float(width)) for width in np.linspace(dense / 2, dense, WIDTHS)})


def _padded(width: int, step: int, dense: int) -> int:
    return min(-(-width // step) * step, dense)


def _times(
    series: list[tuple[Layer, str, int]], module: Module, mode: PowerMode, precision: str, model: Model | None
) -> list[dict[int, float]]:
    """Milliseconds by width, for every layer and side."""
    wanted = [
        sorted({1, *(_padded(width, step, dense) for width in _widths(dense) for step in (1, *STEPS))})
        for _, _, dense in series
    ]
    pairs = zip(series, wanted, strict=True)
    layers = tuple(_as_wide(layer, side, width) for (layer, side, _), widths in pairs for width in widths)
    if not layers:
        return []
    found = iter(predict(LayerGraph("staircase", 1, layers), module, mode, precision, model).layers)
    return [{width: next(found).ms for width in widths} for widths in wanted]


def _as_wide(layer: Layer, side: str, width: int) -> Layer:
    """The layer with another number of channels on one side, fed and read in its own precision."""
    inputs, outputs = (width, layer.out_channels) if side == "in" else (layer.in_channels, width)
    kernel = layer.kernel[0] * layer.kernel[1]
    read = sum(tensor.elements for tensor in layer.inputs[:1]) // layer.in_channels
    return replace(
        layer,
        inputs=(Tensor(read * inputs, producer=0),),
        outputs=(Tensor(layer.positions * outputs),),
        quantized=False,
        macs=layer.positions * inputs * outputs * kernel,
        weights=inputs * outputs * kernel + outputs,
        in_channels=inputs,
        out_channels=outputs,
    )
