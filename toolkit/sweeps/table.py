"""Finished jobs, averaged over seeds, side by side: utility, cost, leakage, and differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import ArtifactError
from toolkit.privacy.anchors import r_squared
from toolkit.privacy.result import AttackResult
from toolkit.privacy.statistics import estimate, mean
from toolkit.sweeps.folders import Sweep, read_json
from toolkit.sweeps.score import SCORES
from toolkit.sweeps.settings import Job

Floats = NDArray[np.float64]
LAST_STEPS = 20


@dataclass(frozen=True)
class Value:
    """A number with its 95 % interval over identities."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A method at one point of the axes, averaged over seeds.

    Attributes:
        method, point: which.
        seeds: how many jobs are in it.
        map, rank1: re-identification with the codes that are sent.
        r2, ssim: of the worst attacker, by its own measure; ``ssim`` is normalized.
        macs, parameters, activation_bytes: of the edge half.
        budget: MACs that the edge half was allowed; None where nothing was asked for.
        bytes_raw, bytes_entropy: of one picture's codes, packed and ideally coded.
        map_change, ssim_change: to the reference, paired; None for the reference itself.
        trusted, converged: parts of the seeds whose attackers are.
        map_spread, ssim_spread: standard deviation over seeds, 0 with one.
        attackers: labels of the worst attackers.
        opinion: R2 that the training adversary last had of itself; None without one, or with another loss.
        excess: normalized SSIM above that of the row that sends the embedding; None where no row does.
    """

    method: str
    point: dict[str, Any]
    seeds: int
    map: Value
    rank1: Value
    r2: Value
    ssim: Value
    macs: float
    parameters: float
    activation_bytes: float
    budget: float | None
    bytes_raw: float
    bytes_entropy: float
    map_change: Value | None
    ssim_change: Value | None
    trusted: float
    converged: float
    map_spread: float
    ssim_spread: float
    attackers: tuple[str, ...]
    opinion: float | None = None
    excess: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Samples:
    """One job's numbers by query and by picture."""

    job: Job
    body: dict[str, Any]
    edge: dict[str, float]
    attack: AttackResult
    curves: dict[str, dict[str, list[tuple[int, float]]]]

    @property
    def ssim(self) -> Floats:
        """Normalized SSIM a picture of the worst attacker."""
        floor = self.attack.anchors.floor_ssim
        return np.asarray((self.attack.worst("ssim").values("ssim") - floor) / (1 - floor))


def collect(sweep: Sweep) -> list[Row]:
    """Rows of all jobs that are finished, the reference first in each group.

    Raises:
        ArtifactError: no job is finished.
    """
    found = [_load(sweep, unit.name, unit.job) for unit in sweep.units if unit.job and sweep.is_done(unit)]
    if not found:
        raise ArtifactError(f"no job of {sweep.root} is finished; run patrol-edge sweep")
    groups: dict[tuple[Any, ...], dict[str, list[_Samples]]] = {}
    for item in found:
        groups.setdefault(item.job.group, {}).setdefault(item.job.method, []).append(item)
    rows = []
    for methods in groups.values():
        reference = methods.get(sweep.settings.reference, [])
        rows += _with_excess([_row(samples, reference) for samples in methods.values()], methods)
    return rows


def _with_excess(rows: list[Row], methods: dict[str, list[_Samples]]) -> list[Row]:
    """What the wire leaks above the embedding, which the task discloses anyway."""
    disclosed = [row.ssim.value for row in rows if methods[row.method][0].job.wire == "embedding"]
    if not disclosed:
        return rows
    return [replace(row, excess=row.ssim.value - max(disclosed)) for row in rows]


def _load(sweep: Sweep, name: str, job: Job) -> _Samples:
    folder = sweep.root / name / "job"
    body, edge = read_json(folder / SCORES), read_json(folder / "edge.json")
    curves = read_json(folder / "curves.json")
    return _Samples(job, body, edge, AttackResult.load(folder / "attack"), curves)


