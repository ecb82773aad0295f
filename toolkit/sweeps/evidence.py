"""What a sweep proves: rows at one utility or one rate, and the target's verdict.

Everything is compared with baselines within the same edge budget. Nothing is extrapolated: a row at the mAP or the
rate of another is interpolated between two neighbouring sweep points of its method, or the nearest point within a
stated tolerance, or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from toolkit.sweeps.intervals import Value, average, resampled
from toolkit.sweeps.paired import Take, above_chance, ap, averaged, paired, pairs_of, ssim
from toolkit.sweeps.settings import EvidenceSettings
from toolkit.sweeps.table import Entry, Group, Row

OVER = 1.0001  # rounding of a budget that is a share
PLATE = "plate"
Axis = Literal["mAP", "coded bytes"]


@dataclass(frozen=True)
class Against:
    """A form of the method beside the baseline that leaks least by one measure.

    Attributes:
        baseline: its name.
        theirs: what it leaks.
        change: paired, the form's minus the baseline's.
        ratio: the form's as a share of the baseline's, paired.
        beyond: paired, the form's minus the share of the baseline's that the target allows; at most 0 is met.
    """

    baseline: str
    theirs: float
    change: Value
    ratio: Value
    beyond: Value


@dataclass(frozen=True)
class Verdict:
    """The target, for one form of the method against one choice of baselines.

    Attributes:
        row: the form.
        reading: whom it is held against: every baseline ``within the budget``, or only those of them that keep the
            mAP themselves.
        map_loss: one-sided 95 % bound of the mAP lost to the reference; None without one.
        map_change: to the baseline that leaks least, paired; None without one.
        within: the edge half keeps the budget; None where there is none.
        ssim, plate: None where no baseline qualifies, or the plate was not read.
    """

    row: Row
    reading: Literal["within the budget", "within the budget and the mAP loss"]
    map_loss: float | None
    map_change: Value | None
    within: bool | None
    ssim: Against | None
    plate: Against | None

    def holds(self, settings: EvidenceSettings) -> bool | None:
        """Whether the target is met; None where something that it asks for was not measured."""
        parts = [
            None if self.map_loss is None else self.map_loss < settings.map_loss,
            self.within,
            None if self.ssim is None else self.ssim.beyond.value <= 0,
            None if self.plate is None else self.plate.beyond.value <= 0,
        ]
        return False if False in parts else None if None in parts else True


@dataclass(frozen=True)
class Match:
    """A baseline at the mAP or at the rate of a form.

    Attributes:
        row: the form.
        axis: what is the same.
        method: the baseline.
        map, bytes_entropy, r2, ssim: its numbers there.
        leaks: its accuracy above chance, by content; absent where not read.
        change: normalized SSIM of the form minus the baseline's, paired.
        how: from which points.
    """

    row: Row
    axis: Axis
    method: str
    map: float
    bytes_entropy: float
    r2: float
    ssim: float
    leaks: dict[str, float]
    change: Value
    how: str


def within_budget(row: Row, group: Group) -> bool | None:
    """Whether a row's edge half keeps the MACs of its group; None where there is no budget."""
    limit = budget_of(group)
    return None if limit is None else row.macs <= OVER * limit


def budget_of(group: Group) -> float | None:
    """MACs that the edge half may cost."""
    asked = [entry.row.budget for entry in group.entries if entry.row.budget is not None]
    named = [entry.row.limits["macs"] for entry in group.entries if "macs" in entry.row.limits]
    return max(named or asked, default=None)


def verdicts(group: Group, settings: EvidenceSettings) -> list[Verdict]:
    """The target for every form of a group, in both readings of "the best baseline"."""
    forms = [entry for entry in group.entries if entry.row.role == "form"]
    plain = [e for e in group.entries if e.row.role == "baseline" and within_budget(e.row, group) is not False]
    faithful = [e for e in plain if (loss := map_loss(e.row, group)) is not None and loss < settings.map_loss]
    return [
        _verdict(form, group, chosen, reading, settings)
        for form in forms
        for reading, chosen in _readings(plain, faithful)
    ]


def _readings(plain: list[Entry], faithful: list[Entry]) -> list[tuple[Any, list[Entry]]]:
    return [("within the budget", plain), ("within the budget and the mAP loss", faithful)]


def map_loss(row: Row, group: Group) -> float | None:
    """One-sided 95 % bound of the mAP that a row loses to the reference; None without one."""
    if row.method == group.reference:
        return 0.0
    return None if row.map_change is None else -row.map_change.at_least


