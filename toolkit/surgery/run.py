"""Copies of networks, and all outputs of one forward pass."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from toolkit.models.channels.trace import flat_tensors
from toolkit.models.masks import MaskHook
from toolkit.surgery.errors import SurgeryError

DEFAULT_SIDE = 64


def clone(net: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A deep copy without masks.

    Args:
        dtype: of the copy's floating-point tensors; None keeps the original's.
    """
    memo: dict[int, Any] = {}
    for tensor in (*net.parameters(), *net.buffers()):
        if dtype is not None and tensor.is_floating_point():
            data = tensor.detach().to(dtype, copy=True)
            parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(data, tensor.requires_grad) if parameter else data
    result = copy.deepcopy(net, memo)
    for module in result.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, MaskHook):
                del module._forward_hooks[key]
    return result


def example_for(net: nn.Module, example: Tensor | None) -> Tensor:
    """The given example, or for a ReidNet a random picture of 64 pixels.

    Raises:
        SurgeryError: a network of unknown input shape.
    """
    if example is not None:
        return example
    if not hasattr(net, "edge"):
        raise SurgeryError("give an example input: the shape that this network takes is not known")
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, DEFAULT_SIDE, DEFAULT_SIDE, generator=generator)


def noise_like(example: Tensor) -> Tensor:
    """Fixed random values in [0, 1) of an example's shape, in float64: a picture of zeros would show little."""
    return _noise(example.shape, example)


def smaller_noise(example: Tensor) -> Tensor | None:
    """The same at about 64 pixels, in steps of 32; None when the example is no larger."""
    if example.dim() != 4 or max(example.shape[2:]) <= DEFAULT_SIDE:
        return None
    scale = DEFAULT_SIDE / max(example.shape[2:])
    height, width = (max(32, round(side * scale / 32) * 32) for side in example.shape[2:])
    return _noise(torch.Size((1, example.shape[1], height, width)), example)


def _noise(shape: torch.Size, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(like.device)


@torch.no_grad()
def outputs_of(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Every tensor that the network gives; of a ReidNet the pooled vector, embedding and logits."""
    if hasattr(net, "edge") and hasattr(net, "heads"):
        halves = cast(Any, net)
        return list(flat_tensors(halves.heads(halves.edge(x))))
    return list(flat_tensors(net(x)))


def replace_module(net: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at ``path``.

    Raises:
        SurgeryError: the path does not exist.
    """
    parent, _, name = path.rpartition(".")
    try:
        net.get_submodule(path)
    except AttributeError as error:
        raise SurgeryError(f"the network has no block {path!r}") from error
    setattr(net.get_submodule(parent), name, module)
