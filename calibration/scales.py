"""Scales and the arithmetic of symmetric INT8 in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from calibration.table import TABLE

SMALLEST = float(np.finfo(np.float16).smallest_normal)


def half_scale(scale: np.ndarray | float) -> np.ndarray:
    """The smallest FP16 number that is not below ``scale``, as float32.

    Every form then works with exactly the same scales, whether its tensors are FP32 or FP16. Rounding up means
    that nothing is clipped which the scale was meant to hold. At least the smallest normal FP16 number.
    """
    wanted = np.maximum(np.asarray(scale, dtype=np.float64), SMALLEST)
    half = wanted.astype(np.float16)
    up = np.where(half.astype(np.float64) < wanted, np.nextafter(half, np.float16(np.inf)), half)
    return up.astype(np.float32)


def scale_of(threshold: np.ndarray | float) -> np.ndarray:
    """``threshold / 127`` as an FP16-exact float32; a threshold of 0 gives the smallest scale."""
    return half_scale(np.asarray(threshold, dtype=np.float64) / TABLE.activation_codes[1])


def fake_quantize(values: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """``clip(round(x / s), -128, 127) * s`` in float32, halves to even as in QuantizeLinear."""
    low, high = TABLE.activation_codes
    step = np.float32(scale)
    codes = np.clip(np.rint(values / step), low, high)
    return np.asarray(codes * step, dtype=np.float32)


def weight_codes(weight: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """INT8 codes of a weight, symmetric in [-127, 127].

    Args:
        weight: float32; scale: float32 (channels,); axis: the channel axis.
    """
    low, high = TABLE.weight_codes
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.rint(weight / scale.reshape(shape)), low, high).astype(np.int8)


def clip_weight(weight: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """The weight within what its codes hold (QuantizeLinear alone would go on to -128, as no other form does)."""
    low, high = TABLE.weight_codes
    shape = [1] * weight.ndim
    shape[axis] = -1
    limit = scale.reshape(shape)
    return np.asarray(np.clip(weight, low * limit, high * limit), dtype=np.float32)


def dequantize_weight(codes: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """The float32 weight that INT8 codes stand for."""
    shape = [1] * codes.ndim
    shape[axis] = -1
    return np.asarray(codes.astype(np.float32) * scale.reshape(shape), dtype=np.float32)


@dataclass(frozen=True)
class Scales:
    """All scales of one quantized model; each is exact in FP16, the wire's step excepted.

    Attributes:
        activations: tensor -> scale, for every point of the plan.
        weights: layer's node name -> float32 (channels,).
        internal: tensors that only the cpu form quantizes -> scale.
        biases: layer's node name -> bias that replaces the model's (bias correction).
    """

    activations: Mapping[str, float]
    weights: Mapping[str, np.ndarray]
    internal: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, np.ndarray] = field(default_factory=dict)
