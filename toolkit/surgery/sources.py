"""What decides what goes: masks, zeros in the weights, importance scores, explicit lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from toolkit.models.groups import ChannelMap, survey
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.surgery.choose import Scores, inexact
from toolkit.surgery.cost import Half, predicted_cost
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.plan import Plan
from toolkit.surgery.proposal import PlanSettings, Proposal, by_root, masked_roots
from toolkit.surgery.remove import prepare
from toolkit.surgery.run import clone, example_for
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    criterion: Criterion = "l2"
    scope: Literal["global", "layer"] = "global"
    ratio: float | None = Field(default=None, gt=0, lt=1)
    budget: float | None = Field(default=None, gt=0, lt=1)
    budget_of: Budgeted = "macs"
    half: Half = "all"
    most: float = Field(default=0.9, gt=0, le=1)


def _weight_norms(net: nn.Module, structure: Structure) -> Scores:
    return by_root(structure, score(net, structure.channel_map.groups, "l2"))


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
    settings, example = settings or PlanSettings(), example_for(net, example)
    values = masks.values()
    blocks = tuple(b.name for b in masks.blocks if float(values[BLOCK_PREFIX + b.name].detach()) == 0)
    ready = prepare(net, masks, blocks, example)
    scores = _weight_norms(net, ready.structure)
    return Proposal(net, ready, masked_roots(ready), scores, "masks", blocks).plan(settings)


def plan_from_zeros(net: nn.Module, settings: PlanSettings | None = None, example: Tensor | None = None) -> Plan:
    """Remove channels that are constant already: zeroed filters, zeroed normalization scales.

    Raises:
        GroupError: nothing can be removed.
    """
    settings, example = settings or PlanSettings(), example_for(net, example)
    ready = prepare(net, None, (), example)
    wanted = ready.structure.removable.copy()
    wanted[list(inexact(ready.net, ready.structure, settings.borders == "approximate"))] = False
    return Proposal(net, ready, wanted, _weight_norms(net, ready.structure), "zeros").plan(settings)


def plan_from_lists(
    net: nn.Module,
    removed: Mapping[str, Sequence[int]],
    blocks: Sequence[str] = (),
    settings: PlanSettings | None = None,
    example: Tensor | None = None,
) -> Plan:
    """Remove the listed channels (by group) and residual blocks.

    Raises:
        SurgeryError: an unknown block, or a channel out of range or listed twice.
        GroupError: an unknown group.
    """
    settings, example = settings or PlanSettings(align=1), example_for(net, example)
    channel_map = survey(clone(net), example)
    masks = MaskSet(channel_map.groups, channel_map.blocks)
    known = {block.name for block in channel_map.blocks}
    values = {}
    for name, listed in removed.items():
        size = channel_map.group(name).channels
        if len(set(listed)) != len(listed) or any(not 0 <= i < size for i in listed):
            raise SurgeryError(f"group {name} has channels 0..{size - 1}, each to be listed once")
        value = torch.ones(size)
        value[list(listed)] = 0
        values[name] = value
    for block in blocks:
        if block not in known:
            raise SurgeryError(
                f"block {block!r} is not removable; removable: {', '.join(sorted(known)) or 'none'}"
            )
        values[BLOCK_PREFIX + block] = torch.tensor(0.0)
    masks.set_(values)
    ready = prepare(net, masks, tuple(blocks), example)
    scores = _weight_norms(net, ready.structure)
    return Proposal(net, ready, masked_roots(ready), scores, "lists", tuple(blocks)).plan(settings)


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
    if (scoring.ratio is None) == (scoring.budget is None):
        raise SurgeryError("give either a ratio or a budget")
    settings, example = settings or PlanSettings(), example_for(net, example)
    channel_map = survey(clone(net), example)
    values = score(net, channel_map.groups, scoring.criterion, loss)
    order = _removal_order(channel_map, values, scoring)
    if scoring.ratio is not None:
        total = sum(group.channels for group in channel_map.groups)
        removed = _first(order, round(scoring.ratio * total))
        return _scored(net, channel_map, removed, values, example).plan(settings)
    return _within_budget(net, channel_map, order, values, scoring, settings, example)


def _removal_order(
    channel_map: ChannelMap, values: Mapping[str, Tensor], scoring: ScoreSettings
) -> list[tuple[str, int]]:
    """Channels in the order in which they go: by score, or by rank within the layer."""
    entries = []
    for group in channel_map.groups:
        ranked = torch.argsort(values[group.name], stable=True).tolist()
        for rank, channel in enumerate(ranked[: int(scoring.most * group.channels)]):
            key = float(values[group.name][channel]) if scoring.scope == "global" else rank / group.channels
            entries.append((key, group.name, channel))
    entries.sort(key=lambda entry: entry[0])
    return [(name, channel) for _, name, channel in entries]


def _first(order: Sequence[tuple[str, int]], number: int) -> dict[str, list[int]]:
    removed: dict[str, list[int]] = {}
    for name, channel in order[:number]:
        removed.setdefault(name, []).append(channel)
    return removed


def _scored(
    net: nn.Module, channel_map: ChannelMap, removed: Mapping[str, Sequence[int]], values: Mapping[str, Tensor],
    example: Tensor,
) -> Proposal:  # fmt: skip
    masks = MaskSet(channel_map.groups)
    zeros = {name: torch.ones(channel_map.group(name).channels) for name in removed}
    for name, listed in removed.items():
        zeros[name][list(listed)] = 0
    masks.set_(zeros)
    ready = prepare(net, masks, (), example)
    return Proposal(net, ready, masked_roots(ready), by_root(ready.structure, values), "scores")


def _within_budget(
    net: nn.Module, channel_map: ChannelMap, order: Sequence[tuple[str, int]], values: Mapping[str, Tensor],
    scoring: ScoreSettings, settings: PlanSettings, example: Tensor,
) -> Plan:  # fmt: skip
    """Bisect the number of removed channels; the cost is the aligned plan's."""
    everything = _scored(net, channel_map, _first(order, len(order)), values, example)
    structure = everything.ready.structure
    groups = {group.name: group.roots for group in structure.channel_map.groups}

    def state(number: int) -> Flags:
        wanted = np.zeros(len(structure.roots), dtype=bool)
        for name, listed in _first(order, number).items():
            wanted[groups[name][listed]] = True
        trial = Proposal(net, everything.ready, wanted, everything.scores, "scores")
        return trial.choose(settings).kept

    def spent(kept: Flags) -> int:
        return int(getattr(predicted_cost(structure, net, kept, (), scoring.half), scoring.budget_of))

    assert scoring.budget is not None
    limit = scoring.budget * spent(structure.everything())
    low, high = 0, len(order)
    if spent(state(high)) > limit:
        raise SurgeryError(
            f"{scoring.budget_of} cannot go below {spent(state(high))} at an alignment of {settings.multiple()} "
            "channels; raise the budget or `most`, or lower `align`"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if spent(state(middle)) <= limit else (middle + 1, high)
    return _scored(net, channel_map, _first(order, low), values, example).plan(settings)
