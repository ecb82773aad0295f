"""Weights and masks as training leaves them: nothing at its initial value."""

import torch
from torch import nn

from toolkit.models.masks import MaskSet


def randomize(net: nn.Module, seed: int) -> None:
    """Random statistics, scales, shifts and biases."""
    generator = torch.Generator().manual_seed(seed)

    def rand(tensor: torch.Tensor) -> torch.Tensor:
        return torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                if getattr(module, "running_mean", None) is not None:
                    module.running_mean.copy_(rand(module.running_mean) - 0.5)
                    module.running_var.copy_(rand(module.running_var) + 0.5)
                if module.weight is not None:
                    module.weight.copy_(rand(module.weight) + 0.5)
                    module.bias.copy_(rand(module.bias) - 0.5)
            elif isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d) and module.bias is not None:
                module.bias.copy_(rand(module.bias) - 0.5)


def random_masks(masks: MaskSet, zeros: float, seed: int) -> None:
    """Each mask zero with probability ``zeros``, else between 0.2 and 1.2; each block off with half of it."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, mask in masks.values().items():
        if mask.dim():
            on = torch.rand(mask.shape, generator=generator) >= zeros
            values[name] = (torch.rand(mask.shape, generator=generator) + 0.2) * on
        else:
            values[name] = (torch.rand((), generator=generator) >= zeros / 2).float()
    masks.set_(values)
