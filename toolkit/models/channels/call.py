"""One operator call, as its rule sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from toolkit.models.channels.labels import EVEN, collapse, level, nothing, single_level
from toolkit.models.channels.records import Known
from toolkit.models.channels.trace import Tracer


@dataclass(eq=False)
class Call:
    """An operator that has just run.

    Attributes:
        known: what is known of every tensor it read, in order.
        outputs: the tensors it wrote.
        name: ATen's.
    """

    tracer: Tracer
    func: Any
    args: Sequence[Any]
    given: dict[str, Any]
    known: list[Known]
    outputs: list[Tensor]

    def __post_init__(self) -> None:
        self.name = aten_name(self.func)

    @property
    def base(self) -> str:
        """ATen's name without the underscore of an in-place form."""
        return self.name[:-1] if self.name.endswith("_") else self.name

    def freeze_all(self, reason: str) -> None:
        """Every channel that was read must stay."""
        self.tracer.trace.unhandled.setdefault(self.tracer.module, self.tracer.where(reason))
        for item in self.known:
            for plane in item.labels:
                self.tracer.trace.labels.freeze(plane, self.tracer.where(reason))

    def refuse(self) -> str:
        """No rule: nothing that was read may go, and nothing is known of what was written."""
        self.freeze_all(f"{self.name} has no removal rule")
        self.learn_unlabelled()
        return "other"

    def learn_unlabelled(self, first: int = 0) -> None:
        """The outputs from ``first`` on have no channels."""
        if not any(tensor.numel() for tensor in self.outputs[first:]):
            return
        const = min((_lowest_of(item) for item in self.known if item.tensor.numel()), default=EVEN)
        for tensor in self.outputs[first:]:
            self.tracer.learn(tensor, [nothing(tensor.shape)], level(const, tensor.shape))


@cache
def aten_name(func: Any) -> str:
    """ATen's name of an operator."""
    return str(func._schema.name).removeprefix("aten::")


def _lowest_of(item: Known) -> int:
    known = single_level(item.const)
    return int(collapse(item.const).min()) if known is None else known
