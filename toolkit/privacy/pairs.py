"""Pairs of codes with the pictures behind them: stored, or made when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from toolkit.errors import AttackError
from toolkit.privacy.codes import Array, Floats, Indices, Pictures, WireCodes, expect_codes


@dataclass(frozen=True)
class Part:
    """Codes and the pictures they were made from, at ``indices`` of both.

    ``partners`` pairs each code with the picture at another index instead (only :meth:`Pairs.mismatched` does).
    """

    codes: WireCodes
    pictures: Pictures
    indices: Indices
    partners: Indices | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of one picture's codes."""
        return self.codes.shape

    @property
    def step(self) -> float:
        """What one code stands for."""
        return self.codes.step

    def at(self, rows: Indices) -> Part:
        """The pairs at ``rows`` (0..len-1)."""
        partners = None if self.partners is None else self.partners[rows]
        return Part(self.codes, self.pictures, self.indices[rows], partners)

    def batch(self, rows: Indices, turn: int) -> tuple[Floats, Pictures]:
        """Dequantized codes and pictures at ``rows``."""
        return self.features(rows, turn), self.shown(rows, turn)

    def features(self, rows: Indices, turn: int) -> Floats:
        """Dequantized codes at ``rows``."""
        return self.codes.features(self.indices[rows])

    def shown(self, rows: Indices, turn: int) -> Pictures:
        """Pictures at ``rows``."""
        chosen = self.indices if self.partners is None else self.partners
        return self.pictures[chosen[rows]]


class Changing(Protocol):
    """Pictures ``(n, H, W, 3)`` with the number of each and of its change, to changed pictures."""

    def __call__(self, pictures: Pictures, numbers: Indices, changes: Indices) -> Pictures: ...


@dataclass(frozen=True)
class LivePart:
    """Pictures that are changed anew every time they are looked at, and then encoded: nothing is stored.

    Which change a pair gets depends on its numbers alone. Where the edge half draws noise, the noise does not: a
    training that was killed goes on with other noise than an unbroken one.

    Attributes:
        shape: (C, h, w) of what is sent.
        step: what one code stands for.
        pictures: to change.
        indices: row of ``pictures`` behind each pair.
        copies: number of each pair's copy, from 0.
        change: of a picture.
        encode: the edge half, uint8 pictures to codes as they are sent.
        most: copies that a picture has in one turn; the next turn goes on there, so that no change comes twice.
    """

    shape: tuple[int, int, int]
    step: float
    pictures: Pictures
    indices: Indices
    copies: Indices
    change: Changing
    encode: Callable[[Pictures], Array]
    most: int

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, rows: Indices) -> LivePart:
        """The pairs at ``rows`` (0..len-1)."""
        return replace(self, indices=self.indices[rows], copies=self.copies[rows])

    def batch(self, rows: Indices, turn: int) -> tuple[Floats, Pictures]:
        """Dequantized codes and pictures at ``rows``; another ``turn``, other changes."""
        made = self.shown(rows, turn)
        sent = WireCodes(np.asarray(self.encode(made)), self.step)
        sent.expect(self.shape, self.step)
        return sent.features(), made

    def features(self, rows: Indices, turn: int) -> Floats:
        """Dequantized codes at ``rows``."""
        return self.batch(rows, turn)[0]

    def shown(self, rows: Indices, turn: int) -> Pictures:
        """Changed pictures at ``rows``."""
        numbers = self.indices[rows]
        return self.change(self.pictures[numbers], numbers, self.copies[rows] + turn * self.most)


