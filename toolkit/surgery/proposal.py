"""A plan being made: settings, choice, and the finished plan's check."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from toolkit.models.channels.labels import Indices
from toolkit.surgery.choose import Choice, Scores, alignment, choose
from toolkit.surgery.fold import new_biases
from toolkit.surgery.plan import GroupPlan, Plan, Source, WirePlan, fingerprint, shapes_fingerprint
from toolkit.surgery.prepare import Prepared
from toolkit.surgery.structure import Flags, Structure

log = logging.getLogger(__name__)


class PlanSettings(BaseModel):
    """How a plan is rounded and what it may touch.

    Attributes:
        align: ``auto``, 32, 16, 8 or 1 (see :func:`toolkit.surgery.choose.alignment`).
        precision: of the deployed engine, for ``auto``.
        measured_step: channel step of the target's measured latency staircase, for ``auto``.
        device, mode: the Jetson module and power mode whose predicted staircase ``auto`` takes where nothing is
            measured; the stage looks it up (``toolkit.planning.staircase``).
        predicted_step: what it found there.
        freeze_wire: leave the channels that cross the cut alone, so that the cloud half stays as it is.
        exclude: groups that are left alone.
        borders: ``approximate`` also removes channels whose constant differs at the borders of a picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    align: Literal["auto"] | int = "auto"
    precision: Literal["int8", "fp16", "fp32"] = "int8"
    measured_step: int | None = Field(default=None, gt=0)
    device: str | None = None
    mode: str | None = None
    predicted_step: int | None = Field(default=None, gt=0)
    freeze_wire: bool = False
    exclude: tuple[str, ...] = ()
    borders: Literal["exact", "approximate"] = "exact"

    @model_validator(mode="after")
    def _mode_of_a_device(self) -> PlanSettings:
        if self.mode is not None and self.device is None:
            raise ValueError("a power mode needs the device that it is of")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_target(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that name no device keep the hash that they had before devices could be named."""
        absent = [name for name in ("device", "mode", "predicted_step") if getattr(self, name) is None]
        return {name: value for name, value in handler(self).items() if name not in absent}

    def multiple(self) -> int:
        """The channel multiple.

        Raises:
            SurgeryError: not a valid alignment.
        """
        return alignment(self.align, self.precision, self.measured_step or self.predicted_step)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A plan being made: the prepared network and what is wanted of it.

    Attributes:
        wanted: roots that are to go.
        aligned: roots that were to go and were kept for alignment before ``ready`` was made.
    """

    dense: nn.Module
    ready: Prepared
    wanted: Flags
    scores: Scores
    source: Source
    blocks: tuple[str, ...] = ()
    aligned: frozenset[int] = frozenset()

    def choose(self, settings: PlanSettings) -> Choice:
        """Apply exactness, freezing and alignment."""
        wanted = allowed(self.ready.structure, self.wanted, settings)
        multiple, approximate = settings.multiple(), settings.borders == "approximate"
        return choose(self.ready.structure, wanted, self.scores, multiple, approximate)

    def plan(self, settings: PlanSettings) -> Plan:
        """The finished plan."""
        structure, choice = self.ready.structure, self.choose(settings)
        for reason, number in Counter(choice.refused.values()).items():
            log.warning("%d channels stay: %s", number, reason)
        groups = {}
        for group in structure.channel_map.groups:
            kept = choice.kept[group.roots]
            groups[group.name] = GroupPlan(
                channels=group.channels,
                kept=tuple(np.flatnonzero(kept).tolist()),
                aligned=_positions(group.roots, choice.aligned | self.aligned),
                constant=_positions(group.roots, choice.constant),
                refused=_positions(group.roots, set(choice.refused)),
            )
        align = settings.multiple()
        biases = new_biases(structure, choice.kept)
        cut = structure.channel_map.trace.cut
        wire = None
        if cut is not None:
            wire = WirePlan(
                before=len(cut), kept=tuple(np.flatnonzero(choice.kept[structure.roots[cut]]).tolist())
            )
        return Plan(
            source=self.source,
            architecture=fingerprint(self.dense),
            result=_result(structure, choice.kept, biases),
            align=align,
            unaligned=structure.unaligned(choice.kept, align),
            groups=groups,
            removed_blocks=self.blocks,
            created_biases=biases,
            wire=wire,
            frozen={f.layer: f.reason for f in structure.channel_map.frozen},
        )


def _positions(roots: Indices, chosen: set[int]) -> tuple[int, ...]:
    return tuple(i for i, root in enumerate(roots.tolist()) if root in chosen)


def allowed(structure: Structure, wanted: Flags, settings: PlanSettings) -> Flags:
    """What of it may go, by the settings.

    Raises:
        GroupError: an excluded group does not exist.
    """
    wanted = wanted & structure.removable
    for name in settings.exclude:
        wanted[structure.channel_map.group(name).roots] = False
    cut = structure.channel_map.trace.cut
    if settings.freeze_wire and cut is not None:
        wanted[structure.roots[cut]] = False
    return wanted


def _result(structure: Structure, kept: Flags, biases: tuple[str, ...]) -> str:
    """Fingerprint of the slim network."""
    shapes = {name: structure.shape(name, kept) for name in structure.shapes}
    for layer in biases:
        transposed = isinstance(structure.net.get_submodule(layer), _ConvTransposeNd)
        shapes[f"{layer}.bias"] = (shapes[f"{layer}.weight"][1 if transposed else 0],)
    return shapes_fingerprint(shapes)


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
