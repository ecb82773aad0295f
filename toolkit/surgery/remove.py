"""From a dense network and a plan to the slim network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from toolkit.models.architecture import Architecture
from toolkit.models.groups import ChannelMap, survey
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.models.network import ReidNet, build_network
from toolkit.surgery.deviation import Deviation, compare
from toolkit.surgery.errors import PlanError, SurgeryError
from toolkit.surgery.fold import fold_constants, new_biases
from toolkit.surgery.plan import Plan, fingerprint
from toolkit.surgery.prepare import Prepared, prepare
from toolkit.surgery.run import clone, example_for, outputs_of, replace_module
from toolkit.surgery.slicing import cut_channels
from toolkit.surgery.structure import Flags, Structure

Borders = Literal["exact", "approximate"]
Net = TypeVar("Net", bound=nn.Module)
TOLERANCE = 1e-9
log = logging.getLogger(__name__)


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
    needed = set(new_biases(structure, kept))
    if borders == "exact" and not needed <= set(plan.created_biases):
        missing = sorted(needed - set(plan.created_biases))
        raise PlanError(f"{missing[0]} needs a bias; the plan was made for other weights")
    before = ready.outputs()
    dense = structure.widths()
    add_biases(slim, structure, plan.created_biases)
    fold_constants(structure, kept, borders == "approximate")
    cut_channels(slim, structure, kept)
    _verify(slim, before, ready.proof_input, borders)
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
    """Types and modes of the original, hidden buffers included; a bias that is new gets its layer's type."""
    originals = dict(net.named_modules())
    for path, module in slim.named_modules():
        old = originals.get(path)
        for table in ("_parameters", "_buffers"):
            known = {} if old is None else getattr(old, table)
            for name, tensor in getattr(module, table).items():
                was = known.get(name)
                if was is None and name == "bias":
                    was = known.get("weight")
                if tensor is not None and was is not None and tensor.dtype != was.dtype:
                    tensor.data = tensor.data.to(was.dtype)
        if old is not None:
            module.training = old.training


def shrink(net: Net, plan: Plan | Mapping[str, Any], example: Tensor | None = None) -> Net:
    """The slim network's shape, made from a dense network of the plan's architecture; weights are to be loaded.

    Raises:
        PlanError: the plan is for another architecture, or does not lead to the network it says.
    """
    plan = Plan.parse(plan)
    plan.check(net)
    slim = _shrunk(net, plan, example)
    if fingerprint(slim) != plan.result:
        raise PlanError("the plan does not lead to the network that it was saved with")
    return slim


def transfer(net: Net, plan: Plan | Mapping[str, Any], example: Tensor | None = None) -> tuple[Plan, Net]:
    """A plan for another dense network with the same channel groups, and the slim network of initial weights.

    For a network that differs where nothing is ever cut: a classifier for other identities.

    Args:
        net: the other dense network.

    Raises:
        PlanError: its groups are not the plan's.
    """
    plan = Plan.parse(plan)
    slim = _shrunk(net, plan, example)
    return plan.model_copy(update={"architecture": fingerprint(net), "result": fingerprint(slim)}), slim


def _shrunk(net: Net, plan: Plan, example: Tensor | None) -> Net:
    slim = clone(net)
    for name in plan.removed_blocks:
        replace_module(slim, name, nn.Identity())
    structure = Structure(slim, survey(slim, example_for(net, example)))
    kept = kept_flags(structure, plan)
    add_biases(slim, structure, plan.created_biases)
    cut_channels(slim, structure, kept)
    return cast(Net, slim)


def rebuild(architecture: Architecture, plan: Plan | Mapping[str, Any]) -> ReidNet:
    """The slim ReidNet of an architecture and a plan, with initial weights; load the saved ones into it.

    Raises:
        PlanError: see :func:`shrink`.
    """
    return shrink(build_network(architecture), plan)


__all__ = ["Borders", "Deviation", "apply_plan", "rebuild", "shrink", "transfer"]
