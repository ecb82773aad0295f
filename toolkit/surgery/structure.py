"""The network's channels as one table: which coupled set sits at which position of which tensor."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd

from toolkit.models.channels.grouping import positions
from toolkit.models.channels.labels import Indices
from toolkit.models.groups import ChannelMap
from toolkit.surgery.run import named_tensors

Flags = NDArray[np.bool_]


class Structure:
    """Sizes of every tensor, given which coupled sets are kept.

    A state is ``kept``: ``(labels,)`` flags indexed by root, True for everything at first.

    Attributes:
        net: the network, uncut.
        channel_map: its groups and trace.
        dims: ``(parameter, dimension)`` to the coupled set at each position.
        modules: by path; a cut changes them in place.
        convolutions: weights of convolutions, in order of use, with their number of groups.
    """

    def __init__(self, net: nn.Module, channel_map: ChannelMap) -> None:
        self.net, self.channel_map = net, channel_map
        self.roots = channel_map.roots
        self.modules = dict(net.named_modules())
        self.shapes = {name: tuple(tensor.shape) for name, tensor in named_tensors(net).items()}
        self.dims: dict[tuple[str, int], Indices] = {}
        removable = np.zeros(len(self.roots), dtype=bool)
        for group in channel_map.groups:
            removable[group.roots] = True
        for name, dim, found in positions(channel_map.trace, self.roots):
            if removable[found].any():
                self.dims[name, dim] = found
        self.removable = removable
        self.convolutions: dict[str, int] = {}
        for production in channel_map.trace.productions:
            module = self.modules[production.module]
            if len(self.shapes.get(production.parameter, ())) > 2:
                self.convolutions.setdefault(production.parameter, int(getattr(module, "groups", 1)))

    def with_map(self, channel_map: ChannelMap) -> Structure:
        """The same structure with another trace of the same channels."""
        result = copy.copy(self)
        result.channel_map = channel_map
        result.shapes, result.dims = dict(self.shapes), dict(self.dims)
        return result

    def add_bias(self, net: nn.Module, layer: str) -> None:
        """Know of a bias that the network has now and had not when it was traced."""
        module = net.get_submodule(layer)
        bias = module.bias
        assert isinstance(bias, nn.Parameter)
        self.shapes[f"{layer}.bias"] = tuple(bias.shape)
        out_dim = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
        found = self.dims.get((f"{layer}.weight", out_dim))
        if found is not None:
            self.dims[f"{layer}.bias", 0] = found

    def everything(self) -> Flags:
        """The state in which nothing is removed."""
        return np.ones(len(self.roots), dtype=bool)

    def size(self, parameter: str, dim: int, kept: Flags) -> int:
        """Length of one dimension of one tensor."""
        found = self.dims.get((parameter, dim))
        return self.shapes[parameter][dim] if found is None else int(kept[found].sum())

    def shape(self, parameter: str, kept: Flags) -> tuple[int, ...]:
        """Shape of one tensor."""
        return tuple(self.size(parameter, dim, kept) for dim in range(len(self.shapes[parameter])))

    def count(self, labels: Indices, kept: Flags) -> int:
        """How many of these labelled positions are kept."""
        return int(kept[self.roots[labels]].sum())

    def widths(self) -> dict[str, tuple[int, int]]:
        """Output and input channels of every convolution that was traced."""
        modules = {name.rpartition(".")[0] for name in self.convolutions}
        found = {name: self.modules[name] for name in modules}
        return {n: (m.out_channels, m.in_channels) for n, m in found.items() if isinstance(m, _ConvNd)}

    def unaligned(self, kept: Flags, align: int) -> tuple[str, ...]:
        """Convolutions that will not be multiples of ``align``."""
        named = []
        for weight, groups in self.convolutions.items():
            first, second = self.shape(weight, kept)[:2]
            if groups > 1 and second * groups % align:
                second = first * second // (self.shapes[weight][0] // groups)
            if first % align or second % align:
                named.append(weight.rpartition(".")[0])
        return tuple(dict.fromkeys(named))
