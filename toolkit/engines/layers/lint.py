"""What in an engine costs time or precision that it need not.

Rules and thresholds: INT8 kernels of tensor cores want channels that are multiples of 32, FP16 of 8 (NVIDIA's
reply in TensorRT issue 1310; TREx's linter used 16 and 8); reformat layers and unfused Q/DQ pairs are what makes
INT8 slower than FP16 (TensorRT issues 993, 3197, 3762, 4039, 4273).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from toolkit.engines.layers.graph import EngineGraph, EngineLayer

ALIGNMENT = {"int8": 32, "float16": 8}
REFORMAT_SHARE = 0.05
HOT_SHARE = 0.3
_TENSOR_CORES = re.compile(
    r"tensor\d+x\d+|tensorop|[hi]mma|gmma|wgmma|[hsi]\d?(?:884|1688|16816|8816|16832|16864)(?:\D|$)", re.IGNORECASE
)
_NAMED = re.compile(r"^(?!__my)(?!0x)[a-z]\w*_\w+", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """One remark.

    Attributes:
        rule: ``reformat``, ``int8-fallback``, ``unfused-qdq``, ``misaligned-channels``, ``no-tensor-cores``,
            ``hot-layer``, ``not-detailed``.
        layer: its title.
        message: what is wrong and what to do.
        share: of the engine's time, where times were given.
        severity: a ``note`` costs little or is how it must be.
    """

    rule: str
    layer: str
    message: str
    share: float | None = None
    severity: Literal["warning", "note"] = "warning"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def lint_layers(graph: EngineGraph, times_ms: Mapping[str, float] | None = None) -> tuple[Finding, ...]:
    """Look at every layer.

    Args:
        graph: the engine.
        times_ms: median time by layer name (TensorRT's profiler or trtexec's ``--exportProfile``).
    """
    if not graph.detailed:
        text = "the engine was built with layer names only; build it with detailed profiling verbosity"
        return (Finding("not-detailed", "", text),)
    shares = shares_of(graph, times_ms)
    has_int8 = any(layer.heavy and layer.precision == "int8" for layer in graph.layers)
    found: list[Finding] = []
    for index, layer in enumerate(graph.layers):
        share = shares.get(layer.name)
        found += _moves(layer, graph.at_boundary(index), share)
        if layer.heavy:
            found += _fallback(layer, has_int8, share)
            found += _alignment(graph, layer, share)
            found += _tactic(layer, share)
        if share is not None and share >= HOT_SHARE:
            text = f"takes {share:.0%} of the time; look here first"
            found.append(Finding("hot-layer", layer.title, text, share, "note"))
    return tuple(found)


def shares_of(graph: EngineGraph, times_ms: Mapping[str, float] | None) -> dict[str, float]:
    """Share of the summed time by layer name; empty without times."""
    if not times_ms:
        return {}
    known = {layer.name: times_ms[layer.name] for layer in graph.layers if layer.name in times_ms}
    total = sum(known.values()) or 1.0
    return {name: value / total for name, value in known.items()}


def _moves(layer: EngineLayer, needed: bool, share: float | None) -> Iterator[Finding]:
    small = share is not None and share < REFORMAT_SHARE
    severity: Literal["warning", "note"] = "note" if needed or small else "warning"
    if layer.is_quantizer:
        where = "at an input or output of the engine" if needed else "between two layers"
        text = f"quantizes or dequantizes by itself, {where}" + (
            "" if needed else "; the pair was not fused: look at the Q/DQ placement around it"
        )
        yield Finding("unfused-qdq", layer.title, text, share, severity)
    elif layer.is_reformat:
        change = _change(layer)
        text = f"only moves data{change}" + (
            "" if needed else "; layers around it disagree about layout or precision: align channels or precision"
        )
        yield Finding("reformat", layer.title, text, share, severity)


def _change(layer: EngineLayer) -> str:
    if not (layer.inputs and layer.outputs):
        return ""
    one, other = layer.inputs[0], layer.outputs[0]
    before, after = (f"{side.dtype or '?'} {side.layout or '?'}" for side in (one, other))
    return f" ({before} to {after})" if before != after else ""


def _fallback(layer: EngineLayer, has_int8: bool, share: float | None) -> Iterator[Finding]:
    if layer.precision in ("int8", ""):
        return
    asked = any(node not in layer.computed for node in layer.nodes)
    if asked or (has_int8 and layer.groups == 1):
        why = "it was quantized" if asked else "other layers run INT8"
        text = f"runs in {layer.precision} although {why}; keep it float on purpose or look at its Q/DQ pairs"
        yield Finding("int8-fallback", layer.title, text, share)


def _alignment(graph: EngineGraph, layer: EngineLayer, share: float | None) -> Iterator[Finding]:
    wanted = ALIGNMENT.get(layer.precision)
    if wanted is None or layer.groups > 1:
        return
    first = any(tensor.name in graph.inputs for tensor in layer.inputs)
    sides = [tensor for tensor in (*layer.inputs[:1], *layer.outputs[:1]) if tensor.channels is not None]
    for tensor in sides:
        channels = tensor.channels or 0
        picture = tensor in layer.inputs and (first or channels <= 4)
        if channels % wanted and not picture:
            side = "input" if tensor in layer.inputs else "output"
            text = (
                f"{channels} {side} channels are no multiple of {wanted}, which {layer.precision} kernels are "
                "padded to; slim with an alignment"
            )
            yield Finding("misaligned-channels", layer.title, text, share)


def _tactic(layer: EngineLayer, share: float | None) -> Iterator[Finding]:
    if layer.precision not in ALIGNMENT or layer.groups > 1 or not _NAMED.match(layer.tactic):
        return
    if not _TENSOR_CORES.search(layer.tactic):
        text = f"its kernel uses no tensor cores ({layer.tactic[:60]}); align its channels or allow more tactics"
        yield Finding("no-tensor-cores", layer.title, text, share)
