"""The same codes on torch tensors, for training, attacks and exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.optional import require
from toolkit.wire.codes import WireFormat

if TYPE_CHECKING:
    import torch


def _step(feature: torch.Tensor, fmt: WireFormat) -> torch.Tensor:
    # A tensor on the feature's device: CUDA replaces a division by a CPU scalar with a multiplication
    # by its reciprocal, which gives other codes near the rounding edges.
    torch_ = require("torch", "host")
    result: torch.Tensor = torch_.full((), fmt.step, dtype=torch_.float32, device=feature.device)
    return result


def encode_tensor(feature: torch.Tensor, fmt: WireFormat) -> torch.Tensor:
    """Features ``(N, C, h, w)`` to int8 codes, no gradient. NaN becomes an undefined code."""
    torch_ = require("torch", "host")
    codes: torch.Tensor = torch_.round(feature.detach().float() / _step(feature, fmt))
    return codes.clamp(fmt.low, fmt.high).to(torch_.int8)


def decode_tensor(codes: torch.Tensor, fmt: WireFormat) -> torch.Tensor:
    """int8 codes to float32 features."""
    return codes.float() * _step(codes, fmt)


def quantize_ste(feature: torch.Tensor, fmt: WireFormat) -> torch.Tensor:
    """``decode(encode(feature))`` in float32 with a straight-through gradient.

    The gradient is 1 inside the clip range (its edges included) and 0 outside, as in Bengio et al.,
    "Estimating or propagating gradients through stochastic neurons" (2013), with saturation.

    Args:
        feature: ``(N, C, h, w)``, any float type; computed in float32, outside autocast's reach.
        fmt: the wire format.
    """
    torch_ = require("torch", "host")
    low, high = fmt.clip
    with torch_.autocast(device_type=feature.device.type, enabled=False):
        clipped = feature.float().clamp(low, high)
        step = _step(feature, fmt)
        quantized = torch_.round(clipped.detach() / step) * step
        # Exact: the bracket is zero in value, so the sum is the quantized feature to the last bit.
        result: torch.Tensor = quantized + (clipped - clipped.detach())
    return result