def _verdict(
    form: Entry, group: Group, baselines: Sequence[Entry], reading: Any, settings: EvidenceSettings
) -> Verdict:
    by_ssim = _against(form, baselines, ssim, settings.leakage)
    best = group.entry(by_ssim.baseline) if by_ssim else None
    return Verdict(
        row=form.row,
        reading=reading,
        map_loss=map_loss(form.row, group),
        map_change=paired(best.samples, form.samples, ap) if best else None,
        within=within_budget(form.row, group),
        ssim=by_ssim,
        plate=_against(form, baselines, above_chance(PLATE), settings.leakage),
    )


def _against(form: Entry, baselines: Sequence[Entry], take: Take, share: float) -> Against | None:
    """Beside the baseline that leaks least by this measure, of those that share a seed with the form."""
    known = []
    for entry in baselines:
        column = averaged(entry.samples, take)
        if column is not None and pairs_of(entry.samples, form.samples, take):
            known.append((float(column.values.mean()), entry))
    if not known:
        return None
    theirs, best = min(known, key=lambda pair: pair[0])
    pairs = pairs_of(best.samples, form.samples, take)
    first, second = (average([pair[side] for pair in pairs]) for side in (0, 1))
    return Against(
        baseline=best.row.method,
        theirs=theirs,
        change=resampled([first, second], lambda a, b: b - a),
        ratio=resampled([first, second], lambda a, b: b / a),
        beyond=resampled([first, second], lambda a, b: b - share * a),
    )


def matches(groups: Sequence[Group], axis: Axis, settings: EvidenceSettings) -> list[Match]:
    """Every baseline at the mAP, or at the rate, of every form, as far as the sweep's points reach."""
    found = []
    for group in groups:
        for form in (entry for entry in group.entries if entry.row.role == "form"):
            for method, points in _curves(groups, group, form).items():
                match = _match(form, method, points, axis, settings)
                if match:
                    found.append(match)
    return found


def _curves(groups: Sequence[Group], own: Group, form: Entry) -> dict[str, list[Entry]]:
    """The baselines' points at any point of the axes that keep the form's budget."""
    limit = budget_of(own)
    curves: dict[str, list[Entry]] = {}
    for group in groups:
        for entry in group.entries:
            if entry.row.role == "baseline" and (limit is None or entry.row.macs <= OVER * limit):
                curves.setdefault(entry.row.method, []).append(entry)
    return curves


def _match(
    form: Entry, method: str, points: Sequence[Entry], axis: Axis, settings: EvidenceSettings
) -> Match | None:
    place: Callable[[Row], float] = (
        (lambda row: row.map.value) if axis == "mAP" else (lambda row: float(np.log(row.bytes_entropy)))
    )
    level = place(form.row)
    ordered = sorted(points, key=lambda entry: place(entry.row))
    for low, high in pairwise(ordered):
        start, end = place(low.row), place(high.row)
        if start <= level <= end and start < end:
            weight = (level - start) / (end - start)
            how = f"between {_point(low.row)} and {_point(high.row)}"
            return _mixed(form, axis, method, low, high, weight, how)
    nearest = min(ordered, key=lambda entry: abs(place(entry.row) - level))
    away = place(nearest.row) - level
    if axis == "mAP" and abs(away) <= settings.map_tolerance:
        return _mixed(form, axis, method, nearest, nearest, 0.0, f"nearest, {away:+.3f} mAP")
    share = float(np.expm1(away))
    if axis == "coded bytes" and abs(share) <= settings.rate_tolerance:
        return _mixed(form, axis, method, nearest, nearest, 0.0, f"nearest, {share:+.0%} bytes")
    return None


def _mixed(form: Entry, axis: Axis, method: str, low: Entry, high: Entry, weight: float, how: str) -> Match:
    """Numbers ``weight`` of the way from one point to the other."""

    def between(number: Callable[[Row], float]) -> float:
        return (1 - weight) * number(low.row) + weight * number(high.row)

    theirs = [averaged(entry.samples, ssim) for entry in (low, high)]
    own = averaged(form.samples, ssim)
    assert theirs[0] is not None and theirs[1] is not None and own is not None
    columns = [theirs[0], theirs[1], own]
    return Match(
        row=form.row,
        axis=axis,
        method=method,
        map=between(lambda row: row.map.value),
        bytes_entropy=float(np.exp(between(lambda row: float(np.log(row.bytes_entropy))))),
        r2=between(lambda row: row.r2.value),
        ssim=between(lambda row: row.ssim.value),
        leaks={
            name: between(lambda row, name=name: row.leaks[name].above.value)  # type: ignore[misc]
            for name in low.row.leaks
            if name in high.row.leaks
        },
        change=resampled(columns, lambda a, b, c: c - (1 - weight) * a - weight * b),
        how=how,
    )


def _point(row: Row) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in row.point.items()) or row.method
