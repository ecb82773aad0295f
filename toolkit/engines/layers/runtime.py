"""ONNX Runtime's optimized graph as engine layers, so that the same table, lint and difference serve the CPU."""

from __future__ import annotations

from typing import Any

from toolkit.engines.inspection import optimized
from toolkit.engines.layers.graph import EngineGraph, EngineLayer, EngineTensor
from toolkit.engines.layers.origins import Origins
from toolkit.engines.settings import RunSettings
from toolkit.optional import require

_INTEGER = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger")


def graph_of_onnx(model: bytes, settings: RunSettings | None = None) -> EngineGraph:
    """Optimize a model as a session would and read what comes out.

    Raises:
        EngineBuildError: ONNX Runtime refuses the model.
    """
    onnx = require("onnx", "host")
    graph = onnx.shape_inference.infer_shapes(optimized(model, settings or RunSettings())).graph
    constants = {item.name: item for item in graph.initializer}
    types = {item.name: _described(onnx, item) for item in (*graph.input, *graph.output, *graph.value_info)}
    # A matrix that is dequantized when it runs: the kernel is a float one.
    restored = {
        node.output[0]: node.name
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    origins = Origins(onnx.load_from_string(model).graph)
    layers = tuple(
        _layer(onnx, node, constants, types, restored, origins)
        for node in graph.node
        if node.op_type != "Constant" and not (node.output and node.output[0] in restored)
    )
    inputs = tuple(item.name for item in graph.input if item.name not in constants)
    return EngineGraph(layers, inputs, tuple(item.name for item in graph.output), "onnxruntime")


def _layer(
    onnx: Any,
    node: Any,
    constants: dict[str, Any],
    types: dict[str, EngineTensor],
    restored: dict[str, str],
    origins: Origins,
) -> EngineLayer:
    weights = [constants[name] for name in node.input if name in constants and len(constants[name].dims) >= 2]
    kind = onnx.helper.tensor_dtype_to_np_dtype(weights[0].data_type).name if weights else ""
    if kind == "uint8" or node.op_type.startswith(_INTEGER):
        kind = "int8"  # ONNX Runtime shifts codes to uint8; the arithmetic is the same
    folded = [restored[name] for name in node.input if name in restored]
    if folded:
        kind = "float32"
    groups = next((item.i for item in node.attribute if item.name == "group"), 1)
    layout = "nhwc" if node.op_type.startswith("Nhwc") or node.domain == "com.microsoft.nchwc" else ""
    hidden = {*constants, *restored}
    return EngineLayer(
        name=node.name or node.output[0],
        kind=node.op_type,
        inputs=tuple(_tensor(name, types, layout) for name in node.input if name and name not in hidden),
        outputs=tuple(_tensor(name, types, layout) for name in node.output if name),
        nodes=tuple(name for name in (origins.node(node.name, node.op_type), *folded) if name),
        weights=kind,
        groups=int(groups),
    )


def _tensor(name: str, types: dict[str, EngineTensor], layout: str) -> EngineTensor:
    known = types.get(name, EngineTensor(name))
    dtype = "int8" if known.dtype == "uint8" else known.dtype
    return EngineTensor(name, known.shape, dtype, layout)


def _described(onnx: Any, value: Any) -> EngineTensor:
    kind = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else ""
    return EngineTensor(value.name, sides, str(dtype))
