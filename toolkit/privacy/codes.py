"""What an adversary observes: the codes of a variant, as transmitted, and pairs of codes with pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.arrays import create_array
from toolkit.errors import AttackError
from toolkit.progress import track
from toolkit.wire import WireFormat

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WireCodes:
    """Codes of one variant, dequantized on request and a batch at a time.

    Attributes:
        values: ``(N, C, h, w)``; int8 codes, or float32 features for a 32-bit wire. A memory map is fine.
        step: what one code stands for; 1 for float32 features.
    """

    values: Array
    step: float = 1.0

    def __post_init__(self) -> None:
        if self.values.ndim != 4:
            raise AttackError(
                f"codes have shape (N, C, h, w), not {self.values.shape}; reshape an embedding to (N, D, 1, 1)"
            )
        if self.values.dtype not in (np.dtype(np.int8), np.dtype(np.float32)):
            raise AttackError(f"codes are int8, or float32 for a float wire, not {self.values.dtype}")
        if not (np.isfinite(self.step) and self.step > 0):
            raise AttackError(f"a wire step is a positive number, not {self.step}")
        if self.values.dtype == np.float32 and self.step != 1.0:
            raise AttackError("float32 features are sent as they are: their step is 1")

    @classmethod
    def from_format(cls, values: Array, fmt: WireFormat | None) -> WireCodes:
        """Codes of a wire format, or float32 features where ``fmt`` is None.

        Raises:
            AttackError: the codes do not have the format's shape, or go beyond its bits.
        """
        if fmt is None:
            return cls(values)
        if values.dtype != np.int8:
            raise AttackError(f"a {fmt.bits}-bit wire carries int8 codes, not {values.dtype}")
        if values.shape[1:] != (fmt.channels, fmt.height, fmt.width):
            expected = (fmt.channels, fmt.height, fmt.width)
            raise AttackError(f"codes of another model: {values.shape[1:]}, the wire format says {expected}")
        for start in range(0, len(values), 1024):
            chunk = values[start : start + 1024]
            if int(chunk.min()) < fmt.low or int(chunk.max()) > fmt.high:
                raise AttackError(
                    f"codes go beyond {fmt.low}..{fmt.high}: they are not of this {fmt.bits}-bit wire"
                )
        return cls(values, fmt.step)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of one picture's codes."""
        return self.values.shape[1], self.values.shape[2], self.values.shape[3]

    def features(self, indices: Indices | None = None) -> Floats:
        """Dequantized codes ``(n, C, h, w)``, float32.

        Raises:
            AttackError: a code is NaN or infinite.
        """
        chosen = self.values if indices is None else self.values[indices]
        result = np.asarray(chosen, dtype=np.float32) * np.float32(self.step)
        if self.values.dtype == np.float32 and not np.isfinite(result).all():
            raise AttackError("the codes hold NaN or infinite values; check the engine that wrote them")
        return result

    def expect(self, shape: tuple[int, int, int], step: float) -> None:
        """Refuse codes of another model.

        Raises:
            AttackError: shape or step differ from what the attack was fitted on.
        """
        if self.shape != shape:
            raise AttackError(
                f"codes of another model: (C, h, w) is {self.shape}, the attack was fitted on {shape}"
            )
        if not np.isclose(self.step, step, rtol=1e-6):
            raise AttackError(f"codes of another model: step {self.step:g}, the attack was fitted on {step:g}")


@dataclass(frozen=True)
class Part:
    """Codes and the pictures they were made from, at ``indices`` of both.

    ``partners`` pairs each code with the picture at another index instead (only :meth:`Pairs.mismatched` does).
    ``changed`` pictures are not as a camera gives them: zoomed, turned, recoloured.
    """

    codes: WireCodes
    pictures: Pictures
    indices: Indices
    partners: Indices | None = None
    changed: bool = False


