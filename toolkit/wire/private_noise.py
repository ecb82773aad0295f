"""The noise that a device adds to its codes and never sends.

What protects is that nobody else knows it. On a device it therefore comes from the operating system's
cryptographic generator, anew for every frame: a pseudo-random stream from a seed could be found again by an
adversary who knows all but one detail of a scene, which is the adversary of the certificate. A pipeline that must
repeat itself gives a generator of its own instead.
"""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.typing import NDArray

NOISE = "noise"
"""Name of the edge half's second input."""
WORD = 8  # bytes of a random number
MANTISSA = 53


def standard_normal(shape: tuple[int, ...], random: np.random.Generator | None = None) -> NDArray[np.float32]:
    """Independent numbers of mean 0 and standard deviation 1: the edge half's input ``noise``.

    Args:
        shape: ``(N, C, h, w)``.
        random: a seeded generator, for results that can be repeated; None draws from the operating system, as a
            device must.
    """
    if random is not None:
        return random.standard_normal(shape, np.float32)
    count = math.prod(shape)
    half = (count + 1) // 2
    # Box and Muller (1958): two uniform numbers make two independent normal ones. The first is in (0, 1].
    words = np.frombuffer(os.urandom(2 * half * WORD), np.uint64) >> np.uint64(64 - MANTISSA)
    first, second = np.split(words.astype(np.float64), 2)
    radius = np.sqrt(-2 * np.log((first + 1) * 2.0**-MANTISSA))
    angle = second * (2 * math.pi * 2.0**-MANTISSA)
    values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return values.astype(np.float32).reshape(shape)
