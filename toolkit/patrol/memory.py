"""Memory layout of networks that train on a CPU or a GPU."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(module: nn.Module) -> None:
    """Store every kernel of ``module`` channels-last, in place: convolutions in bf16 are faster that way."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