def _row(samples: list[_Samples], reference: list[_Samples]) -> Row:
    first = samples[0]
    own = reference and first.job.method == reference[0].job.method
    other = _same_seeds(reference, samples)
    pictures = list(first.attack.identities)
    error = _mean([np.asarray(s.attack.worst("mse").values("mse")) for s in samples])
    anchors = first.attack.anchors
    identity = [str(number) for number in first.body["identity"]]
    maps, leaks = [s.body["map"] for s in samples], [float(s.ssim.mean()) for s in samples]
    return Row(
        method=first.job.method,
        point=dict(first.job.group),
        seeds=len(samples),
        map=_value([_queries(samples, "ap")], identity, mean),
        rank1=_value([_queries(samples, "hit1")], identity, mean),
        r2=_value([error, np.asarray(anchors.mean_mse)], pictures, r_squared),
        ssim=_value([_mean([s.ssim for s in samples])], pictures, mean),
        macs=_average(s.edge["macs"] for s in samples),
        parameters=_average(s.edge["parameters"] for s in samples),
        activation_bytes=_average(s.edge["activation_bytes"] for s in samples),
        budget=first.edge.get("budget"),
        bytes_raw=_average(s.body["bytes_raw"] for s in samples),
        bytes_entropy=_average(s.body["bytes_entropy"] for s in samples),
        map_change=None if own or not other else _value([_query_change(other)], identity, mean),
        ssim_change=None if own or not other else _value([_leak_change(other)], pictures, mean),
        trusted=_average(float(s.attack.trusted) for s in samples),
        converged=_average(float(s.attack.converged) for s in samples),
        map_spread=float(np.std(maps)),
        ssim_spread=float(np.std(leaks)),
        attackers=tuple(sorted({s.attack.worst("ssim").label for s in samples})),
        opinion=_opinion(samples),
    )


def _opinion(samples: Sequence[_Samples]) -> float | None:
    """From the last phase with an adversary: errors are relative to the mean picture's, as 1 - R2 is."""
    found = []
    for item in samples:
        adversary = item.job.settings.slim.finetune.adversary
        curve = item.curves.get("finetune", {}).get("adversary.error", [])
        if adversary is None or adversary.loss != "mse" or not curve:
            return None
        found.append(1 - float(np.mean([value for _, value in curve[-LAST_STEPS:]])))
    return float(np.mean(found))


def map_loss_bound(row: Row) -> float:
    """One-sided 95 % bound of the mAP that is lost to the reference; the interval's own end is more careful."""
    return 0.0 if row.map_change is None else -row.map_change.low


def _same_seeds(reference: list[_Samples], samples: list[_Samples]) -> list[tuple[_Samples, _Samples]]:
    by_seed = {item.job.settings.seed: item for item in reference}
    return [(by_seed[s.job.settings.seed], s) for s in samples if s.job.settings.seed in by_seed]


def _queries(samples: Sequence[_Samples], name: str) -> Floats:
    """Mean over seeds of a number per query; all jobs search the same queries."""
    first = samples[0].body["query"]
    if any(item.body["query"] != first for item in samples):
        raise ArtifactError(f"jobs of {samples[0].job.method} searched other queries; run the sweep again")
    return _mean([np.asarray(item.body[name], np.float64) for item in samples])


def _query_change(pairs: list[tuple[_Samples, _Samples]]) -> Floats:
    return _queries([b for _, b in pairs], "ap") - _queries([a for a, _ in pairs], "ap")


def _leak_change(pairs: list[tuple[_Samples, _Samples]]) -> Floats:
    return _mean([b.ssim - a.ssim for a, b in pairs])


def _mean(columns: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(np.stack(columns), axis=0))


def _average(values: Any) -> float:
    return float(np.mean(list(values)))


def _value(columns: Sequence[Floats], identities: Sequence[str], combine: Callable[..., Any]) -> Value:
    found = estimate(list(columns), identities, combine)
    return Value(found.value, found.low, found.high)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """JSON of all rows."""
    import json

    path.write_text(json.dumps([row.to_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
