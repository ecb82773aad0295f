"""What an adversary observes: the codes of a variant, as transmitted."""

from __future__ import annotations

from collections.abc import Callable
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
        expect_codes(self.shape, self.step, shape, step)


def expect_codes(shape: tuple[int, ...], step: float, wanted: tuple[int, ...], wanted_step: float) -> None:
    """Refuse codes of another model.

    Raises:
        AttackError: shape ``(C, h, w)`` or step differ.
    """
    if shape != wanted:
        raise AttackError(f"codes of another model: (C, h, w) is {shape}, the attack was fitted on {wanted}")
    if not np.isclose(step, wanted_step, rtol=1e-6):
        raise AttackError(f"codes of another model: step {step:g}, the attack was fitted on {wanted_step:g}")


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
