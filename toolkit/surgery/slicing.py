"""The knife: parameters, buffers and the integers that modules keep about them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toolkit.models.channels.labels import along
from toolkit.surgery.structure import Flags, Structure


@torch.no_grad()
def cut_channels(net: nn.Module, structure: Structure, kept: Flags) -> None:
    """Remove every position whose coupled set is not kept, in place. Shared tensors stay shared."""
    wanted: dict[str, list[tuple[int, Tensor]]] = {}
    for (name, dim), found in structure.dims.items():
        flags = kept[found]
        if not flags.all():
            wanted.setdefault(name, []).append((dim, torch.from_numpy(flags).nonzero().flatten()))
    modules = [(path, module, _group_width(module)) for path, module in net.named_modules()]
    replaced: dict[int, Tensor] = {}
    for path, module, _ in modules:
        for key, tensor in _tensors(module):
            cuts = wanted.get(f"{path}.{key}" if path else key)
            if cuts is not None and id(tensor) not in replaced:
                replaced[id(tensor)] = _sliced(tensor, cuts)
    for _, module, width in modules:
        for table in (module._parameters, module._buffers):
            for key, tensor in table.items():
                if tensor is not None and id(tensor) in replaced:
                    table[key] = replaced[id(tensor)]
        _update(module, width)
    _update_unweighted(structure, kept)
    for binding in structure.channel_map.trace.bindings:
        module = structure.modules[binding.module]
        setattr(module, binding.attribute, structure.count(binding.labels, kept))


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """A module's own parameters and buffers."""
    return [(k, t) for k, t in [*module._parameters.items(), *module._buffers.items()] if t is not None]


def _sliced(tensor: Tensor, cuts: list[tuple[int, Tensor]]) -> Tensor:
    data = tensor.detach()
    last = data.dim() == 4 and not data.is_contiguous() and data.is_contiguous(memory_format=torch.channels_last)
    for dim, index in cuts:
        data = data.index_select(dim, index.to(data.device))
    if last:
        data = data.contiguous(memory_format=torch.channels_last)
    return nn.Parameter(data, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _group_width(module: nn.Module) -> int:
    """Output channels per group of a grouped convolution, 0 for anything else."""
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1:
        return module.out_channels // module.groups
    return 0


def _update(module: nn.Module, width: int) -> None:
    """Make a layer's integers say what its tensors are."""
    if isinstance(module, nn.modules.conv._ConvNd):
        first, second = module.weight.shape[:2]
        if width and not module.transposed:
            module.groups = first // width
        if module.transposed:
            module.in_channels, module.out_channels = first, second * module.groups
        else:
            module.in_channels, module.out_channels = second * module.groups, first
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        known = module.weight if module.weight is not None else module.running_mean
        if known is not None:
            module.num_features = len(known)
    elif isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels and module.affine:
        module.num_groups = module.num_channels = len(module.weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def _update_unweighted(structure: Structure, kept: Flags) -> None:
    """Normalizations without any tensor: their number of channels is that of what passes through them."""
    for path, known in structure.channel_map.trace.module_outputs.items():
        module = structure.modules[path]
        bare = isinstance(module, nn.modules.batchnorm._NormBase) and module.weight is None
        if (bare and module.running_mean is None) or (isinstance(module, nn.GroupNorm) and not module.affine):
            labels = known.labels[0]
            line = along(labels, 1).numpy()
            number = structure.count(line, kept)
            if isinstance(module, nn.GroupNorm):
                if module.num_groups == module.num_channels:
                    module.num_groups = module.num_channels = number
            else:
                module.num_features = number