class Pairs:
    """Codes with their pictures, from one or more sources (pictures, their mirror images), never copied."""

    def __init__(self, parts: Sequence[Part | LivePart]) -> None:
        """Check that the parts belong together.

        Raises:
            AttackError: no pairs, counts or shapes that do not match, an index out of range, pictures not uint8.
        """
        self.parts = tuple(parts)
        if not self.parts or not sum(len(part) for part in self.parts):
            raise AttackError("an attack needs pairs of codes and pictures; the list is empty")
        for part in self.parts:
            _check_part(part)
            expect_codes(part.shape, part.step, self.code_shape, self.step)
            if part.pictures.shape[1:] != self.parts[0].pictures.shape[1:]:
                raise AttackError("all pictures of an attack have one size")
        self._source = np.concatenate([np.full(len(part), i) for i, part in enumerate(self.parts)])
        self._row = np.concatenate([np.arange(len(part)) for part in self.parts])

    def __len__(self) -> int:
        return len(self._row)

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """``(C, h, w)``."""
        return self.parts[0].shape

    @property
    def step(self) -> float:
        """What one code stands for."""
        return self.parts[0].step

    @property
    def picture_size(self) -> tuple[int, int]:
        """``(H, W)``."""
        return self.parts[0].pictures.shape[1], self.parts[0].pictures.shape[2]

    def batch(self, positions: Indices, turn: int = 0) -> tuple[Floats, Pictures]:
        """Dequantized codes ``(n, C, h, w)`` and pictures ``(n, H, W, 3)`` at ``positions`` (0..len-1).

        Pictures that are changed when they are looked at get other changes in every ``turn``.
        """
        features, pictures = self._no_features(positions), self._no_pictures(positions)
        for part, places, rows in self._found(positions):
            features[places], pictures[places] = part.batch(rows, turn)
        return features, pictures

    def features(self, positions: Indices) -> Floats:
        """Dequantized codes ``(n, C, h, w)``."""
        out = self._no_features(positions)
        for part, places, rows in self._found(positions):
            out[places] = part.features(rows, 0)
        return out

    def pictures(self, positions: Indices) -> Pictures:
        """Pictures ``(n, H, W, 3)``."""
        out = self._no_pictures(positions)
        for part, places, rows in self._found(positions):
            out[places] = part.shown(rows, 0)
        return out

    def _no_features(self, positions: Indices) -> Floats:
        return np.empty((len(positions), *self.code_shape), np.float32)

    def _no_pictures(self, positions: Indices) -> Pictures:
        return np.empty((len(positions), *self.picture_size, 3), np.uint8)

    def _found(self, positions: Indices) -> Iterator[tuple[Part | LivePart, Indices, Indices]]:
        """For each part with some of the pairs: places in ``positions``, and rows of the part."""
        for i, part in enumerate(self.parts):
            places = np.flatnonzero(self._source[positions] == i)
            if len(places):
                yield part, places, self._row[positions[places]]

    def head(self, count: int) -> Pairs:
        """At most ``count`` pairs, spread evenly over the list."""
        if len(self) <= count:
            return self
        keep = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        return self.at(keep)

    def at(self, positions: Indices) -> Pairs:
        """The pairs at ``positions``, part by part."""
        return Pairs([part.at(rows) for part, _, rows in self._found(positions)])

    def stored(self) -> list[Part]:
        """The parts whose pictures are as the camera gives them, or mirrored."""
        return [part for part in self.parts if isinstance(part, Part)]

    def unchanged(self) -> Pairs:
        """The pairs of the :meth:`stored` parts; all where there is no other."""
        stored = self.stored()
        return Pairs(stored) if 0 < len(stored) < len(self.parts) else self

    def half(self, seed: int, identities: Sequence[str] | None = None) -> Pairs:
        """Half of the distinct pictures, drawn at random, each with all its changed copies.

        Args:
            seed: of the draw.
            identities: of the pictures of the first part, row by row: whole identities are drawn, since another
                picture of a known vehicle says less than one of another vehicle. None draws pictures.

        Raises:
            AttackError: fewer than two pictures, or parts that are not changed copies of the first, row by row.
        """
        count = len(self.parts[0])
        if count < 2 or any(len(part) % count for part in self.parts):
            sizes = [len(part) for part in self.parts]
            raise AttackError(f"parts of {sizes} pictures have no half: all are changed copies of at least two")
        rows = _drawn_half(identities or [str(row) for row in range(count)], count, seed)
        return self.at(np.concatenate([rows + start for start in range(0, len(self), count)]))

    def mismatched(self, seed: int) -> Pairs:
        """The stored codes and pictures in pairs that do not belong together, for the floor's decoder."""
        parts = []
        for i, part in enumerate(self.stored()):
            order = np.random.default_rng((seed, i)).permutation(len(part))
            parts.append(Part(part.codes, part.pictures, part.indices, part.indices[order]))
        return Pairs(parts)


def _drawn_half(identities: Sequence[str], count: int, seed: int) -> Indices:
    """Rows of randomly drawn identities, at least half of all rows; single rows where there is one identity."""
    if len(identities) != count:
        raise AttackError(f"{len(identities)} identities do not belong to {count} pictures")
    names = np.asarray(identities if len(set(identities)) > 1 else range(count)).astype(str)
    order = np.random.default_rng((seed, 2)).permutation(np.unique(names))
    sizes = np.cumsum([np.count_nonzero(names == name) for name in order])
    taken = max(1, min(len(order) - 1, int(np.searchsorted(sizes, count / 2)) + 1))
    return np.flatnonzero(np.isin(names, order[:taken]))


def _check_part(part: Part | LivePart) -> None:
    if part.pictures.ndim != 4 or part.pictures.shape[-1] != 3 or part.pictures.dtype != np.uint8:
        raise AttackError(f"pictures are uint8 (N, H, W, 3), not {part.pictures.dtype} {part.pictures.shape}")
    if isinstance(part, Part) and len(part.codes) != len(part.pictures):
        raise AttackError(f"{len(part.codes)} codes do not pair with {len(part.pictures)} pictures")
    if len(part.indices) and not (int(part.indices.min()) >= 0 and int(part.indices.max()) < len(part.pictures)):
        raise AttackError(f"a pair's index is outside 0..{len(part.pictures) - 1}")
