"""What decides what goes: masks, zeros in the weights, importance scores, explicit lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from toolkit.models.groups import ChannelMap, survey
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.surgery.choose import Choice, Scores, alignment, choose, inexact, unaligned
from toolkit.surgery.cost import Half, predicted_cost
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.fold import new_biases
from toolkit.surgery.plan import GroupPlan, Plan, Source, WirePlan, fingerprint
from toolkit.surgery.remove import Prepared, prepare
from toolkit.surgery.run import clone, example_for
from toolkit.surgery.scores import Criterion, Loss, score
from toolkit.surgery.slicing import cut_channels
from toolkit.surgery.structure import Flags, Structure

Budgeted = Literal["parameters", "macs", "activation_bytes"]


class PlanSettings(BaseModel):
    """How a plan is rounded and what it may touch.

    Attributes:
        align: ``auto``, 32, 16, 8 or 1 (see :func:`toolkit.surgery.choose.alignment`).
        precision: of the deployed engine, for ``auto``.
        measured_step: channel step of the target's latency staircase, for ``auto``.
        freeze_wire: leave the channels that cross the cut alone, so that the cloud half stays as it is.
        exclude: groups that are left alone.
        borders: ``approximate`` also removes channels whose constant differs at the borders of a picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    align: Literal["auto"] | int = "auto"
    precision: Literal["int8", "fp16", "fp32"] = "int8"
    measured_step: int | None = None
    freeze_wire: bool = False
    exclude: tuple[str, ...] = ()
    borders: Literal["exact", "approximate"] = "exact"

    def multiple(self) -> int:
        """The channel multiple.

        Raises:
            SurgeryError: not a valid alignment.
        """
        return alignment(self.align, self.precision, self.measured_step)


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


@dataclass(frozen=True, eq=False)
class Proposal:
    """A plan being made: the prepared network and what is wanted of it."""

    dense: nn.Module
    ready: Prepared
    wanted: Flags
    scores: Scores
    source: Source
    blocks: tuple[str, ...] = ()

    def choose(self, settings: PlanSettings) -> Choice:
        """Apply exactness, freezing and alignment."""
        structure = self.ready.structure
        wanted = self.wanted & structure.removable
        for name in settings.exclude:
            wanted[structure.channel_map.group(name).roots] = False
        cut = structure.channel_map.trace.cut
        if settings.freeze_wire and cut is not None:
            wanted[structure.roots[cut]] = False
        approximate = settings.borders == "approximate"
        return choose(self.ready.net, structure, wanted, self.scores, settings.multiple(), approximate)

    def plan(self, settings: PlanSettings) -> Plan:
        """The finished plan, verified on a network that was really cut."""
        structure, choice = self.ready.structure, self.choose(settings)
        groups = {}
        for group in structure.channel_map.groups:
            kept = choice.kept[group.roots]
            groups[group.name] = GroupPlan(
                channels=group.channels,
                kept=tuple(np.flatnonzero(kept).tolist()),
                aligned=_positions(group.roots, choice.aligned),
                constant=_positions(group.roots, choice.constant | set(choice.refused)),
            )
        align = settings.multiple()
        biases = new_biases(self.ready.net, structure, choice.kept)
        cut = structure.channel_map.trace.cut
        wire = None
        if cut is not None:
            wire = WirePlan(
                before=len(cut), kept=tuple(np.flatnonzero(choice.kept[structure.roots[cut]]).tolist())
            )
        slim = clone(self.ready.net)
        for path in biases:
            slim.get_submodule(path).bias = nn.Parameter(torch.zeros(_outputs(structure, path)))
        cut_channels(slim, structure, choice.kept)
        return Plan(
            source=self.source,
            architecture=fingerprint(self.dense),
            result=fingerprint(slim),
            align=align,
            unaligned=aligned_or_named(slim, structure, choice.kept, align),
            groups=groups,
            removed_blocks=self.blocks,
            created_biases=biases,
            wire=wire,
            frozen={f.layer: f.reason for f in structure.channel_map.frozen},
        )


def _outputs(structure: Structure, path: str) -> int:
    return structure.shapes[f"{path}.weight"][0]


def _positions(roots: np.ndarray, chosen: set[int]) -> tuple[int, ...]:
    return tuple(i for i, root in enumerate(roots.tolist()) if root in chosen)


def aligned_or_named(slim: nn.Module, structure: Structure, kept: Flags, align: int) -> tuple[str, ...]:
    """Convolutions of the finished network that are not aligned; all of them were not in the dense one.

    Raises:
        SurgeryError: one of them was aligned, or shrank to an unaligned number.
    """
    if unaligned(structure, kept, align):
        raise SurgeryError("alignment failed; this is a defect, please report it")
    named = []
    for name in structure.convolutions:
        module = slim.get_submodule(name.rpartition(".")[0])
        assert isinstance(module, nn.modules.conv._ConvNd)
        dense = structure.shapes[name]
        width = dense[1] * structure.convolutions[name]
        for size, before in ((module.out_channels, (dense[0], width)), (module.in_channels, (width, dense[0]))):
            if size % align and all(b % align == 0 for b in before[:1]):
                raise SurgeryError(f"{name} was aligned and is not any more; this is a defect, please report it")
            if size % align:
                named.append(name.rpartition(".")[0])
    return tuple(dict.fromkeys(named))


def _by_root(structure: Structure, values: Mapping[str, Tensor]) -> Scores:
    scores = np.zeros(len(structure.roots))
    for group in structure.channel_map.groups:
        if group.name in values:
            scores[group.roots] = values[group.name].detach().double().cpu().numpy()
    return scores


def _weight_norms(net: nn.Module, structure: Structure) -> Scores:
    return _by_root(structure, score(net, structure.channel_map.groups, "l2"))


def masked_roots(ready: Prepared) -> Flags:
    """Roots that every mask point sets to zero."""
    structure = ready.structure
    wanted = structure.removable.copy()
    for group in structure.channel_map.groups:
        for point in group.producers:
            zero = ready.zero.get(point.module)
            here = point.index >= 0
            if zero is None:
                wanted[group.roots[point.index[here]]] = False
            elif zero.size:
                wanted[group.roots[point.index[here & ~zero]]] = False
    return wanted


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
    return Proposal(net, ready, masked_roots(ready), _by_root(ready.structure, values), "scores")


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
        raise SurgeryError(f"{scoring.budget_of} cannot go below {spent(state(high))}; raise the budget or `most`")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if spent(state(middle)) <= limit else (middle + 1, high)
    return _scored(net, channel_map, _first(order, low), values, example).plan(settings)
