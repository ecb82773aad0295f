"""A masked network in double precision, traced: what plans are made on and cut from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models.channels.records import Trace
from toolkit.models.channels.trace import run_trace
from toolkit.models.groups import ChannelMap, survey
from toolkit.models.masks import MaskSet
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.fold import multiply_masks
from toolkit.surgery.run import clone, noise_like, outputs_of, replace_module, smaller_noise
from toolkit.surgery.structure import Flags, Structure

TRACED_SIDE = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A masked network in double precision, traced.

    Attributes:
        net: dense, masks folded, blocks removed, in evaluation mode.
        structure: its channels.
        example: what it was traced on.
        zero: module to positions of its output that a mask sets to zero.
        proof: what the slim network is compared on, where that is another input.
    """

    net: nn.Module
    structure: Structure
    example: Tensor
    zero: dict[str, Flags]
    proof: Tensor | None = None

    @property
    def proof_input(self) -> Tensor:
        """What the slim network is compared on."""
        return self.example if self.proof is None else self.proof

    def outputs(self) -> list[Tensor]:
        """What the network gives for :attr:`proof_input`, from its trace or from a run."""
        known = self.structure.channel_map.trace.outputs if self.proof is None else []
        return known or outputs_of(self.net, self.proof_input)


def prepare(net: nn.Module, masks: MaskSet | None, blocks: tuple[str, ...], example: Tensor) -> Prepared:
    """Fold masks into a copy, remove blocks from it and trace it. ``net`` is not changed.

    The trace runs on noise of at most 32 pixels where the network takes that, and the slim network is compared on
    64: what can be removed does not depend on the size.

    Raises:
        SurgeryError: a block is not the identity when its branch is zero, or a mask cannot be folded.
        GroupError: nothing can be removed.
    """
    work = clone(net, torch.float64).eval()
    zero = {} if masks is None else fold_and_note(work, masks)
    tiny, small = smaller_noise(example, TRACED_SIDE), smaller_noise(example)
    larger = noise_like(example) if small is None else small
    for probe, proof in ((tiny, larger), (small, None)):
        if probe is not None:
            try:
                return _traced(work, blocks, zero, probe, proof)
            except (RuntimeError, ValueError, IndexError) as error:
                log.debug("the network takes no picture of %s: %s", tuple(probe.shape), error)
    return _traced(work, blocks, zero, noise_like(example))


def _traced(
    work: nn.Module, blocks: tuple[str, ...], zero: dict[str, Flags], probe: Tensor, proof: Tensor | None = None
) -> Prepared:
    remove_blocks(work, blocks, probe)
    return Prepared(work, Structure(work, survey(work, probe)), probe, zero, proof)


def fold_and_note(net: nn.Module, masks: MaskSet) -> dict[str, Flags]:
    """Multiply masks into the weights, in place; returns where they are zero, by module."""
    scales = multiply_masks(net, masks).items()
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
        trace = run_trace(ready.net, ready.example, channel_map.trace)
    else:
        trace = _silenced(channel_map, zero)
    structure = ready.structure.with_map(replace(channel_map, trace=trace))
    return replace(ready, structure=structure, zero=noted)


def _silenced(channel_map: ChannelMap, zero: Flags) -> Trace:
    """The trace, if these channels arrive as zeros wherever they are read. It does not know the outputs."""
    uses = []
    for use in channel_map.trace.consumptions:
        quiet = zero[channel_map.roots[use.labels]]
        value = np.where(quiet, 0.0, use.value)
        uses.append(replace(use, const=use.const | quiet, uniform=use.uniform | quiet, value=value))
    return replace(channel_map.trace, consumptions=uses, outputs=[])


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
