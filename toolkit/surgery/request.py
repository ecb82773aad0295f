"""One way to ask for a plan, whatever decides what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from toolkit.models.groups import survey
from toolkit.models.masks import BLOCK_PREFIX, MaskSet
from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.plan import Plan
from toolkit.surgery.proposal import PlanSettings
from toolkit.surgery.remove import implied_masks
from toolkit.surgery.run import clone
from toolkit.surgery.scores import Loss
from toolkit.surgery.sources import (
    ScoreSettings,
    plan_from_lists,
    plan_from_masks,
    plan_from_scores,
    plan_from_zeros,
)


class SourceSettings(BaseModel):
    """What decides what goes.

    Attributes:
        source: ``masks`` of the checkpoint, ``zeros`` in its weights, importance ``scores``, or ``lists``;
            ``auto`` takes the masks where there are some, lists where there are some, else scores.
        scores: for ``scores``.
        remove: for ``lists``: channels by group.
        blocks: for ``lists``: whole residual blocks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["auto", "masks", "zeros", "scores", "lists"] = "auto"
    scores: ScoreSettings = ScoreSettings(budget=0.5, half="edge")
    remove: dict[str, tuple[int, ...]] = {}
    blocks: tuple[str, ...] = ()

    def decided(self, masks: Mapping[str, Tensor]) -> Literal["masks", "zeros", "scores", "lists"]:
        """The source, ``auto`` resolved."""
        if self.source != "auto":
            return self.source
        return "masks" if masks else "lists" if self.remove or self.blocks else "scores"


def mask_set(net: nn.Module, values: Mapping[str, Tensor], example: Tensor) -> MaskSet:
    """Masks of a network with the values of a checkpoint.

    Raises:
        GroupError: a value belongs to no group or has another length.
    """
    found = survey(clone(net), example)
    with_blocks = any(name.startswith(BLOCK_PREFIX) for name in values)
    masks = MaskSet(found.groups, found.blocks if with_blocks else ())
    masks.set_(values)
    return masks


def make_plan(
    net: nn.Module,
    values: Mapping[str, Tensor],
    wanted: SourceSettings,
    settings: PlanSettings,
    example: Tensor,
    loss: Loss | None = None,
) -> tuple[Plan, MaskSet | None]:
    """The plan, and the masks that ``apply_plan`` needs for it.

    Args:
        values: masks of the checkpoint, may be empty.
        loss: for Taylor scores.

    Raises:
        SurgeryError: the source is not there, or see the source's own function.
        GroupError: nothing can be removed, or a group does not exist.
    """
    source = wanted.decided(values)
    if source == "masks":
        if not values:
            raise SurgeryError("this checkpoint has no masks; choose the source scores, zeros or lists")
        masks = mask_set(net, values, example)
        if masks.zero_fraction() == 1:
            raise SurgeryError(
                "every channel mask is zero, so nothing of a picture would be left on the wire; train the masks "
                "again with a larger masks.ratio or a smaller masks.l1, or take slim.source: scores"
            )
        return plan_from_masks(net, masks, settings, example), masks
    if source == "zeros":
        return plan_from_zeros(net, settings, example), None
    if source == "lists":
        if not wanted.remove and not wanted.blocks:
            raise SurgeryError("the source lists needs remove (channels by group) or blocks")
        return plan_from_lists(net, wanted.remove, wanted.blocks, settings, example), None
    return plan_from_scores(net, wanted.scores, settings, example, loss), None


def reference_masks(net: nn.Module, plan: Plan, masks: MaskSet | None, example: Tensor) -> MaskSet | None:
    """Masks under which the dense network is what the slim one must equal; None: as it is."""
    if masks is None and plan.source in ("scores", "lists"):
        return implied_masks(survey(clone(net), example), plan)
    return masks
