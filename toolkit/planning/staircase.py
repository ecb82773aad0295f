"""The channel step that a plan's ``auto`` alignment takes from a device's predicted latency."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from targets.jetson.catalogue import find_module
from targets.jetson.layers import NETWORK_INPUT, Layer, LayerGraph
from targets.jetson.layers import Tensor as Activation
from targets.jetson.predictor import staircase
from toolkit.models.network import ReidNet
from toolkit.surgery import PlanSettings

log = logging.getLogger(__name__)


def with_predicted_step(settings: PlanSettings, net: ReidNet, example: Tensor) -> PlanSettings:
    """The settings with the step of their device's predicted staircase, which the edge half's convolutions climb.

    Settings that name no device, an alignment of their own or a measured step come back as they are. Where padding
    costs at every step, ``auto`` is left to the precision.

    Args:
        example: ``(1, 3, H, W)``.

    Raises:
        TargetError: the device or the mode is unknown, or the mode's clocks are not published.
    """
    if settings.device is None or settings.align != "auto" or settings.measured_step is not None:
        return settings
    module = find_module(settings.device)
    mode = module.mode(settings.mode)
    found = staircase(edge_convolutions(net, example), module, mode, settings.precision)
    where = f"{module.key}, mode {mode.label}, {settings.precision}"
    costs = ", ".join(f"{step}: {100 * cost:.1f} %" for step, cost in found.costs.items())
    if found.step is None:
        log.info("align auto: %s: padding costs at every step (%s), so that of the precision", where, costs)
        return settings
    log.info("align auto: multiples of %d, predicted for %s (padding to %s)", found.step, where, costs)
    return settings.model_copy(update={"predicted_step": found.step})


def edge_convolutions(net: ReidNet, example: Tensor) -> LayerGraph:
    """The convolutions of the edge half in the order they run in, as the predictor reads them."""
    layers: list[Layer] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        positions = output.shape[0] * output.shape[2] * output.shape[3]
        layers.append(
            Layer(
                name=names[module],
                kind="depthwise" if module.groups == module.in_channels > 1 else "conv",
                operators=("Conv",),
                inputs=(Activation(args[0].numel(), producer=len(layers) - 1 if layers else NETWORK_INPUT),),
                outputs=(Activation(output.numel()),),
                macs=positions * module.weight.numel(),
                weights=sum(parameter.numel() for parameter in module.parameters()),
                in_channels=module.in_channels,
                out_channels=module.out_channels,
                groups=module.groups,
                kernel=(module.weight.shape[2], module.weight.shape[3]),
                positions=positions,
                activation="relu",
            )
        )

    names = {module: name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    handles = [module.register_forward_hook(note) for module in names]
    modes = [(module, module.training) for module in net.modules()]
    try:
        with torch.no_grad():
            net.eval().edge(example)
    finally:
        for handle in handles:
            handle.remove()
        for item, training in modes:
            item.training = training
    return LayerGraph(f"{net.architecture.backbone} to {net.architecture.cut}", example.shape[0], tuple(layers))
