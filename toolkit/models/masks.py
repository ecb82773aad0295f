"""Soft masks on coupled channel groups and on residual blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from toolkit.models.groups import ChannelGroup, GroupError, ResidualBlock

BLOCK_PREFIX = "block:"


class MaskHook:
    """Forward hook that multiplies one module's output by its channels' masks (and its block's mask)."""

    def __init__(self, masks: MaskSet, site: int) -> None:
        self.masks, self.site = masks, site

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        scale = self.masks.scale(self.site).to(output.dtype)
        shape = [1] * output.dim()
        shape[self.masks.dims[self.site]] = -1
        return output * (scale.view(shape) if scale.dim() else scale)


class MaskSet(nn.Module):
    """One trainable vector per channel group and one scalar per residual block, all 1 at first.

    The mask multiplies the output of every producer of its group, after normalization . The order of groups, and
    with it of ``parameters()``, is the order of the forward pass. To export a masked network, switch the masks'
    gradients off first (``requires_grad_(False)``), or fold them (``toolkit.surgery.fold_masks``).

    Args:
        groups: of one network, from ``find_groups``.
        blocks: residual blocks to mask as a whole; their masks are scalars named ``block:<path>``.

    Raises:
        GroupError: there is no group.
    """

    def __init__(self, groups: Sequence[ChannelGroup], blocks: Sequence[ResidualBlock] = ()) -> None:
        super().__init__()
        if not groups:
            raise GroupError("a mask set needs at least one channel group")
        self.groups, self.blocks = tuple(groups), tuple(blocks)
        self.names: tuple[str, ...] = (
            *(group.name for group in self.groups),
            *(BLOCK_PREFIX + block.name for block in self.blocks),
        )
        self.channel_masks = nn.ParameterList(nn.Parameter(torch.ones(g.channels)) for g in self.groups)
        self.block_masks = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in self.blocks)
        self.sites: list[str] = []
        self.dims: list[int] = []
        self._site_groups: list[list[int]] = []
        self._site_blocks: list[list[int]] = []
        self._handles: list[RemovableHandle] = []
        self._collect()

    def _collect(self) -> None:
        found: dict[str, list[tuple[int, Any, int]]] = defaultdict(list)
        for number, group in enumerate(self.groups):
            for point in group.producers:
                found[point.module].append((number, point.index, point.dim))
        ends = defaultdict(list)
        for number, block in enumerate(self.blocks):
            ends[block.module].append(number)
        for module in [*found, *(m for m in ends if m not in found)]:
            self.sites.append(module)
            self.dims.append(found[module][0][2] if module in found else 1)
            self._site_groups.append([number for number, _, _ in found[module]])
            self._site_blocks.append(ends[module])
            self.register_buffer(
                f"index_{len(self.sites) - 1}", self._gather_index(found[module]), persistent=False
            )

    def _gather_index(self, entries: Sequence[tuple[int, Any, int]]) -> Tensor:
        """Position in ``[1, masks of the site's groups...]`` for every channel of the site's output."""
        if not entries:
            return torch.zeros(0, dtype=torch.int64)
        index, offset = torch.zeros(len(entries[0][1]), dtype=torch.int64), 1
        for number, positions, _ in entries:
            units = torch.from_numpy(positions)
            index = torch.where(units >= 0, units + offset, index)
            offset += self.groups[number].channels
        return index

    def scale(self, site: int) -> Tensor:
        """What multiplies a site's output: ``(C,)``, or a scalar where only a block mask acts."""
        index = cast(Tensor, getattr(self, f"index_{site}"))
        masks = [self.channel_masks[number] for number in self._site_groups[site]]
        value = torch.ones((), device=index.device)
        if masks:
            value = torch.cat([torch.ones_like(masks[0][:1]), *masks])[index]
        for number in self._site_blocks[site]:
            value = value * self.block_masks[number]
        return value

    def attach(self, net: nn.Module) -> None:
        """Mask the network's forward passes until :meth:`detach`.

        Raises:
            GroupError: masks are attached already, or a masked module is not in this network.
        """
        if self._handles:
            raise GroupError("these masks are attached already; detach() them first")
        modules = dict(net.named_modules())
        if absent := [site for site in self.sites if site not in modules]:
            raise GroupError(f"the network has no module {absent[0]!r}; find its groups again")
        if any(isinstance(h, MaskHook) for m in modules.values() for h in m._forward_hooks.values()):
            raise GroupError("the network has masks attached already; detach() them first")
        self._handles = [modules[s].register_forward_hook(MaskHook(self, i)) for i, s in enumerate(self.sites)]

    def detach(self) -> None:
        """Stop masking; the values stay."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def values(self) -> dict[str, Tensor]:
        """The live, trainable masks by name: ``(channels,)`` per group, then scalars ``block:<path>``."""
        return dict(zip(self.names, [*self.channel_masks, *self.block_masks], strict=True))

    @torch.no_grad()
    def set_(self, values: Mapping[str, Tensor]) -> None:
        """Overwrite masks; names that are absent keep their values.

        Raises:
            GroupError: an unknown name, another shape, or a value that is not finite.
        """
        own = self.values()
        for name, value in values.items():
            if name not in own:
                raise GroupError(f"no mask {name!r} in this set")
            given = torch.as_tensor(value)
            if given.shape != own[name].shape or not bool(torch.isfinite(given).all()):
                raise GroupError(
                    f"mask {name!r} needs {tuple(own[name].shape)} finite values, not {tuple(given.shape)}"
                )
        for name, value in values.items():
            own[name].copy_(torch.as_tensor(value))

    def zero_fraction(self) -> float:
        """Share of channel masks that are exactly zero."""
        total = sum(mask.numel() for mask in self.channel_masks)
        return sum(int((mask == 0).sum()) for mask in self.channel_masks) / total
