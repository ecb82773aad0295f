"""Two engines side by side: which layers are computed otherwise, which appeared, which went."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from toolkit.engines.layers.graph import EngineGraph, EngineLayer
from toolkit.engines.layers.table import describe

_LOOKED_AT = ("kind", "precision", "input", "output", "tactic")


@dataclass(frozen=True)
class Pair:
    """A layer of A and the one of B that computes the same nodes.

    Attributes:
        status: ``same``, ``changed``, ``only in a`` or ``only in b``.
        changes: what differs: name to (in A, in B).
        ms: median times in A and B, where both are known.
    """

    layer: str
    status: Literal["same", "changed", "only in a", "only in b"]
    changes: Mapping[str, tuple[str, str]]
    ms: tuple[float | None, float | None] = (None, None)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        body: dict[str, Any] = {"layer": self.layer, "status": self.status}
        if self.changes:
            body["changes"] = {name: list(values) for name, values in self.changes.items()}
        if self.ms != (None, None):
            body["ms"] = list(self.ms)
        return body


@dataclass(frozen=True)
class Difference:
    """All pairs, in A's order, then what only B has."""

    pairs: tuple[Pair, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs of each status."""
        found: dict[str, int] = defaultdict(int)
        for pair in self.pairs:
            found[pair.status] += 1
        return dict(found)

    @property
    def same(self) -> bool:
        """Whether both engines run the same layers in the same way."""
        return all(pair.status == "same" for pair in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"counts": self.counts, "pairs": [pair.to_dict() for pair in self.pairs]}

    def to_text(self) -> str:
        """What differs, a line for each; what is the same is only counted."""
        lines = []
        for pair in self.pairs:
            if pair.status == "same":
                continue
            changes = pair.changes.items()
            what = "; ".join(f"{name} {one or '-'} -> {other or '-'}" for name, (one, other) in changes)
            times = f"  [{pair.ms[0]:.4f} -> {pair.ms[1]:.4f} ms]" if None not in pair.ms else ""
            lines.append(f"{pair.status}: {pair.layer}" + (f": {what}" if what else "") + times)
        lines.append(", ".join(f"{count} {status}" for status, count in sorted(self.counts.items())))
        return "\n".join(lines)


def compare_graphs(
    a: EngineGraph,
    b: EngineGraph,
    times_a: Mapping[str, float] | None = None,
    times_b: Mapping[str, float] | None = None,
) -> Difference:
    """Align the layers of two engines and say what differs.

    Layers that multiply matrices are aligned by the ONNX nodes they share, because every version fuses otherwise;
    all others by the nodes they compute, else by name.
    """
    partners = _align(a, b)
    first, second = times_a or {}, times_b or {}
    pairs = []
    for index, layer in enumerate(a.layers):
        if index not in partners:
            pairs.append(Pair(layer.title, "only in a", {}, (first.get(layer.name), None)))
            continue
        other = b.layers[partners[index]]
        one, two = _values(layer), _values(other)
        changes = {name: (one[name], two[name]) for name in _LOOKED_AT if one[name] != two[name]}
        ms = first.get(layer.name), second.get(other.name)
        pairs.append(Pair(layer.title, "changed" if changes else "same", changes, ms))
    left = set(range(len(b.layers))) - set(partners.values())
    for index in sorted(left):
        layer = b.layers[index]
        pairs.append(Pair(layer.title, "only in b", {}, (None, second.get(layer.name))))
    return Difference(tuple(pairs))


def _align(a: EngineGraph, b: EngineGraph) -> dict[int, int]:
    """Index in A to index in B."""
    overlaps = sorted(
        (-_overlap(one, other), i, j)
        for i, one in enumerate(a.layers)
        for j, other in enumerate(b.layers)
        if one.heavy and other.heavy and _overlap(one, other) > 0
    )
    partners: dict[int, int] = {}
    for _, i, j in overlaps:
        if i not in partners and j not in partners.values():
            partners[i] = j
    there: dict[str, list[int]] = defaultdict(list)
    for j, layer in enumerate(b.layers):
        if j not in partners.values():
            there[_key(layer)].append(j)
    for i, layer in enumerate(a.layers):
        if i not in partners and there[_key(layer)]:
            partners[i] = there[_key(layer)].pop(0)
    return partners


def _overlap(one: EngineLayer, other: EngineLayer) -> float:
    """Share of the nodes that both compute."""
    mine, theirs = set(one.computed), set(other.computed)
    return len(mine & theirs) / len(mine | theirs) if mine and theirs else 0.0


def _key(layer: EngineLayer) -> str:
    if layer.computed:
        return f"{layer.heavy} " + " ".join(sorted(layer.computed))
    # Names of added layers and of Myelin's tensors are numbered; the numbers differ from build to build.
    return re.sub(r"\d+", "#", layer.name)


def _values(layer: EngineLayer) -> dict[str, str]:
    return {
        "kind": layer.kind,
        "precision": layer.precision,
        "input": describe(layer.inputs),
        "output": describe(layer.outputs),
        # A generated kernel's name ends in a hash of its code.
        "tactic": re.sub(r"_0x[0-9a-f]{16,}$", "", layer.tactic),
    }
