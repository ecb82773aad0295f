"""Finished jobs, averaged over seeds, side by side: utility, cost, leakage, and differences with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import ArtifactError
from toolkit.privacy.anchors import r_squared
from toolkit.sweeps.folders import Sweep
from toolkit.sweeps.intervals import Value, average, resampled
from toolkit.sweeps.limits import limits
from toolkit.sweeps.paired import above_chance, ap, averaged, paired, ssim
from toolkit.sweeps.samples import Samples, load_samples
from toolkit.sweeps.settings import Role


@dataclass(frozen=True)
class Leak:
    """How well one content can be read.

    Attributes:
        above: accuracy above chance, from the source that gives most, averaged over seeds.
        chance: of always guessing the most frequent class.
        per_picture: it changes from picture to picture; else it is evidence of the identity.
    """

    above: Value
    chance: float
    per_picture: bool


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
        opinion: R2 that the training adversary last had of itself; None without one, or where it was not noted.
        excess: normalized SSIM above that of the row that sends the embedding; None where no row does.
        role: what the verdict takes the method for.
        leaks: by content; absent where the job did not ask or the recogniser cannot read originals.
        unread: contents whose recogniser cannot read originals.
        background: SSIM outside the vehicle above what the mean picture reaches there; None where nobody asked.
        limits: costs of the shallow dense split that the budget names, by name (``toolkit.sweeps.limits``).
        latency_ms: predicted (value, low, high) of the edge half on the sweep's device; None without one.
        r2_excess, leak_excess: as ``excess``, for R2 and for the contents.
        frames: normalized SSIM by the number of frames of a scene, where they differ.
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
    role: Role = "baseline"
    leaks: dict[str, Leak] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    background: float | None = None
    limits: dict[str, float] = field(default_factory=dict)
    latency_ms: tuple[float, float, float] | None = None
    r2_excess: float | None = None
    leak_excess: dict[str, float] = field(default_factory=dict)
    frames: dict[int, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A row with the jobs behind it."""

    row: Row
    samples: tuple[Samples, ...]


@dataclass(frozen=True)
class Group:
    """All methods at one point of the axes.

    Attributes:
        point: the axes' values without the seed.
        entries: the methods in the sweep's order.
        reference: name of the method that others are compared with.
    """

    point: tuple[tuple[str, Any], ...]
    entries: tuple[Entry, ...]
    reference: str

    def entry(self, method: str) -> Entry | None:
        """A method's entry; None where it has no finished job here."""
        return next((entry for entry in self.entries if entry.row.method == method), None)


def collect(sweep: Sweep) -> list[Row]:
    """Rows of all jobs that are finished, the reference first in each group.

    Raises:
        ArtifactError: no job is finished.
    """
    return [entry.row for group in collect_groups(sweep) for entry in group.entries]


def collect_groups(sweep: Sweep) -> list[Group]:
    """The rows with the jobs behind them, for paired comparisons (errors as :func:`collect`)."""
    found = [load_samples(sweep, unit) for unit in sweep.units if unit.job and sweep.is_done(unit)]
    if not found:
        raise ArtifactError(f"no job of {sweep.root} is finished; run patrol-edge sweep")
    groups: dict[tuple[Any, ...], dict[str, list[Samples]]] = {}
    for item in found:
        groups.setdefault(item.job.group, {}).setdefault(item.job.method, []).append(item)
    name = sweep.settings.reference
    return [_group(point, methods, name) for point, methods in groups.items()]


def _group(point: tuple[Any, ...], methods: dict[str, list[Samples]], reference: str) -> Group:
    base = methods.get(reference, [])
    entries = [Entry(_row(samples, base), tuple(samples)) for samples in methods.values()]
    disclosed = [entry.row for entry in entries if entry.samples[0].job.wire == "embedding"]
    return Group(point, tuple(replace(e, row=_above(e.row, disclosed)) for e in entries), reference)


