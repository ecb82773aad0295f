"""Long names in little room."""

from __future__ import annotations

import re
from collections.abc import Sequence

LENGTH = 30


def distinct(labels: Sequence[str]) -> list[str]:
    """Without the parts that all begin with and those that all end with, where a name is long."""
    if len(labels) < 2 or max(map(len, labels)) <= LENGTH:
        return list(labels)
    parts = [re.split(r"(?<=[/.])|(?=[/.])", label) for label in labels]
    shortest = min(map(len, parts))
    head = _shared(parts, shortest - 1)
    tail = _shared([list(reversed(part)) for part in parts], shortest - 1 - head)
    cut = ["".join(part[head : len(part) - tail]).strip("/.") for part in parts]
    return cut if all(cut) else list(labels)


def short(label: str, length: int = LENGTH) -> str:
    """Cut in the middle: layer names differ at both ends."""
    if len(label) <= length:
        return label
    half = (length - 1) // 2
    return f"{label[:half]}\N{HORIZONTAL ELLIPSIS}{label[-half:]}"


def _shared(parts: Sequence[Sequence[str]], most: int) -> int:
    for index in range(most):
        if len({part[index] for part in parts}) > 1:
            return index
    return max(most, 0)
