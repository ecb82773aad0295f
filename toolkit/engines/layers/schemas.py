"""From what the libraries print to :class:`EngineGraph`.

TensorRT up to 10 lists ``Bindings`` by name and joins ``Format/Datatype`` in one text; TensorRT 11 lists
``I/O Tensors`` as objects and splits ``Format`` from ``Datatype`` (NVIDIA TensorRT documentation, "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x"). Control characters stand unescaped between ONNX names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from toolkit.engines.layers.graph import EngineGraph, EngineLayer, EngineTensor, LayerInfoError, Source

_DTYPES = (
    (re.compile(r"\bbf16\b|bfloat16", re.I), "bfloat16"),
    (re.compile(r"\bfp8|e4m3|float8", re.I), "float8"),
    (re.compile(r"\bfp16\b|\bhalf\b|float16", re.I), "float16"),
    (re.compile(r"\bfp32\b|\bfloat\b|float32", re.I), "float32"),
    (re.compile(r"\buint8\b", re.I), "uint8"),
    (re.compile(r"\bint8\b", re.I), "int8"),
    (re.compile(r"\bint32\b", re.I), "int32"),
    (re.compile(r"\bint64\b", re.I), "int64"),
    (re.compile(r"\bbool\b", re.I), "bool"),
)
_WIDTHS = {"thirty-two": 32, "sixteen": 16, "eight": 8, "four": 4, "two": 2}
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def parse_information(text: str) -> EngineGraph:
    """Read an engine inspector's JSON, or trtexec's file of layers.

    Raises:
        LayerInfoError: not JSON, or no ``Layers`` in it.
    """
    try:
        body = json.loads(text, strict=False)  # names are joined with raw control characters
    except ValueError as error:
        raise LayerInfoError(f"the layer information is not JSON ({error}); export it again") from error
    layers = body.get("Layers") if isinstance(body, Mapping) else None
    if not isinstance(layers, list) or not layers:
        raise LayerInfoError("the layer information has no Layers; build with detailed profiling verbosity")
    return graph_of(body)


def graph_of(body: Mapping[str, Any]) -> EngineGraph:
    """The graph of parsed layer information."""
    source: Source = "tensorrt11" if "I/O Tensors" in body else "tensorrt10"
    if not all(isinstance(layer, Mapping) for layer in body["Layers"]):
        names = [layer if isinstance(layer, str) else str(layer.get("Name", "")) for layer in body["Layers"]]
        layers = tuple(EngineLayer(name, "", nodes=_from_name(name)) for name in names)
        return EngineGraph(layers, *_ends(body, layers), source, detailed=False, raw=body)
    layers = tuple(_layer(values) for values in body["Layers"])
    return EngineGraph(layers, *_ends(body, layers), source, raw=body)


def _layer(values: Mapping[str, Any]) -> EngineLayer:
    name = str(values.get("Name", ""))
    constants = [_tensor(one) for one in values.get("Constants") or ()]
    weights = values.get("Weights")
    kind = dtype_in(str(weights.get("Type", ""))) if isinstance(weights, Mapping) else ""
    matrices = [one.dtype for one in constants if len(one.shape) >= 2 and min(one.shape[:2]) > 1]
    nodes = tuple(dict.fromkeys(_ONNX.findall(str(values.get("Metadata", "")))))
    return EngineLayer(
        name=name,
        kind=str(values.get("LayerType", "")),
        inputs=tuple(_tensor(one) for one in values.get("Inputs") or ()),
        outputs=tuple(_tensor(one) for one in values.get("Outputs") or ()),
        nodes=nodes or _from_name(name),
        tactic=str(values.get("TacticName") or values.get("TacticValue") or ""),
        weights=kind or (matrices[0] if matrices else ""),
        groups=int(values.get("Groups", 1) or 1),
        origin=str(values.get("Origin", "")),
    )


def _tensor(values: Any) -> EngineTensor:
    if not isinstance(values, Mapping):
        return EngineTensor(str(values))
    shape = values.get("Dimensions")
    joined = str(values.get("Format/Datatype", ""))
    dtype = str(values.get("Datatype") or values.get("DataType") or joined)
    sides = tuple(int(side) for side in shape) if isinstance(shape, list) else ()
    return EngineTensor(
        str(values.get("Name", "")), sides, dtype_in(dtype), layout_in(str(values.get("Format") or joined))
    )


def dtype_in(text: str) -> str:
    """numpy's name of the type in a text such as ``Row major linear FP32`` or ``Half``; "" without one."""
    return next((name for pattern, name in _DTYPES if pattern.search(text)), "")


def layout_in(text: str) -> str:
    """Short name of a layout: ``linear``, ``nhwc``, ``chw32``; "" when it is not named."""
    lowered = text.lower()
    for word, width in _WIDTHS.items():
        if f"{word} wide channel" in lowered:
            return f"chw{width}"
    if "channel major" in lowered:
        return "nhwc"
    return "linear" if "linear" in lowered or "row major" in lowered else ""


def _from_name(name: str) -> tuple[str, ...]:
    """TensorRT 8 joins the nodes of a fused layer in its name: ``w + Quantize_7 + Conv_9 + PWN(Relu_3)``."""
    parts = [re.sub(r"^(?:PWN|fused)\((.*)\)$", r"\1", part.strip()) for part in name.split(" + ")]
    left_out = ("Reformatting", "{ForeignNode")
    plain = [part for part in parts if part and not part.endswith(".weight") and not part.startswith(left_out)]
    return tuple(dict.fromkeys(piece.strip() for part in plain for piece in part.split(",") if piece.strip()))


def _ends(body: Mapping[str, Any], layers: tuple[EngineLayer, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    described = body.get("I/O Tensors") or ()
    if described:
        sides: dict[str, list[str]] = {"input": [], "output": []}
        for one in described:
            sides.setdefault(str(one.get("IOMode", "")).lower(), []).append(str(one.get("Name", "")))
        return tuple(sides["input"]), tuple(sides["output"])
    names = [str(name) for name in body.get("Bindings") or ()]
    read = _names(tensor for layer in layers for tensor in layer.inputs)
    written = _names(tensor for layer in layers for tensor in layer.outputs)
    return (
        tuple(name for name in names if name in read and name not in written),
        tuple(name for name in names if name in written),
    )


def _names(tensors: Iterable[EngineTensor]) -> set[str]:
    return {tensor.name for tensor in tensors}
