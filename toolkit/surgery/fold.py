"""Folding: masks into normalizations, constants of removed channels into the layers that read them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models.channels.records import Consumption
from toolkit.models.masks import MaskSet
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.run import clone
from toolkit.surgery.structure import Flags, Structure


def fold_masks(net: nn.Module, masks: MaskSet) -> nn.Module:
    """A copy of the network whose weights contain the masks: scale and shift of the normalization after a layer.

    Raises:
        SurgeryError: a masked module has no weight, or shares it with another module.
    """
    result = clone(net)
    multiply_masks(result, masks)
    return result


@torch.no_grad()
def multiply_masks(net: nn.Module, masks: MaskSet) -> dict[str, Tensor]:
    """Multiply the masks into a network's weights, in place; returns them by module. See :func:`fold_masks`."""
    scales: dict[str, Tensor] = {}
    owners: dict[int, set[int]] = defaultdict(set)
    for module in net.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)].add(id(module))
    for number, site in enumerate(masks.sites):
        module = net.get_submodule(site)
        scale = scales[site] = masks.scale(number).detach()
        if bool((scale == 1).all()):
            continue
        weight, bias = module.weight, module.bias
        if not isinstance(weight, Tensor) or len(owners[id(weight)]) > 1:
            raise SurgeryError(f"the mask of {site} cannot be folded: its weight is missing or shared")
        dim = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
        shape = [1] * weight.dim()
        shape[dim] = -1
        scale = scale.to(weight)
        weight.mul_(scale.view(shape) if scale.dim() else scale)
        if isinstance(bias, Tensor):
            bias.mul_(scale)
    return scales


def foldable(module: nn.Module, parameter: str, path: str) -> bool:
    """Whether a constant input can become this layer's bias."""
    plain = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    return plain and parameter == f"{path}.weight".removeprefix(".")


def leaves_constant(use: Consumption, structure: Structure, kept: Flags) -> Flags:
    """Inputs of a layer that are removed and not zero. Shape ``(I,)``."""
    removed = ~kept[structure.roots[use.labels]]
    return removed & (use.value != 0) & (not use.grouped)


def carriers(use: Consumption, structure: Structure, kept: Flags) -> Flags:
    """Inputs of a layer that are kept and the same constant everywhere. Shape ``(I,)``."""
    flags = kept[structure.roots[use.labels]] & use.const & use.uniform & (use.value != 0)
    return np.asarray(flags)


def best_carrier(use: Consumption, structure: Structure, kept: Flags) -> int | None:
    """Position of the kept constant input with the largest value, None without one."""
    able = carriers(use, structure, kept)
    return int(np.argmax(np.where(able, np.abs(use.value), -1))) if able.any() else None


def new_biases(structure: Structure, kept: Flags) -> tuple[str, ...]:
    """Layers that need a bias for the constants that removed channels leave."""
    found: list[str] = []
    for use in structure.channel_map.trace.consumptions:
        if not use.bordered and leaves_constant(use, structure, kept).any():
            module = structure.modules[use.module]
            if module.bias is None:
                found.append(use.module)
    return tuple(dict.fromkeys(found))


@torch.no_grad()
def fold_constants(structure: Structure, kept: Flags, approximate: bool) -> None:
    """Add what removed constant channels contribute to the layers that read them, in place.

    Without padding the contribution is one number per output channel and goes into the bias. A padded convolution
    sees it fade at the border, so there the kernels are merged into that of one kept constant channel, weighted by
    the constants. Both are exact.

    Args:
        approximate: use the bias where padding matters and no constant channel is kept.

    Raises:
        SurgeryError: padding matters and no constant channel is kept.
    """
    done: set[str] = set()
    for use in structure.channel_map.trace.consumptions:
        flags = leaves_constant(use, structure, kept)
        if use.parameter in done or not flags.any():
            continue
        done.add(use.parameter)
        module = structure.modules[use.module]
        weight, value = module.weight, torch.from_numpy(use.value)
        assert isinstance(weight, Tensor)
        by_input = weight if use.dim == 0 else weight.transpose(0, 1)
        index = torch.from_numpy(np.flatnonzero(flags))
        scaled = by_input[index] * value[index].to(weight).view(-1, *[1] * (weight.dim() - 1))
        chosen = best_carrier(use, structure, kept) if use.bordered else None
        if chosen is not None:
            by_input[chosen] += scaled.sum(dim=0) / value[chosen].to(weight)
        elif use.bordered and not approximate:
            raise SurgeryError(f"{use.module} pads, and the plan keeps no constant channel for it")
        else:
            _add_bias(module, scaled.flatten(2).sum(dim=(0, 2)) if scaled.dim() > 2 else scaled.sum(dim=0))


def _add_bias(module: nn.Module, change: Tensor) -> None:
    bias = module.bias
    if isinstance(bias, Tensor):
        bias.add_(change)
    else:
        module.bias = nn.Parameter(change.clone())
