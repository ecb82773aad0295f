"""A plan being made: settings, choice, and the finished plan's check."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from toolkit.models.channels.labels import Indices
from toolkit.surgery.choose import Choice, Scores, alignment, choose
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.fold import new_biases
from toolkit.surgery.plan import GroupPlan, Plan, Source, WirePlan, fingerprint
from toolkit.surgery.remove import Prepared, add_biases
from toolkit.surgery.run import clone
from toolkit.surgery.slicing import cut_channels
from toolkit.surgery.structure import Flags, Structure

log = logging.getLogger(__name__)


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
        """The finished plan, its alignment verified on a network that was really cut."""
        structure, choice = self.ready.structure, self.choose(settings)
        for reason, number in Counter(choice.refused.values()).items():
            log.warning("%d channels stay: %s", number, reason)
        groups = {}
        for group in structure.channel_map.groups:
            kept = choice.kept[group.roots]
            groups[group.name] = GroupPlan(
                channels=group.channels,
                kept=tuple(np.flatnonzero(kept).tolist()),
                aligned=_positions(group.roots, choice.aligned),
                constant=_positions(group.roots, choice.constant),
                refused=_positions(group.roots, set(choice.refused)),
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
        add_biases(slim, structure, biases)
        cut_channels(slim, structure, choice.kept)
        return Plan(
            source=self.source,
            architecture=fingerprint(self.dense),
            result=fingerprint(slim),
            align=align,
            unaligned=aligned_or_named(slim, structure, align),
            groups=groups,
            removed_blocks=self.blocks,
            created_biases=biases,
            wire=wire,
            frozen={f.layer: f.reason for f in structure.channel_map.frozen},
        )


def _positions(roots: Indices, chosen: set[int]) -> tuple[int, ...]:
    return tuple(i for i, root in enumerate(roots.tolist()) if root in chosen)


def aligned_or_named(slim: nn.Module, structure: Structure, align: int) -> tuple[str, ...]:
    """Convolutions of the finished network that are not aligned; all of them were not in the dense one.

    Raises:
        SurgeryError: one of them shrank to a number that is not aligned.
    """
    named = []
    for name in structure.convolutions:
        module = slim.get_submodule(name.rpartition(".")[0])
        dense = structure.net.get_submodule(name.rpartition(".")[0])
        for what in ("out_channels", "in_channels"):
            size = getattr(module, what)
            if size % align and size != getattr(dense, what):
                raise SurgeryError(f"{name}: {size} {what} are not aligned; this is a defect, please report it")
            if size % align:
                named.append(name.rpartition(".")[0])
    return tuple(dict.fromkeys(named))


def by_root(structure: Structure, values: Mapping[str, Tensor]) -> Scores:
    scores = np.zeros(len(structure.roots))
    for group in structure.channel_map.groups:
        if group.name in values:
            scores[group.roots] = values[group.name].detach().double().cpu().numpy()
    return scores


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
