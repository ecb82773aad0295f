"""One operator call, as its rule sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit.models.channels.labels import EVEN, collapse, level
from toolkit.models.channels.records import Known
from toolkit.models.channels.trace import Tracer


@dataclass(frozen=True)
class Call:
    """An operator that has just run.

    Attributes:
        known: what is known of every tensor it read, in order.
        outputs: the tensors it wrote.
    """

    tracer: Tracer
    func: Any
    args: Sequence[Any]
    given: dict[str, Any]
    known: list[Known]
    outputs: list[Tensor]

    @property
    def name(self) -> str:
        """ATen's name."""
        return str(self.func._schema.name).removeprefix("aten::")

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

    def learn_unlabelled(self, first: int = 0) -> None:
        """The outputs from ``first`` on have no channels."""
        if not any(tensor.numel() for tensor in self.outputs[first:]):
            return
        const = min([int(collapse(item.const).min()) for item in self.known if item.const.numel()], default=EVEN)
        for tensor in self.outputs[first:]:
            zeros = torch.zeros((), dtype=torch.int64)
            self.tracer.learn(tensor, [zeros.expand(tensor.shape)], level(const, tensor.shape))
