"""The plan file: which channels and blocks of a dense network stay."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from toolkit.surgery.errors import PlanError
from toolkit.surgery.run import named_tensors

SCHEMA_VERSION: Literal[1] = 1
Source = Literal["masks", "zeros", "scores", "lists"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GroupPlan(_Frozen):
    """One coupled group.

    Attributes:
        channels: of the dense network.
        kept: ascending positions that stay.
        aligned: kept ones that are there for alignment only: best scores first; with masks they stay zero until
            fine-tuning.
        constant: kept ones that carry a constant for a padded convolution.
        refused: kept ones that were to go, but whose removal would not be exact.
    """

    channels: int
    kept: tuple[int, ...]
    aligned: tuple[int, ...] = ()
    constant: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()

    @property
    def removed(self) -> tuple[int, ...]:
        """Positions that go."""
        kept = set(self.kept)
        return tuple(i for i in range(self.channels) if i not in kept)


class WirePlan(_Frozen):
    """The channels that are sent, of the dense network's feature."""

    before: int
    kept: tuple[int, ...]

    @property
    def shrinks(self) -> bool:
        """Whether fewer channels are sent; the cloud half is then re-sliced too."""
        return len(self.kept) < self.before


class Plan(_Frozen):
    """``plan.json`` v1: with the dense architecture it rebuilds the slim network exactly.

    Attributes:
        source: what decided. Removed channels of ``zeros`` are constant as they are; those of ``scores`` and
            ``lists`` are set to zero first; those of ``masks`` need the masks.
        architecture: fingerprint of the dense network.
        result: fingerprint of the slim network.
        align: channels are multiples of this.
        unaligned: convolutions that are not, because they were not in the dense network.
        groups: by name.
        removed_blocks: residual blocks that become the identity.
        created_biases: layers that get a bias, which holds folded constants.
        wire: None for a network without halves.
        frozen: layers whose channels cannot be removed, with the reason.
    """

    schema_version: Literal[1] = 1
    source: Source
    architecture: str
    result: str
    align: int
    unaligned: tuple[str, ...] = ()
    groups: dict[str, GroupPlan]
    removed_blocks: tuple[str, ...] = ()
    created_biases: tuple[str, ...] = ()
    wire: WirePlan | None = None
    frozen: dict[str, str] = {}

    def check(self, net: nn.Module) -> None:
        """Whether the plan is for this dense network and consistent in itself.

        Raises:
            PlanError: another architecture, an index out of range, unsorted or listed twice, an empty group.
        """
        self.check_indices()
        if fingerprint(net) != self.architecture:
            raise PlanError("this plan was made for another architecture; make a new one for this network")

    def check_indices(self) -> None:
        """Whether all positions exist, ascend and are listed once.

        Raises:
            PlanError: see above; the message names the group.
        """
        for name, group in self.groups.items():
            for what in ("kept", "aligned", "constant", "refused"):
                listed: tuple[int, ...] = getattr(group, what)
                if any(not 0 <= i < group.channels for i in listed):
                    raise PlanError(f"plan: {what} channel out of range 0..{group.channels - 1} in group {name}")
                if list(listed) != sorted(set(listed)):
                    raise PlanError(f"plan: {what} channels of group {name} are not ascending or listed twice")
            if not group.kept:
                raise PlanError(f"plan: group {name} keeps no channel; remove the block instead")
            if not {*group.aligned, *group.constant, *group.refused} <= set(group.kept):
                raise PlanError(f"plan: group {name} has aligned, constant or refused channels that are not kept")
        if len(set(self.removed_blocks)) != len(self.removed_blocks):
            raise PlanError("plan: a block is removed twice")

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def save(self, path: Path) -> None:
        """Write ``plan.json``, under a temporary name first."""
        temporary = path.with_name(path.name + ".next")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(self.to_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read ``plan.json``.

        Raises:
            PlanError: not readable, not a plan of this version, or see :meth:`check_indices`.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PlanError(f"cannot read the plan {path}: {error}") from error
        return cls.parse(content)

    @classmethod
    def parse(cls, content: Plan | Mapping[str, Any]) -> Plan:
        """A plan from ``plan.json``'s content.

        Raises:
            PlanError: see :meth:`load`.
        """
        if isinstance(content, Plan):
            return content
        try:
            plan = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise PlanError(f"not a plan of version {SCHEMA_VERSION}: {place}: {first['msg']}") from error
        plan.check_indices()
        return plan


def fingerprint(net: nn.Module) -> str:
    """sha256 over names and shapes of a network's parameters and buffers."""
    return shapes_fingerprint({name: tuple(tensor.shape) for name, tensor in named_tensors(net).items()})


def shapes_fingerprint(shapes: Mapping[str, Sequence[int]]) -> str:
    """sha256 over names and shapes."""
    entries = sorted((name, list(shape)) for name, shape in shapes.items())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def compose(first: Plan, second: Plan) -> Plan:
    """One plan from the dense network to the result of ``second``, which was made on ``first``'s slim network.

    Raises:
        PlanError: the second plan was not made on the first's result.
    """
    if second.architecture != first.result:
        raise PlanError("the second plan was not made on the network that the first one leads to")
    groups = dict(first.groups)
    for name, group in second.groups.items():
        base = first.groups.get(name)
        if base is None or len(base.kept) != group.channels:
            raise PlanError(f"plans cannot be composed: group {name} is not the same in both")
        lists = (group.kept, group.aligned, group.constant, group.refused)
        kept, aligned, constant, refused = (tuple(base.kept[i] for i in listed) for listed in lists)
        groups[name] = GroupPlan(
            channels=base.channels, kept=kept, aligned=aligned, constant=constant, refused=refused
        )
    removed = (*first.removed_blocks, *second.removed_blocks)
    biases = [b for b in dict.fromkeys((*first.created_biases, *second.created_biases)) if not _inside(b, removed)]
    wire = None
    if first.wire is not None and second.wire is not None:
        wire = WirePlan(before=first.wire.before, kept=tuple(first.wire.kept[i] for i in second.wire.kept))
    return second.model_copy(
        update={
            "source": second.source,
            "architecture": first.architecture,
            "groups": groups,
            "removed_blocks": removed,
            "created_biases": tuple(biases),
            "wire": wire,
        }
    )


def _inside(path: str, blocks: tuple[str, ...]) -> bool:
    return any(path.startswith(block + ".") for block in blocks)
