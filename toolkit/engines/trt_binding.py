"""Inputs placed once on the GPU, to run an engine often; and the rounding of a float wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines.base import Arrays
from toolkit.errors import EngineError

if TYPE_CHECKING:
    from toolkit.engines.trt_run import TensorRTEngine


class TensorRTBinding:
    """The engine's buffers, filled: runs without copies."""

    def __init__(self, engine: TensorRTEngine) -> None:
        self._owner = engine

    def run(self) -> None:
        """See :class:`toolkit.engines.base.Binding`."""
        self._owner.enqueue()
        self._owner.synchronize()

    def gpu_time_ms(self) -> float:
        """See :meth:`TensorRTEngine.gpu_time_ms`."""
        return self._owner.gpu_time_ms()

    def phases_ms(self) -> dict[str, float]:
        """See :meth:`TensorRTEngine.phases_ms`."""
        return self._owner.phases_ms()

    def capture(self) -> None:
        """See :meth:`TensorRTEngine.capture`."""
        self._owner.capture()

    def outputs(self) -> Arrays:
        """See :class:`toolkit.engines.base.Binding`."""
        return self._owner.fetch()


def round_to_codes(values: NDArray[np.floating[Any]], step: float | None) -> NDArray[np.int8]:
    """Codes of an engine that gives codes x step as floats.

    Raises:
        EngineError: the sidecar has no step.
    """
    if step is None:
        raise EngineError("the engine's sidecar has no wire_step; build it again with one")
    codes = np.rint(values.astype(np.float32) / np.float32(step))
    return np.clip(codes, -128, 127).astype(np.int8)
