"""From what should go to what goes: exactness, alignment, and channels that must stay with others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.surgery.errors import SurgeryError
from toolkit.surgery.fold import best_carrier, foldable, leaves_constant
from toolkit.surgery.structure import Flags, Structure

Scores = NDArray[np.float64]


@dataclass
class Choice:
    """Which coupled sets stay, and why those that were to go stay after all.

    Attributes:
        kept: ``(labels,)`` flags by root.
        aligned: roots kept for alignment, or because a split needs equal parts.
        constant: roots kept because they carry a constant.
        refused: roots whose removal would not be exact, with the reason.
    """

    kept: Flags
    aligned: set[int] = field(default_factory=set)
    constant: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)


def inexact(structure: Structure, approximate: bool) -> dict[int, str]:
    """Removable roots whose removal would change the output, with the reason.

    Args:
        structure: of the masked network: what may go is constant in it.
        approximate: accept constants that differ at the borders.
    """
    reasons: dict[int, str] = {}
    roots = structure.roots
    values: dict[str, NDArray[np.float64]] = {}
    for use in structure.channel_map.trace.consumptions:
        if use.grouped:
            continue
        mine = roots[use.labels]
        _note(reasons, mine[~use.const], f"it varies with the input at {use.module}")
        if not approximate:
            _note(reasons, mine[use.const & ~use.uniform], f"its constant differs at the borders of {use.module}")
        nonzero = use.const & (use.value != 0)
        if not foldable(structure.modules[use.module], use.parameter, use.module):
            _note(reasons, mine[nonzero], f"{use.module} cannot take its constant")
        before = values.setdefault(use.parameter, use.value)
        if before is not use.value:
            differs = np.abs(before - use.value) > 1e-12 * np.abs(before)
            _note(reasons, mine[use.const & differs], f"{use.module} is used twice and reads two constants")
    return {root: reason for root, reason in reasons.items() if structure.removable[root]}


def _note(reasons: dict[int, str], roots: NDArray[np.int64], reason: str) -> None:
    for root in roots.tolist():
        reasons.setdefault(root, reason)


def choose(structure: Structure, wanted: Flags, scores: Scores, align: int, approximate: bool = False) -> Choice:
    """Keep what must stay, then add the best-scored of the others until everything is aligned.

    Args:
        structure: of the masked network.
        wanted: ``(labels,)`` True where the source wants a root removed.
        scores: ``(labels,)`` by root; higher is kept first.
        align: channels are made multiples of this, or left as many as the dense network has.
        approximate: accept constants that differ at the borders.
    """
    refused = {r: why for r, why in inexact(structure, approximate).items() if wanted[r]}
    choice = rounded(structure, wanted & ~_flags(structure, refused), scores, align)
    choice.refused = refused
    before = -1
    while not approximate and int(choice.kept.sum()) != before:
        before = int(choice.kept.sum())
        _keep_carriers(structure, choice)
        _round(structure, choice, scores, align)
    return choice


def _flags(structure: Structure, roots: Iterable[int]) -> Flags:
    flags = np.zeros(len(structure.roots), dtype=bool)
    flags[list(roots)] = True
    return flags


def rounded(structure: Structure, wanted: Flags, scores: Scores, align: int) -> Choice:
    """Alignment, even splits and non-empty groups alone; whether removal is exact is not asked."""
    choice = Choice(~(wanted & structure.removable))
    for group in structure.channel_map.groups:
        if not choice.kept[group.roots].any():
            _revive(choice.kept, choice.aligned, group.roots, scores, 1)
    _round(structure, choice, scores, align)
    return choice


def _round(structure: Structure, choice: Choice, scores: Scores, align: int) -> None:
    before = -1
    while int(choice.kept.sum()) != before:
        before = int(choice.kept.sum())
        _align(structure, choice, scores, align)
        _equalize(structure, choice, scores)


def _revive(kept: Flags, into: set[int], roots: NDArray[np.int64], scores: Scores, number: int) -> None:
    """Keep the ``number`` best-scored of the removed roots among these."""
    dead = np.unique(roots[~kept[roots]])
    best = dead[np.lexsort((dead, -scores[dead]))][:number]
    kept[best] = True
    into.update(best.tolist())


def _keep_carriers(structure: Structure, choice: Choice) -> None:
    """One kept constant channel for every padded convolution that removed channels feed with constants.

    A constant channel that is there for alignment does as well; then the plan names it.
    """
    for use in structure.channel_map.trace.consumptions:
        flags = leaves_constant(use, structure, choice.kept)
        if not use.bordered or not flags.any():
            continue
        roots = structure.roots[use.labels]
        chosen = best_carrier(use, structure, choice.kept)
        if chosen is None:
            best = int(roots[int(np.argmax(np.where(flags, np.abs(use.value), -1)))])
            choice.kept[best] = True
            choice.constant.add(best)
        elif int(roots[chosen]) in choice.aligned:
            choice.constant.add(int(roots[chosen]))


def unaligned(structure: Structure, kept: Flags, align: int) -> list[tuple[str, int]]:
    """Convolution dimensions that are neither a multiple of ``align`` nor as long as in the dense network."""
    found = []
    for name in structure.convolutions:
        for dim in (0, 1):
            size = structure.size(name, dim, kept)
            if size % align and size != structure.shapes[name][dim]:
                found.append((name, dim))
    return found


def _align(structure: Structure, choice: Choice, scores: Scores, align: int) -> None:
    while misses := unaligned(structure, choice.kept, align):
        name, dim = misses[0]
        size, dense = structure.size(name, dim, choice.kept), structure.shapes[name][dim]
        goal = min(-(-size // align) * align, dense)
        roots = structure.dims[name, dim]
        dead = np.unique(roots[~choice.kept[roots]])
        order = dead[np.lexsort((dead, -scores[dead]))]
        width = np.array([int((roots == root).sum()) for root in order])
        number = int(np.searchsorted(np.cumsum(width), goal - size)) + 1
        _revive(choice.kept, choice.aligned, order, scores, number)


def _equalize(structure: Structure, choice: Choice, scores: Scores) -> None:
    """Parts of an even split keep equally many channels."""
    for parts in structure.channel_map.trace.equal_counts:
        counts = [structure.count(part, choice.kept) for part in parts]
        for _ in range(len(structure.roots)):
            low = int(np.argmin(counts))
            if counts[low] == max(counts):
                break
            _revive(choice.kept, choice.aligned, structure.roots[parts[low]], scores, 1)
            counts = [structure.count(part, choice.kept) for part in parts]
        else:
            raise SurgeryError("an even split cannot be kept even; exclude its layers")


def alignment(align: str | int, precision: str = "int8", measured: int | None = None) -> int:
    """Channel multiple that a target wants.

    Args:
        align: ``auto``, 32, 16, 8 or 1.
        precision: of the deployed engine; ``auto`` takes 16 for int8 and 8 for fp16 and fp32.
        measured: a step of the target's measured or predicted latency staircase, which ``auto`` prefers.

    Raises:
        SurgeryError: another value.
    """
    if align == "auto":
        return measured or {"int8": 16, "fp16": 8, "fp32": 8}[precision]
    try:
        number = int(align)
    except ValueError:
        number = 0
    if number not in (1, 8, 16, 32):
        raise SurgeryError(f"alignment is auto, 32, 16, 8 or 1, not {align}")
    return number
