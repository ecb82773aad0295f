"""Early stopping: identities that training never sees, and their mAP after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import DataError
from toolkit.settings import RunSettings
from toolkit.stages.data import RunData

if TYPE_CHECKING:
    from toolkit.models.network import ReidNet

SHARE = 0.1
LEAST = 2


def held_out(data: RunData, settings: RunSettings, *, finetuning: bool = False) -> frozenset[str]:
    """Training identities that are left out of training, for validation: a tenth, where a phase has a patience.

    The classifier keeps their outputs, so that a network does not depend on who is held out. A patience of
    fine-tuning alone holds identities out of fine-tuning alone, and earlier phases have seen them.

    Raises:
        DataError: too few identities would be left.
    """
    phases = [settings.train, settings.patrol.train, *([settings.slim.finetune.train] if finetuning else [])]
    if not any(phase.patience for phase in phases):
        return frozenset()
    names = data.train_identities()
    count = max(LEAST, round(SHARE * len(names)))
    if len(names) - count < LEAST:
        raise DataError(
            f"patience needs identities to validate on, and {len(names)} training identities are too few for "
            "that; set patience to 0"
        )
    chosen = np.random.default_rng((settings.seed, 77)).permutation(len(names))[:count]
    return frozenset(names[index] for index in chosen)


def validation(data: RunData, held: frozenset[str]) -> Callable[[ReidNet], float] | None:
    """mAP of the held-out identities among themselves, every picture a query; None where nobody is held out."""
    if not held:
        return None
    from toolkit.reid.features import embed, network_function
    from toolkit.reid.ranking import evaluate

    rows = np.array([row for row in data.rows["train"] if data.identities[row] in held], np.int64)
    pictures = np.ascontiguousarray(data.pictures[rows])
    identities, cameras = (data.numbers(names, rows) for names in (data.identities, data.cameras))

    def measure(net: ReidNet) -> float:
        found = embed(network_function(net), pictures)
        return evaluate(found, found, identities, identities, cameras, cameras, data.protocol, rows, rows).map

    return measure