class Pairs:
    """Codes with their pictures, from one or more sources (pictures, their mirror images), never copied."""

    def __init__(self, parts: tuple[Part, ...] | list[Part]) -> None:
        """Check that the parts belong together.

        Raises:
            AttackError: no pairs, counts or shapes that do not match, an index out of range, pictures not uint8.
        """
        self.parts = tuple(parts)
        if not self.parts or not sum(len(part.indices) for part in self.parts):
            raise AttackError("an attack needs pairs of codes and pictures; the list is empty")
        for part in self.parts:
            _check_part(part)
            part.codes.expect(self.parts[0].codes.shape, self.parts[0].codes.step)
            if part.pictures.shape[1:] != self.parts[0].pictures.shape[1:]:
                raise AttackError("all pictures of an attack have one size")
        self._source = np.concatenate([np.full(len(part.indices), i) for i, part in enumerate(self.parts)])
        self._index = np.concatenate([part.indices for part in self.parts]).astype(np.int64)
        partners = [part.indices if part.partners is None else part.partners for part in self.parts]
        self._partner = np.concatenate(partners).astype(np.int64)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """``(C, h, w)``."""
        return self.parts[0].codes.shape

    @property
    def step(self) -> float:
        """What one code stands for."""
        return self.parts[0].codes.step

    @property
    def picture_size(self) -> tuple[int, int]:
        """``(H, W)``."""
        return self.parts[0].pictures.shape[1], self.parts[0].pictures.shape[2]

    def batch(self, positions: Indices) -> tuple[Floats, Pictures]:
        """Dequantized codes ``(n, C, h, w)`` and pictures ``(n, H, W, 3)`` at ``positions`` (0..len-1)."""
        return self.features(positions), self.pictures(positions)

    def features(self, positions: Indices) -> Floats:
        """Dequantized codes ``(n, C, h, w)``."""
        out = np.empty((len(positions), *self.code_shape), np.float32)
        for i, part in enumerate(self.parts):
            rows = np.flatnonzero(self._source[positions] == i)
            if len(rows):
                out[rows] = part.codes.features(self._index[positions[rows]])
        return out

    def pictures(self, positions: Indices) -> Pictures:
        """Pictures ``(n, H, W, 3)``."""
        out = np.empty((len(positions), *self.picture_size, 3), np.uint8)
        for i, part in enumerate(self.parts):
            rows = np.flatnonzero(self._source[positions] == i)
            if len(rows):
                out[rows] = part.pictures[self._partner[positions[rows]]]
        return out

    def head(self, count: int) -> Pairs:
        """At most ``count`` pairs, spread evenly over the list."""
        if len(self) <= count:
            return self
        keep = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        return self.at(keep)

    def at(self, positions: Indices) -> Pairs:
        """The pairs at ``positions``."""
        parts = []
        for i, part in enumerate(self.parts):
            rows = positions[self._source[positions] == i]
            if len(rows):
                kept = self._index[rows], self._partner[rows]
                parts.append(Part(part.codes, part.pictures, *kept, part.changed))
        return Pairs(parts)

    def unchanged(self) -> Pairs:
        """The pairs whose pictures are as the camera gives them, or mirrored; all where there is no such part."""
        kept = [part for part in self.parts if not part.changed]
        return Pairs(kept) if 0 < len(kept) < len(self.parts) else self

    def half(self, seed: int, identities: Sequence[str] | None = None) -> Pairs:
        """Half of the distinct pictures, drawn at random, each with all its changed copies.

        Args:
            seed: of the draw.
            identities: of the pictures of the first part, row by row: whole identities are drawn, since another
                picture of a known vehicle says less than one of another vehicle. None draws pictures.

        Raises:
            AttackError: fewer than two pictures, or parts that are not changed copies of the first, row by row.
        """
        count = len(self.parts[0].indices)
        if count < 2 or any(len(part.indices) != count for part in self.parts):
            sizes = [len(part.indices) for part in self.parts]
            raise AttackError(f"parts of {sizes} pictures have no half: all are changed copies of at least two")
        rows = _drawn_half(identities or [str(row) for row in range(count)], count, seed)
        return self.at(np.concatenate([rows + i * count for i in range(len(self.parts))]))

    def mismatched(self, seed: int) -> Pairs:
        """The same codes and pictures in pairs that do not belong together, for the floor's decoder."""
        parts = []
        for i, part in enumerate(self.parts):
            order = np.random.default_rng((seed, i)).permutation(len(part.indices))
            parts.append(Part(part.codes, part.pictures, part.indices, part.indices[order], part.changed))
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


def _check_part(part: Part) -> None:
    if part.pictures.ndim != 4 or part.pictures.shape[-1] != 3 or part.pictures.dtype != np.uint8:
        raise AttackError(f"pictures are uint8 (N, H, W, 3), not {part.pictures.dtype} {part.pictures.shape}")
    if len(part.codes) != len(part.pictures):
        raise AttackError(f"{len(part.codes)} codes do not pair with {len(part.pictures)} pictures")
    if len(part.indices) and not (int(part.indices.min()) >= 0 and int(part.indices.max()) < len(part.codes)):
        raise AttackError(f"a pair's index is outside 0..{len(part.codes) - 1}")


def encode_once(pictures: Pictures, encode: Callable[[Pictures], Array], path: Path, batch: int = 64) -> Array:
    """Like :func:`encode_to_file`; codes that an earlier call left are read instead."""
    if path.exists():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return encode_to_file(pictures, encode, path, batch)


def encode_to_file(pictures: Pictures, encode: Callable[[Pictures], Array], path: Path, batch: int = 64) -> Array:
    """Codes of all pictures ``(N, C, h, w)``, written batch by batch and returned as a memory map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    store: np.memmap | None = None
    for start in track(range(0, len(pictures), batch), "encoding pictures"):
        codes = np.asarray(encode(pictures[start : start + batch]))
        if store is None:
            store = create_array(partial, codes.dtype, (len(pictures), *codes.shape[1:]))
        store[start : start + len(codes)] = codes
    if store is None:
        raise AttackError("there are no pictures to encode")
    store.flush()
    del store
    partial.replace(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)
