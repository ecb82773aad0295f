"""Numbers as people read them: few digits, thin spaces, units, spread."""

from __future__ import annotations

import math

from toolkit.metrics import Metric

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def text(value: float, unit: str = "1") -> str:
    """A value with its unit, e.g. ``0.915``, ``1.30 ms``, ``2,048 B``, ``8.12 M``."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{MINUS if value < 0 else ''}\N{INFINITY}"
    if unit == "bytes":
        return _bytes(value)
    if unit == "count":
        return _count(value)
    number = _fixed(value)
    return number if unit in ("1", "") else f"{number}{THIN}{unit}"


def spread(metric: Metric) -> str:
    """The 95 % interval as ``0.89 to 0.94``; empty when there is none."""
    if metric.interval is None:
        return ""
    return between(*metric.interval, metric.unit)


def between(low: float, high: float, unit: str = "1") -> str:
    """Two numbers, their unit once where it is the same: ``0.504 to 0.541 ms``."""
    first, second = text(low, unit), text(high, unit)
    suffix = second[second.rindex(THIN) :] if THIN in second else ""
    return f"{first.removesuffix(suffix)} to {second}"


def signed(value: float, unit: str = "1") -> str:
    """A difference, always with its sign."""
    return f"+{text(value, unit)}" if value > 0 else text(value, unit)


def times(ratio: float) -> str:
    """A ratio, e.g. ``×0.44``."""
    return f"×{_fixed(ratio)}"


def _fixed(value: float) -> str:
    size = abs(value)
    if size >= 10_000:
        out = f"{value:,.0f}"
    elif size >= 100:
        out = f"{value:.0f}"
    elif size >= 10:
        out = f"{value:.1f}"
    elif size >= 1:
        out = f"{value:.2f}"
    elif size >= 0.001 or size == 0:
        out = f"{value:.3f}"
    else:
        out = f"{value:.1e}"
    return out.replace("-", MINUS, 1) if value < 0 else out


def _bytes(value: float) -> str:
    if abs(value) < 10_000:
        number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
        return f"{number}{THIN}B".replace("-", MINUS)
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{_fixed(value / size)}{THIN}{prefix}B"
    raise AssertionError("unreachable")


def _count(value: float) -> str:
    if abs(value) < 10_000:
        return f"{value:,.0f}".replace("-", MINUS)
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{_fixed(value / size)}{THIN}{prefix}"
    raise AssertionError("unreachable")
