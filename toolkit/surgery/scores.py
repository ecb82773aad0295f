"""How much a channel matters: importance scores per coupled group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from toolkit.models.groups import ChannelGroup
from toolkit.surgery.errors import SurgeryError

Criterion = Literal["l1", "l2", "bn_scale", "taylor", "fpgm"]
Loss = Callable[[nn.Module], Tensor]


def score(
    net: nn.Module, groups: Sequence[ChannelGroup], criterion: Criterion, loss: Loss | None = None
) -> dict[str, Tensor]:
    """Importance of every channel of every group, ``(channels,)`` float64; higher matters more.

    A group's score is the mean over the layers that produce it, and is divided by the group's mean, so that groups
    can be ranked against each other.

    Args:
        criterion: ``l1`` and ``l2``: norm of the filters (Li et al. 2017, arXiv:1608.08710); ``bn_scale``: size of
            the normalization's scale (Liu et al. 2017, arXiv:1708.06519); ``taylor``: |sum of weight x gradient|
            (Molchanov et al. 2019, arXiv:1906.10771); ``fpgm``: distance to the layer's other filters
            (He et al. 2019, arXiv:1811.00250).
        loss: for ``taylor``: the loss of the network on a batch; gradients of the network are restored.

    Raises:
        SurgeryError: ``taylor`` without a loss, a loss that is not finite, or a group without a scale.
    """
    if criterion == "taylor":
        return _taylor(net, groups, loss)
    modules, state = dict(net.named_modules()), dict(net.named_parameters())
    result = {}
    for group in groups:
        parts = [_measure(filters, criterion) for filters in _filters(modules, state, group, criterion)]
        if not parts:
            raise SurgeryError(f"group {group.name} has no normalization to take {criterion} from; use l2")
        result[group.name] = _normalized(parts)
    return result


def _normalized(parts: Sequence[Tensor]) -> Tensor:
    total = torch.stack([part.double() for part in parts]).mean(dim=0)
    return total / total.mean().clamp(min=torch.finfo(torch.float64).tiny)


def _filters(
    modules: Mapping[str, nn.Module], state: Mapping[str, Tensor], group: ChannelGroup, criterion: Criterion
) -> Iterator[Tensor]:
    """``(channels, numbers)`` for every producer: filters, or scales."""
    for member in group.members:
        tensor = state.get(member.parameter)
        if tensor is None or not member.parameter.endswith("weight"):
            continue
        module = modules[member.parameter.rpartition(".")[0]]
        wanted = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
        is_scale = tensor.dim() == 1 and isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm)
        if member.dim == wanted and (is_scale if criterion == "bn_scale" else tensor.dim() > 1):
            picked = tensor.detach().movedim(member.dim, 0)[torch.from_numpy(member.index)]
            yield picked.reshape(group.channels, -1)


def _measure(filters: Tensor, criterion: Criterion) -> Tensor:
    if criterion in ("l1", "bn_scale"):
        return filters.abs().sum(dim=1)
    if criterion == "l2":
        return filters.norm(dim=1)
    return torch.cdist(filters.double(), filters.double()).sum(dim=1)


def _taylor(net: nn.Module, groups: Sequence[ChannelGroup], loss: Loss | None) -> dict[str, Tensor]:
    if loss is None:
        raise SurgeryError("taylor scores need a loss on a batch")
    modules, parameters = dict(net.named_modules()), dict(net.named_parameters())
    trainable = {name: p for name, p in parameters.items() if p.requires_grad}
    value = loss(net)
    if not bool(torch.isfinite(value)):
        raise SurgeryError("the loss for taylor scores is not finite; use another batch or rate")
    gradients = torch.autograd.grad(value, list(trainable.values()), allow_unused=True)
    product = {
        name: (p * g).detach() for (name, p), g in zip(trainable.items(), gradients, strict=True) if g is not None
    }
    result = {}
    for group in groups:
        parts = [filters.sum(dim=1).abs() for filters in _filters(modules, product, group, "l1")]
        if not parts:
            raise SurgeryError(f"the loss does not depend on group {group.name}")
        result[group.name] = _normalized(parts)
    return result
