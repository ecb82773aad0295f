"""What decides what goes: masks, zeros in the weights, importance scores, explicit lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from toolkit.models.channels.labels import Indices
from toolkit.models.groups import survey
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.surgery.choose import Choice, Scores, inexact, rounded
from toolkit.surgery.cost import Half, predicted_cost
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.fill import filled
from toolkit.surgery.plan import Plan, Source
from toolkit.surgery.prepare import Prepared, prepare, remask
from toolkit.surgery.proposal import PlanSettings, Proposal, allowed, by_root, masked_roots
from toolkit.surgery.remove import Net, finish
from toolkit.surgery.run import clone, example_for, noise_like
from toolkit.surgery.scores import Criterion, Loss, score
from toolkit.surgery.structure import Flags, Structure

Budgeted = Literal["parameters", "macs", "activation_bytes"]


class ScoreSettings(BaseModel):
    """How much goes by score; exactly one of ``ratio`` and ``budget``.

    Attributes:
        criterion: see :func:`toolkit.surgery.scores.score`.
        scope: ``global`` ranks all groups together, ``layer`` takes the ratio from every group.
        ratio: share of channels that goes.
        budget: share of the dense cost that may stay, charged on the aligned plan.
        budget_of: what the budget limits.
        half: whose cost the budget limits.
        most: share of one group that may go at the most.
        fill: with a budget, let aligned steps that still fit come back, the best scores first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    criterion: Criterion = "l2"
    scope: Literal["global", "layer"] = "global"
    ratio: float | None = Field(default=None, gt=0, lt=1)
    budget: float | None = Field(default=None, gt=0, lt=1)
    budget_of: Budgeted = "macs"
    half: Half = "all"
    most: float = Field(default=0.9, gt=0, le=1)
    fill: bool = False

    @model_serializer(mode="wrap")
    def _without_fill(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings without it keep the hash that they had before there was such a thing."""
        return {name: value for name, value in handler(self).items() if name != "fill" or value}


def _weight_norms(net: nn.Module, structure: Structure) -> Scores:
    return by_root(structure, score(net, structure.channel_map.groups, "l2"))


@dataclass(frozen=True)
class Slimmed(Generic[Net]):
    """A plan and the network that it leads to."""

    plan: Plan
    net: Net


def plan_from_masks(
    net: nn.Module, masks: MaskSet, settings: PlanSettings | None = None, example: Tensor | None = None
) -> Plan:
    """Remove what masks set to zero; blocks whose mask is zero become the identity.

    Args:
        net: the dense network, masks attached or not.
        example: an input; a ReidNet has a default.

    Raises:
        SurgeryError: a block cannot be removed.
        GroupError: nothing can be removed.
    """
    settings = settings or PlanSettings()
    return _from_masks(net, masks, example_for(net, example)).plan(settings)


def slim_by_masks(
    net: Net, masks: MaskSet, settings: PlanSettings | None = None, example: Tensor | None = None
) -> Slimmed[Net]:
    """:func:`plan_from_masks` and ``apply_plan`` in one, with one trace."""
    return _slimmed(net, _from_masks(net, masks, example_for(net, example)), settings or PlanSettings())


def _from_masks(net: nn.Module, masks: MaskSet, example: Tensor) -> Proposal:
    values = masks.values()
    blocks = tuple(b.name for b in masks.blocks if float(values[BLOCK_PREFIX + b.name].detach()) == 0)
    ready = prepare(net, masks, blocks, example)
    return Proposal(net, ready, masked_roots(ready), _weight_norms(net, ready.structure), "masks", blocks)


def _slimmed(net: Net, proposal: Proposal, settings: PlanSettings) -> Slimmed[Net]:
    plan = proposal.plan(settings)
    return Slimmed(plan, finish(net, proposal.ready, plan, settings.borders))


def plan_from_zeros(net: nn.Module, settings: PlanSettings | None = None, example: Tensor | None = None) -> Plan:
    """Remove channels that are constant already: zeroed filters, zeroed normalization scales.

    Raises:
        GroupError: nothing can be removed.
    """
    settings = settings or PlanSettings()
    return _from_zeros(net, settings, example_for(net, example)).plan(settings)


def slim_by_zeros(net: Net, settings: PlanSettings | None = None, example: Tensor | None = None) -> Slimmed[Net]:
    """:func:`plan_from_zeros` and ``apply_plan`` in one, with one trace."""
    settings = settings or PlanSettings()
    return _slimmed(net, _from_zeros(net, settings, example_for(net, example)), settings)


def _from_zeros(net: nn.Module, settings: PlanSettings, example: Tensor) -> Proposal:
    ready = prepare(net, None, (), example)
    wanted = ready.structure.removable.copy()
    wanted[list(inexact(ready.structure, settings.borders == "approximate"))] = False
    return Proposal(net, ready, wanted, _weight_norms(net, ready.structure), "zeros")


def plan_from_lists(
    net: nn.Module,
    removed: Mapping[str, Sequence[int]],
    blocks: Sequence[str] = (),
    settings: PlanSettings | None = None,
    example: Tensor | None = None,
) -> Plan:
    """Remove the listed channels (by group) and residual blocks; by default without alignment.

    Raises:
        SurgeryError: an unknown block, or a channel out of range or listed twice.
        GroupError: an unknown group.
    """
    settings, example = settings or PlanSettings(align=1), example_for(net, example)
    ready = prepare(net, None, (), example)
    channel_map = ready.structure.channel_map
    known = {block.name for block in channel_map.blocks}
    for name, listed in removed.items():
        size = channel_map.group(name).channels
        if len(set(listed)) != len(listed) or any(not 0 <= i < size for i in listed):
            raise SurgeryError(f"group {name} has channels 0..{size - 1}, each to be listed once")
    for block in blocks:
        if block not in known:
            able = ", ".join(sorted(known)) or "none"
            raise SurgeryError(f"block {block!r} is not removable; removable: {able}")
    if blocks:
        masks = MaskSet(channel_map.groups, channel_map.blocks)
        masks.set_({BLOCK_PREFIX + block: torch.tensor(0.0) for block in blocks})
        ready = prepare(net, masks, tuple(blocks), example)
    wanted = np.zeros(len(ready.structure.roots), dtype=bool)
    for group in ready.structure.channel_map.groups:
        wanted[group.roots[list(removed.get(group.name, ()))]] = True
    scores = _weight_norms(net, ready.structure)
    return _settled(net, ready, wanted, scores, "lists", settings, tuple(blocks)).plan(settings)


def plan_from_scores(
    net: nn.Module,
    scoring: ScoreSettings,
    settings: PlanSettings | None = None,
    example: Tensor | None = None,
    loss: Loss | None = None,
) -> Plan:
    """Remove the channels that matter least, at a ratio or until a budget is met on the aligned plan.

    Raises:
        SurgeryError: both or none of ratio and budget, or a budget that cannot be met.
        GroupError: nothing can be removed.
    """
    settings = settings or PlanSettings()
    return _from_scores(net, scoring, settings, example_for(net, example), loss).plan(settings)


def slim_by_scores(
    net: Net,
    scoring: ScoreSettings,
    settings: PlanSettings | None = None,
    example: Tensor | None = None,
    loss: Loss | None = None,
) -> Slimmed[Net]:
    """:func:`plan_from_scores` and ``apply_plan`` in one, with two traces."""
    settings = settings or PlanSettings()
    return _slimmed(net, _from_scores(net, scoring, settings, example_for(net, example), loss), settings)


def _from_scores(
    net: nn.Module, scoring: ScoreSettings, settings: PlanSettings, example: Tensor, loss: Loss | None
) -> Proposal:
    if (scoring.ratio is None) == (scoring.budget is None):
        raise SurgeryError("give either a ratio or a budget")
    ready = prepare(net, None, (), example)
    structure = ready.structure
    values = score(net, structure.channel_map.groups, scoring.criterion, loss)
    order, scores = _removal_order(structure, values, scoring), by_root(structure, values)
    if scoring.ratio is not None:
        total = sum(group.channels for group in structure.channel_map.groups)
        wanted = _flags(structure, order[: round(scoring.ratio * total)])
    else:
        full = Structure(ready.net, survey(ready.net, noise_like(example)))
        wanted = _within_budget(full, order, scores, scoring, settings)
    return _settled(net, ready, wanted, scores, "scores", settings)


def _removal_order(structure: Structure, values: Mapping[str, Tensor], scoring: ScoreSettings) -> Indices:
    """Roots in the order in which they go: by score, or by rank within the layer."""
    roots, keys = [], []
    for group in structure.channel_map.groups:
        ranked = torch.argsort(values[group.name], stable=True)[: int(scoring.most * group.channels)]
        roots.append(group.roots[ranked.numpy()])
        by_rank = np.arange(len(ranked)) / group.channels
        keys.append(values[group.name][ranked].numpy() if scoring.scope == "global" else by_rank)
    order: Indices = np.concatenate(roots)[np.argsort(np.concatenate(keys), kind="stable")]
    return order


def _flags(structure: Structure, roots: Indices) -> Flags:
    flags = np.zeros(len(structure.roots), dtype=bool)
    flags[roots] = True
    return flags


def _settled(
    net: nn.Module, ready: Prepared, wanted: Flags, scores: Scores, source: Source, settings: PlanSettings,
    blocks: tuple[str, ...] = (),
) -> Proposal:  # fmt: skip
    """Set to zero what goes and nothing that alignment or exactness will keep.

    Args:
        ready: without channel masks; used up.
    """
    first = rounded(ready.structure, allowed(ready.structure, wanted, settings), scores, settings.multiple())
    zero, aligned, refused = ~first.kept, set(first.aligned), dict(first.refused)
    while True:
        masked = remask(ready, zero)
        proposal = Proposal(net, masked, zero, scores, source, blocks, frozenset(aligned))
        choice = proposal.choose(settings)
        alive = choice.aligned | set(choice.refused)
        if not alive:
            return proposal
        aligned |= choice.aligned
        refused.update(choice.refused)
        zero = zero.copy()
        zero[list(alive)] = False
        ready = _again(net, ready, blocks)


def _again(net: nn.Module, ready: Prepared, blocks: tuple[str, ...]) -> Prepared:
    masks = None
    if blocks:
        whole = survey(clone(net), ready.example.to(next(net.parameters()).dtype))
        masks = MaskSet(whole.groups, whole.blocks)
        masks.set_({BLOCK_PREFIX + block: torch.tensor(0.0) for block in blocks})
    return prepare(net, masks, blocks, ready.proof_input)


def _within_budget(
    structure: Structure, order: Indices, scores: Scores, scoring: ScoreSettings, settings: PlanSettings
) -> Flags:
    """Which channels must go, by bisection; the cost is the aligned plan's."""

    def cost_without(wanted: Flags) -> int:
        choice: Choice = rounded(structure, allowed(structure, wanted, settings), scores, settings.multiple())
        return int(
            getattr(predicted_cost(structure, structure.net, choice.kept, (), scoring.half), scoring.budget_of)
        )

    def spent(number: int) -> int:
        return cost_without(_flags(structure, order[:number]))

    assert scoring.budget is not None
    limit, low, high = scoring.budget * spent(0), 0, len(order)
    if spent(high) > limit:
        raise SurgeryError(
            f"{scoring.budget_of} cannot go below {spent(high)} at an alignment of {settings.multiple()} "
            "channels; raise the budget or `most`, or lower `align`"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if spent(middle) <= limit else (middle + 1, high)
    wanted = _flags(structure, order[:low])
    if not scoring.fill:
        return wanted
    return filled(structure, wanted, scores, settings.multiple(), cost_without, limit)
