"""The placement table (``placement.json``): the one place that says what becomes INT8 and how.

Post-training placement, quantization-aware training, lint and latency prediction all read it from here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("placement.json")


@dataclass(frozen=True)
class Weighted:
    """Where a weighted operator keeps its input, weight and bias, and which weight axis holds the channels."""

    input: int
    weight: int
    bias: int | None
    axis: int
    axis_transposed: int | None = None


@dataclass(frozen=True)
class Table:
    """``placement.json`` version 1, read.

    Attributes:
        weighted: operator -> its roles.
        fused_behind_weighted: what TensorRT fuses behind a convolution; no Q/DQ may stand in front of it.
        saturating: of these, the ones that only bound the value.
        residual: operators that join a convolution's branch with an identity branch.
        share_scale: operators whose inputs and output have one scale.
        refused: operator -> why it cannot be quantized.
        minimum_channels, alignment, choices: the numbers and defaults of the same sections.
        activation_codes, weight_codes: smallest and largest code.
    """

    weighted: dict[str, Weighted]
    fused_behind_weighted: frozenset[str]
    saturating: frozenset[str]
    residual: frozenset[str]
    share_scale: frozenset[str]
    refused: dict[str, str]
    minimum_channels: dict[str, int]
    alignment: dict[str, int]
    choices: dict[str, str]
    activation_codes: tuple[int, int]
    weight_codes: tuple[int, int]


def read_table(path: Path = PATH) -> Table:
    """Read the table."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Table(
        weighted={name: Weighted(**roles) for name, roles in data["weighted"].items()},
        fused_behind_weighted=frozenset(data["fused_behind_weighted"]),
        saturating=frozenset(data["saturating"]),
        residual=frozenset(data["residual"]["operators"]),
        share_scale=frozenset(data["share_scale"]),
        refused=dict(data["refused"]),
        minimum_channels=dict(data["minimum_channels"]),
        alignment=dict(data["alignment"]),
        choices=dict(data["choices"]),
        activation_codes=tuple(data["scheme"]["activation"]["codes"]),
        weight_codes=tuple(data["scheme"]["weight"]["codes"]),
    )


TABLE = read_table()
