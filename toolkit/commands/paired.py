"""Intervals of the difference between two runs on the same test pictures: paired bootstrap over identities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.reid.bootstrap import paired_bootstrap
from toolkit.runs import RunFolder

Key = tuple[str, str, str]
RANKS = (1, 5)


def paired_intervals(a: RunFolder | None, b: RunFolder | None, seed: int = 0) -> dict[Key, tuple[float, float]]:
    """95 % intervals of b - a of mAP, rank-1 and rank-5, by (name, variant, protocol).

    Empty where a run is a bare metrics file, or the two were not tested on the same pictures.
    """
    if a is None or b is None:
        return {}
    first, second = _test(a), _test(b)
    if first is None or first != second:
        return {}
    identities = np.unique(np.array(first["identities"]), return_inverse=True)[1]
    found: dict[Key, tuple[float, float]] = {}
    for variant in sorted(_variants(a) & _variants(b)):
        left, right = _per_query(a, variant), _per_query(b, variant)
        for name in left:
            if len(left[name]) == len(right[name]) == len(identities):
                spread = paired_bootstrap(left[name], right[name], identities, seed)
                found[name, variant, first["protocol"]] = (spread.low, spread.high)
    return found


def _test(run: RunFolder) -> dict[str, Any] | None:
    """Protocol, pictures and identities of the queries, and the pictures of the gallery."""
    if not run.has("data", "index.json"):
        return None
    body = json.loads(run.path("data", "index.json").read_text(encoding="utf-8"))
    query, gallery = body["rows"]["query"], body["rows"]["gallery"]
    return {
        "protocol": body["protocol"],
        "query": [body["paths"][row] for row in query],
        "gallery": [body["paths"][row] for row in gallery],
        "identities": [body["identities"][row] for row in query],
    }


def _variants(run: RunFolder) -> set[str]:
    record = run.manifest.stages.get("evaluate")
    names = record.artifacts if record else ()
    return {name.removesuffix(".json") for name in names if name.endswith(".json") and name != "metrics.json"}


def _per_query(run: RunFolder, variant: str) -> Mapping[str, NDArray[np.float64]]:
    body = json.loads(run.path("evaluate", f"{variant}.json").read_text(encoding="utf-8"))
    ranks = np.array(body["first_rank"])
    return {
        "reid.map": np.array(body["ap"], np.float64),
        **{f"reid.rank{k}": (ranks <= k).astype(np.float64) for k in RANKS},
    }
