"""Fixed-step codes: the one tensor that leaves the edge device.

``code = clip(round(feature / step), low, high)`` with round half to even, computed in float32 with a
division (never a multiplication by 1/step, which differs in the last bit). torch
(:mod:`toolkit.wire.tensors`) and ONNX Runtime's Clip -> QuantizeLinear give the same codes bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import WireError

MIN_BITS, MAX_BITS = 2, 8
MAX_SIDE = 0xFFFF
MAX_ELEMENTS = 1 << 26
_SAMPLE = 1 << 18
_COARSE, _FINE = 64, 33


def bounds(bits: int, signed: bool) -> tuple[int, int]:
    """Lowest and highest code.

    Signed codes use the whole two's complement range; non-negative ones 0..2^bits-1, at 8 bits 0..127,
    because the codes are int8 with zero point 0.

    Raises:
        WireError: ``bits`` is not 2 to 8.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise WireError(f"the wire has {MIN_BITS} to {MAX_BITS} bits, not {bits}")
    if signed:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, min((1 << bits) - 1, 127)


@dataclass(frozen=True)
class WireFormat:
    """What both sides agree on before the first frame.

    Attributes:
        channels, height, width: of the feature at the cut.
        bits: per code, 2 to 8.
        step: ``feature ~ code * step``; kept as the float32 nearest to what was given.
        signed: the cut can be negative (no ReLU before it).
    """

    channels: int
    height: int
    width: int
    bits: int
    step: float
    signed: bool

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width"):
            side = getattr(self, name)
            if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
                raise WireError(f"{name} of the wire must be 1 to {MAX_SIDE}, not {side!r}")
        if self.elements > MAX_ELEMENTS:
            raise WireError(f"a wire of {self.elements} codes is larger than {MAX_ELEMENTS}")
        bounds(self.bits, self.signed)
        step = np.float32(self.step)
        if not (np.isfinite(step) and step >= np.finfo(np.float32).tiny):
            raise WireError(f"the wire's step must be a positive normal float32, not {self.step!r}")
        object.__setattr__(self, "step", float(step))

    @property
    def low(self) -> int:
        """Lowest code."""
        return bounds(self.bits, self.signed)[0]

    @property
    def high(self) -> int:
        """Highest code."""
        return bounds(self.bits, self.signed)[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of one picture's codes."""
        return self.channels, self.height, self.width

    @property
    def elements(self) -> int:
        """Codes per picture."""
        return self.channels * self.height * self.width

    @property
    def clip(self) -> tuple[float, float]:
        """The float32 feature values that Clip keeps: ``low * step`` and ``high * step``."""
        step = np.float32(self.step)
        return float(np.float32(self.low) * step), float(np.float32(self.high) * step)

    def to_json(self) -> str:
        """The format as JSON text."""
        return json.dumps({"schema": 1, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> WireFormat:
        """Read what :meth:`to_json` wrote.

        Raises:
            WireError: not JSON, another schema, a field missing, unknown or out of range.
        """
        try:
            body: dict[str, Any] = json.loads(text)
            if body.pop("schema", None) != 1:
                raise WireError("the wire format has another schema than 1; export the model again")
            names = {field.name for field in fields(cls)}
            if set(body) != names:
                raise WireError(f"wire format fields must be {sorted(names)}, found {sorted(body)}")
            return cls(**body)
        except (ValueError, TypeError, AttributeError) as error:
            raise WireError(f"not a wire format: {error}") from error


def encode(features: NDArray[np.floating[Any]], fmt: WireFormat) -> NDArray[np.int8]:
    """Features to codes.

    Args:
        features: ``(N, C, h, w)`` or ``(C, h, w)``, any float type (computed in float32).
        fmt: the wire format.

    Returns:
        int8 codes of the same shape, within ``fmt.low .. fmt.high``. Infinities are clipped.

    Raises:
        WireError: another shape, not a float array, or a NaN.
    """
    if features.dtype.kind != "f":
        raise WireError(f"features must be floats, not {features.dtype}")
    _check_shape(features.shape, fmt)
    values = features.astype(np.float32, copy=False)
    if np.isnan(values).any():
        raise WireError("the feature holds NaN; the edge half is broken or its input was")
    # A tiny step makes the quotient overflow to inf, which is clipped like any large value.
    with np.errstate(over="ignore"):
        codes = np.rint(values / np.float32(fmt.step))
    return np.clip(codes, fmt.low, fmt.high).astype(np.int8)


def decode(codes: NDArray[np.int8], fmt: WireFormat) -> NDArray[np.float32]:
    """Codes to features: ``code * step`` in float32, same shape.

    Raises:
        WireError: not int8, another shape, or a code outside the format's range.
    """
    check_codes(codes, fmt)
    return codes.astype(np.float32) * np.float32(fmt.step)


def check_codes(codes: NDArray[np.int8], fmt: WireFormat) -> None:
    """Refuse codes that the format cannot carry.

    Raises:
        WireError: not int8, another shape, or a code outside ``fmt.low .. fmt.high``.
    """
    if codes.dtype != np.int8:
        raise WireError(f"codes must be int8, not {codes.dtype}")
    _check_shape(codes.shape, fmt)
    if codes.size and (int(codes.min()) < fmt.low or int(codes.max()) > fmt.high):
        raise WireError(
            f"codes {int(codes.min())}..{int(codes.max())} do not fit {fmt.bits} bits "
            f"({fmt.low}..{fmt.high}); the edge half was exported with another wire"
        )


def _check_shape(shape: tuple[int, ...], fmt: WireFormat) -> None:
    if len(shape) not in (3, 4) or tuple(shape[-3:]) != fmt.shape:
        raise WireError(f"expected (N, {', '.join(map(str, fmt.shape))}), got {tuple(shape)}")


def choose_step(features: NDArray[np.floating[Any]], bits: int, signed: bool) -> float:
    """The step with the least mean squared error over the given features.

    A uniform quantizer with 2^bits levels trades rounding error (grows with the step) against clipping
    error (grows as the step shrinks); the minimum is found by search, as in Max, "Quantizing for minimum
    distortion" (1960), on the empirical distribution instead of a Gaussian: 64 log-spaced steps from the
    one that clips nothing down to 1/64 of it, then 33 around the best. More than 2^18 non-zero values are
    thinned evenly; the extremes always stay in. The result depends on the values alone.

    Args:
        features: of training pictures, any shape, float. Never test pictures.
        bits: 2 to 8.
        signed: whether negative values are expected.

    Raises:
        WireError: empty, NaN or infinite values, all zero, or negative values on a non-negative wire.
    """
    low, high = bounds(bits, signed)
    values = np.asarray(features, dtype=np.float32).ravel()
    if not values.size:
        raise WireError("no features to choose the wire's step from; give training pictures")
    if not np.isfinite(values).all():
        raise WireError("the features hold NaN or infinity; no step can be chosen from them")
    if not signed and float(values.min()) < 0:
        raise WireError("the cut has negative features: choose a signed wire, or cut after the activation")
    values = values[values != 0]
    if not values.size:
        raise WireError("all features are zero: the cut is dead, no step can be chosen")
    values = np.sort(values)
    if values.size > _SAMPLE:
        values = values[np.linspace(0, values.size - 1, _SAMPLE).round().astype(np.int64)]
    exact = values.astype(np.float64)
    largest = max(float(exact[-1]) / high, float(exact[0]) / low if low else 0.0)
    coarse = np.geomspace(largest / 64, largest, _COARSE)
    best = int(np.argmin([_distortion(exact, step, low, high) for step in coarse]))
    around = np.geomspace(coarse[max(best - 1, 0)], coarse[min(best + 1, _COARSE - 1)], _FINE)
    errors = [_distortion(exact, step, low, high) for step in around]
    return float(np.float32(around[int(np.argmin(errors))]))


def _distortion(values: NDArray[np.float64], step: float, low: int, high: int) -> float:
    codes = np.clip(np.rint(values / step), low, high)
    return float(np.mean((values - codes * step) ** 2))


def entropy_bits(codes: NDArray[np.int8], model: Literal["tensor", "channel"] = "tensor") -> float:
    """What an ideal order-0 entropy coder would send per picture, in bits.

    Args:
        codes: ``(N, C, h, w)`` int8.
        model: one histogram for all codes, or one for each channel (both known to the receiver, free of
            charge).

    Raises:
        WireError: not int8, not four dimensions, or empty.
    """
    if codes.dtype != np.int8 or codes.ndim != 4 or not codes.size:
        raise WireError(f"expected int8 codes (N, C, h, w), got {codes.dtype} {codes.shape}")
    groups = [codes] if model == "tensor" else [codes[:, channel] for channel in range(codes.shape[1])]
    return sum(_entropy(group) * group.size for group in groups) / len(codes)


def _entropy(codes: NDArray[np.int8]) -> float:
    counts = np.bincount(codes.ravel().view(np.uint8))
    shares = counts[counts > 0] / codes.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0
