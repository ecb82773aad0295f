"""From a dense network and a plan to the slim network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from toolkit.models.architecture import Architecture
from toolkit.models.channels.labels import Numbers
from toolkit.models.channels.trace import Trace, run_trace
from toolkit.models.groups import ChannelMap, survey
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.models.network import ReidNet, build_network
from toolkit.surgery.deviation import Deviation, compare
from toolkit.surgery.errors import PlanError, SurgeryError
from toolkit.surgery.fold import fold_constants, multiply_masks, new_biases
from toolkit.surgery.plan import Plan, fingerprint
from toolkit.surgery.run import clone, example_for, noise_like, outputs_of, replace_module, smaller_noise
from toolkit.surgery.slicing import cut_channels
from toolkit.surgery.structure import Flags, Structure

Borders = Literal["exact", "approximate"]
Net = TypeVar("Net", bound=nn.Module)
TOLERANCE = 1e-9
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


def kept_flags(structure: Structure, plan: Plan) -> Flags:
    """The plan's kept channels as flags by root.

    Raises:
        PlanError: its groups are not this network's.
    """
    kept = structure.everything()
    groups = {group.name: group for group in structure.channel_map.groups}
    if missing := set(plan.groups) - set(groups):
        raise PlanError(f"the plan has a group {sorted(missing)[0]!r} that this network has not")
    for name, listed in plan.groups.items():
        if groups[name].channels != listed.channels:
            found = groups[name].channels
            raise PlanError(f"group {name} has {found} channels, the plan says {listed.channels}")
        kept[groups[name].roots[list(listed.removed)]] = False
    return kept


def implied_masks(channel_map: ChannelMap, plan: Plan) -> MaskSet:
    """Masks that are zero for all that a plan removes, and for what carries a constant in its place."""
    known = {block.name for block in channel_map.blocks}
    if unknown := set(plan.removed_blocks) - known:
        raise PlanError(f"block {sorted(unknown)[0]} is not removable in this network")
    masks = MaskSet(channel_map.groups, channel_map.blocks)
    values = {}
    for name, listed in plan.groups.items():
        value = torch.ones(listed.channels)
        value[[*listed.removed, *listed.constant]] = 0
        values[name] = value
    values.update({BLOCK_PREFIX + name: torch.tensor(0.0) for name in plan.removed_blocks})
    masks.set_(values)
    return masks


def apply_plan(
    net: Net, masks: MaskSet | None, plan: Plan, example: Tensor | None = None, borders: Borders = "exact"
) -> Net:
    """The slim network: a new one, equal to the masked network; ``net`` is not changed.

    Masks that are not zero are folded into the normalizations' scale and shift. Constants that removed channels
    leave are folded into the layers that read them. The result is compared with the masked network in double
    precision before it is returned.

    Args:
        net: the dense network, masks attached or not.
        masks: needed for a plan made from masks; for plans from scores or lists None means zero for what is
            removed; for plans from zeros None.
        plan: made for this network.
        example: an input; a ReidNet has a default.
        borders: ``approximate`` adds constants to the bias even in front of padding, and only logs the deviation.

    Raises:
        PlanError: the plan is not for this network or these weights.
        SurgeryError: the removal would not be exact.
    """
    plan = Plan.parse(plan)
    plan.check(net)
    example = example_for(net, example)
    if masks is None and plan.source == "masks":
        raise PlanError("this plan was made from masks; pass them")
    if masks is None and plan.source in ("scores", "lists"):
        masks = implied_masks(survey(clone(net), example), plan)
    return finish(net, prepare(net, masks, plan.removed_blocks, example), plan, borders)


def finish(net: Net, ready: Prepared, plan: Plan, borders: Borders = "exact") -> Net:
    """Cut a prepared network, which is used up; see :func:`apply_plan`.

    Raises:
        PlanError: the plan is not for these weights.
        SurgeryError: the removal would not be exact.
    """
    slim, structure = ready.net, ready.structure
    kept = kept_flags(structure, plan)
    needed = set(new_biases(slim, structure, kept))
    if borders == "exact" and not needed <= set(plan.created_biases):
        missing = sorted(needed - set(plan.created_biases))
        raise PlanError(f"{missing[0]} needs a bias; the plan was made for other weights")
    before = structure.channel_map.trace.outputs
    dense = structure.widths()
    add_biases(slim, structure, plan.created_biases)
    fold_constants(slim, structure, kept, borders == "approximate")
    cut_channels(slim, structure, kept)
    _verify(slim, before, ready.example, borders)
    check_alignment(slim, dense, plan)
    if fingerprint(slim) != plan.result:
        raise PlanError("the plan does not lead to the network that it was saved with")
    _restore(slim, net)
    return cast(Net, slim)


def check_alignment(slim: nn.Module, dense: Mapping[str, tuple[int, int]], plan: Plan) -> None:
    """Every convolution of the finished network is aligned, or as wide as it was and named by the plan.

    Raises:
        SurgeryError: one is not.
    """
    for name, module in slim.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd) and name in dense:
            widths = (module.out_channels, module.in_channels)
            for size, before in zip(widths, dense[name], strict=True):
                if size % plan.align and (size != before or name not in plan.unaligned):
                    raise SurgeryError(f"{name} has {size} channels, which is not aligned to {plan.align}")


def _verify(slim: nn.Module, before: list[Tensor], example: Tensor, borders: Borders) -> None:
    try:
        after = outputs_of(slim, example)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SurgeryError(f"the network computes a size that removal does not change: {reason}") from error
    deviation = compare(before, after)
    log.info("slim network against masked network: %s", deviation)
    if borders == "exact" and not deviation.relative <= TOLERANCE:
        raise SurgeryError(f"removal would change the output by {deviation.relative:.1e} of its largest value")


def add_biases(net: nn.Module, structure: Structure, layers: Sequence[str]) -> None:
    """Give layers a bias of zeros, in place.

    Raises:
        PlanError: one does not exist or is no convolution or linear layer.
    """
    for path in layers:
        try:
            module = net.get_submodule(path)
        except AttributeError as error:
            raise PlanError(f"the plan gives a bias to {path!r}, which does not exist") from error
        if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            raise PlanError(f"the plan gives a bias to {path!r}, which is no convolution or linear layer")
        if module.bias is None:
            outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            zeros = torch.zeros(outputs, dtype=module.weight.dtype, device=module.weight.device)
            module.bias = nn.Parameter(zeros)
            structure.add_bias(net, path)


def _restore(slim: nn.Module, net: nn.Module) -> None:
    """Types, gradients and modes of the original."""
    types = {name: tensor.dtype for name, tensor in net.state_dict().items()}
    first = next(iter(types.values()))
    for name, parameter in slim.named_parameters():
        parameter.data = parameter.data.to(types.get(name, first))
    for name, buffer in slim.named_buffers():
        if name in types:
            buffer.data = buffer.data.to(types[name])
    modes = {name: module.training for name, module in net.named_modules()}
    for name, module in slim.named_modules():
        module.training = modes.get(name, slim.training)


def shrink(net: Net, plan: Plan | Mapping[str, Any], example: Tensor | None = None) -> Net:
    """The slim network's shape, made from a dense network of the plan's architecture; weights are to be loaded.

    Raises:
        PlanError: the plan is for another architecture, or does not lead to the network it says.
    """
    plan = Plan.parse(plan)
    plan.check(net)
    slim = clone(net)
    for name in plan.removed_blocks:
        replace_module(slim, name, nn.Identity())
    structure = Structure(slim, survey(slim, example_for(net, example)))
    kept = kept_flags(structure, plan)
    add_biases(slim, structure, plan.created_biases)
    cut_channels(slim, structure, kept)
    if fingerprint(slim) != plan.result:
        raise PlanError("the plan does not lead to the network that it was saved with")
    return cast(Net, slim)


def rebuild(architecture: Architecture, plan: Plan | Mapping[str, Any]) -> ReidNet:
    """The slim ReidNet of an architecture and a plan, with initial weights; load the saved ones into it.

    Raises:
        PlanError: see :func:`shrink`.
    """
    return shrink(build_network(architecture), plan)


__all__ = ["Borders", "Deviation", "apply_plan", "rebuild", "shrink"]