def _above(row: Row, disclosed: Sequence[Row]) -> Row:
    """What the wire leaks above the embedding, which the task discloses anyway."""
    if not disclosed:
        return row
    contents = {
        name: leak.above.value - max(other.leaks[name].above.value for other in disclosed if name in other.leaks)
        for name, leak in row.leaks.items()
        if any(name in other.leaks for other in disclosed)
    }
    return replace(
        row,
        excess=row.ssim.value - max(other.ssim.value for other in disclosed),
        r2_excess=row.r2.value - max(other.r2.value for other in disclosed),
        leak_excess=contents,
    )


def _row(samples: list[Samples], reference: list[Samples]) -> Row:
    first = samples[0]
    own = bool(reference) and first.job.method == reference[0].job.method
    maps, leaks = [s.body["map"] for s in samples], [float(s.ssim.mean()) for s in samples]
    _same_queries(samples)
    return Row(
        method=first.job.method,
        point=dict(first.job.group),
        seeds=len(samples),
        map=resampled([average([s.queries("ap") for s in samples])]),
        rank1=resampled([average([s.queries("hit1") for s in samples])]),
        r2=resampled([average([s.pictures(name) for s in samples]) for name in ("mse", "mean_mse")], r_squared),
        ssim=resampled([average([s.pictures("ssim") for s in samples])]),
        macs=_average(s.edge["macs"] for s in samples),
        parameters=_average(s.edge["parameters"] for s in samples),
        activation_bytes=_average(s.edge["activation_bytes"] for s in samples),
        budget=first.edge.get("budget"),
        bytes_raw=_average(s.body["bytes_raw"] for s in samples),
        bytes_entropy=_average(s.body["bytes_entropy"] for s in samples),
        map_change=None if own else paired(reference, samples, ap),
        ssim_change=None if own else paired(reference, samples, ssim),
        trusted=_average(float(s.attack.trusted) for s in samples),
        converged=_average(float(s.attack.converged) for s in samples),
        map_spread=float(np.std(maps)),
        ssim_spread=float(np.std(leaks)),
        attackers=tuple(sorted({s.attack.worst("ssim").label for s in samples})),
        opinion=_opinion(samples),
        role=first.job.role,
        leaks=_leaks(samples),
        unread=_unread(samples),
        background=_background(samples),
        limits=limits(first.job),
        latency_ms=_latency(samples),
        frames=_frames(samples),
    )


def _leaks(samples: Sequence[Samples]) -> dict[str, Leak]:
    """Contents that were read in every job of the row."""
    found = {}
    for name, content in (samples[0].leaks.contents if samples[0].leaks else {}).items():
        column = averaged(samples, above_chance(name))
        if column is not None:
            found[name] = Leak(resampled([column]), content.chance, content.per_picture)
    return found


def _unread(samples: Sequence[Samples]) -> tuple[str, ...]:
    contents = samples[0].leaks.contents if samples[0].leaks else {}
    return tuple(name for name, content in contents.items() if not content.readable)


def _background(samples: Sequence[Samples]) -> float | None:
    found = [item.leaks.background for item in samples if item.leaks and item.leaks.background]
    return float(np.mean([seen - floor for seen, floor in found])) if len(found) == len(samples) else None


def _latency(samples: Sequence[Samples]) -> tuple[float, float, float] | None:
    names = ("latency_ms", "latency_low_ms", "latency_high_ms")
    if any(name not in item.edge for item in samples for name in names):
        return None
    value, low, high = (_average(item.edge[name] for item in samples) for name in names)
    return value, low, high


def _frames(samples: Sequence[Samples]) -> dict[int, float]:
    counts = set.intersection(*(set(item.frames) for item in samples))
    return {count: _average(item.frames[count]["ssim"] for item in samples) for count in sorted(counts)}


def _opinion(samples: Sequence[Samples]) -> float | None:
    found = [item.opinion() for item in samples]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if len(known) == len(found) else None


def _same_queries(samples: Sequence[Samples]) -> None:
    if any(item.body["query"] != samples[0].body["query"] for item in samples):
        raise ArtifactError(f"jobs of {samples[0].job.method} searched other queries; run the sweep again")


def _average(values: Any) -> float:
    return float(np.mean(list(values)))


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """JSON of all rows."""
    path.write_text(json.dumps([row.to_dict() for row in rows], indent=1) + "\n", encoding="utf-8")
