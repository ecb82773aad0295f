"""A masked network in double precision, traced: what plans are made on and cut from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models.channels.labels import Numbers
from toolkit.models.channels.records import Trace
from toolkit.models.channels.trace import run_trace
from toolkit.models.groups import ChannelMap, survey
from toolkit.models.masks import MaskSet
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.fold import multiply_masks
from toolkit.surgery.run import clone, noise_like, outputs_of, replace_module, smaller_noise
from toolkit.surgery.structure import Flags, Structure

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A masked network in double precision, traced.

    Attributes:
        net: dense, masks folded, blocks removed, in evaluation mode.
        structure: its channels.
        zero: module to positions of its output that a mask sets to zero.
    """

    net: nn.Module
    structure: Structure
    example: Tensor
    zero: dict[str, Flags]


def prepare(net: nn.Module, masks: MaskSet | None, blocks: tuple[str, ...], example: Tensor) -> Prepared:
    """Fold masks into a copy, remove blocks from it and trace it. ``net`` is not changed.

    The trace runs on noise of at most 64 pixels where the network takes that: what can be removed does not depend
    on the size.

    Raises:
        SurgeryError: a block is not the identity when its branch is zero, or a mask cannot be folded.
        GroupError: nothing can be removed.
    """
    work = clone(net, torch.float64).eval()
    zero = {} if masks is None else fold_and_note(work, masks)
    small = smaller_noise(example)
    if small is not None:
        try:
            return _traced(work, blocks, small, zero)
        except (RuntimeError, ValueError, IndexError) as error:
            log.debug("the network takes no picture of %s: %s", tuple(small.shape), error)
    return _traced(work, blocks, noise_like(example), zero)


def _traced(work: nn.Module, blocks: tuple[str, ...], probe: Tensor, zero: dict[str, Flags]) -> Prepared:
    remove_blocks(work, blocks, probe)
    return Prepared(work, Structure(work, survey(work, probe)), probe, zero)


def fold_and_note(net: nn.Module, masks: MaskSet) -> dict[str, Flags]:
    """Multiply masks into the weights, in place; returns where they are zero, by module."""
    multiply_masks(net, masks)
    scales = ((site, masks.scale(number).detach()) for number, site in enumerate(masks.sites))
    return {site: (s == 0).cpu().numpy() if s.dim() else np.zeros(0, dtype=bool) for site, s in scales}


def remask(ready: Prepared, zero: Flags) -> Prepared:
    """Set channels of an unmasked prepared network to zero, in place; its groups stay as they are.

    The network is traced again for the constants that this leaves, unless every operator leaves zeros as they are.

    Args:
        zero: ``(labels,)`` flags by root.
    """
    channel_map = ready.structure.channel_map
    noted = fold_and_note(ready.net, zero_masks(channel_map, zero))
    if (zero & channel_map.stirred).any():
        trace = run_trace(ready.net, ready.example, Numbers())
    else:
        trace = _silenced(channel_map, zero, outputs_of(ready.net, ready.example))
    changed = replace(channel_map, trace=trace)
    return Prepared(ready.net, Structure(ready.net, changed), ready.example, noted)


def _silenced(channel_map: ChannelMap, zero: Flags, outputs: list[Tensor]) -> Trace:
    """The trace, if these channels arrive as zeros wherever they are read."""
    uses = []
    for use in channel_map.trace.consumptions:
        quiet = zero[channel_map.roots[use.labels]]
        value = np.where(quiet, 0.0, use.value)
        uses.append(replace(use, const=use.const | quiet, uniform=use.uniform | quiet, value=value))
    return replace(channel_map.trace, consumptions=uses, outputs=outputs)


def zero_masks(channel_map: ChannelMap, zero: Flags) -> MaskSet:
    """Masks that are zero for these roots and one elsewhere."""
    masks = MaskSet(channel_map.groups)
    masks.set_({g.name: torch.from_numpy(~zero[g.roots]).float() for g in channel_map.groups})
    return masks


def remove_blocks(net: nn.Module, blocks: tuple[str, ...], example: Tensor) -> None:
    """Replace residual blocks by the identity, in place, after showing that they are it.

    Raises:
        SurgeryError: a block does not exist or changes its input.
    """
    seen: dict[str, bool] = {}
    handles = []
    for name in blocks:
        try:
            module = net.get_submodule(name)
        except AttributeError as error:
            raise SurgeryError(f"the network has no block {name!r}") from error

        def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            seen[name] = args[0].shape == output.shape and bool(torch.equal(args[0], output))

        handles.append(module.register_forward_hook(note))
    if blocks:
        outputs_of(net, example)
    for handle in handles:
        handle.remove()
    for name in blocks:
        if not seen.get(name, False):
            raise SurgeryError(f"block {name} is not the identity when its branch is zero; keep it")
    for name in blocks:
        replace_module(net, name, nn.Identity())
