"""What an edge engine reads: the pictures and, where the network has private noise, the noise of every picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines.base import Arrays, Engine
from toolkit.wire import NOISE, standard_normal

PICTURE = "picture"
Draw = Callable[[tuple[int, ...]], NDArray[np.float32]]


def noise_shape(engine: Engine) -> tuple[int, ...] | None:
    """``(C, h, w)`` of the noise that an engine reads for a picture; None where it reads none."""
    specs: list[dict[str, Any]] = engine.describe()["inputs"]
    return next((tuple(spec["shape"][1:]) for spec in specs if spec["name"] == NOISE), None)


def edge_inputs(engine: Engine, pictures: NDArray[Any], draw: Draw = standard_normal) -> Arrays:
    """Inputs of an edge engine by name.

    Args:
        engine: an edge half.
        pictures: as the network takes them, float32 ``(N, 3, H, W)``.
        draw: shape to standard normal float32 numbers; drawn from the operating system if not given.
    """
    shape = noise_shape(engine)
    return {PICTURE: pictures, **({} if shape is None else {NOISE: draw((len(pictures), *shape))})}


def no_noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros: with them an engine gives its noise-free codes, the signal."""
    return np.zeros(shape, np.float32)
