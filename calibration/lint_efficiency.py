"""What makes a Q/DQ network slow although it is accepted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from calibration.graph import Graph
from calibration.lint import Finding, coverage, is_weight_pair, reads_int8
from calibration.table import TABLE

PASSES = frozenset({"Relu", "Clip", "BatchNormalization"})


def efficiency_findings(graph: Graph) -> Iterator[Finding]:
    """All efficiency rules over one indexed network."""
    yield from _dangling(graph)
    yield from _between(graph)
    yield from _shared(graph)
    yield from _additions(graph)
    yield from _layers(graph)
    share = coverage(graph.model).share
    if share < 0.9 and any(node.op_type in TABLE.weighted for node in graph.nodes.values()):
        yield Finding("coverage", "warning", "model", f"{share:.0%} of the multiply-accumulates are INT8")


def _dangling(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        uses = [graph.nodes[name] for name, _ in graph.consumers.get(node.output[0], ())]
        if node.op_type == "QuantizeLinear" and node.output[0] not in graph.outputs:
            if not uses:
                yield Finding("dangling-pair", "warning", node.name, "its codes are read by nobody; remove it")
            elif not any(_leads_to(graph, use, "DequantizeLinear") for use in uses):
                yield Finding("dangling-pair", "warning", node.name, "has no DequantizeLinear behind it")
        if node.op_type != "DequantizeLinear":
            continue
        if not uses and node.output[0] not in graph.outputs:
            yield Finding("dangling-pair", "warning", node.name, "its value is read by nobody; remove it")
        for use in uses:
            if use.op_type == "QuantizeLinear":
                same = _same(_scale(graph, use), _scale(graph, node))
                what = "repeats the pair before it" if same else "changes the scale in between"
                yield Finding("requantize", "warning", use.name, f"{what}; one pair is enough")


def _leads_to(graph: Graph, node: onnx.NodeProto, operator: str) -> bool:
    return any(graph.nodes[name].op_type == operator for name in graph.descendants([node.name]))


def _between(graph: Graph) -> Iterator[Finding]:
    """A pair between a layer and the BatchNorm, activation or addition that would fuse behind it."""
    for node in graph.nodes.values():
        if node.op_type != "DequantizeLinear" or is_weight_pair(graph, node):
            continue
        source = _behind(graph, node)
        made_by_layer = source is not None and source.op_type in TABLE.weighted
        readers = [graph.nodes[name] for name, _ in graph.consumers.get(node.output[0], ())]
        for reader in readers:
            if made_by_layer and reader.op_type in PASSES:
                yield Finding(
                    "pair-before-activation",
                    "warning",
                    node.name,
                    f"keeps {reader.op_type} from fusing; move it behind",
                )


def _behind(graph: Graph, dequantize: onnx.NodeProto) -> onnx.NodeProto | None:
    quantize = graph.maker(dequantize.input[0])
    return (
        graph.maker(quantize.input[0]) if quantize is not None and quantize.op_type == "QuantizeLinear" else None
    )


def _scale(graph: Graph, node: onnx.NodeProto) -> np.ndarray | None:
    value = graph.constant(node, 1)
    return None if value is None else value.astype(np.float32).reshape(-1)


def _same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


def _shared(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        if node.op_type not in TABLE.share_scale:
            continue
        makers = [graph.maker(name) for name in node.input if name not in graph.constants]
        scales = [
            _scale(graph, item) for item in makers if item is not None and item.op_type == "DequantizeLinear"
        ]
        for name, _ in graph.consumers.get(node.output[0], ()):
            if graph.nodes[name].op_type == "QuantizeLinear" and scales:
                scales.append(_scale(graph, graph.nodes[name]))
        if any(not _same(scale, scales[0]) for scale in scales[1:]):
            yield Finding(
                "mismatched-scales",
                "warning",
                node.name,
                f"{node.op_type} has inputs and output of different scales",
            )
        if node.op_type == "Concat" and 0 < sum(_is_dequantized(graph, n) for n in node.input) < len(node.input):
            yield Finding(
                "mixed-concat", "warning", node.name, "joins INT8 and float tensors; quantize all inputs"
            )


def _is_dequantized(graph: Graph, tensor: str) -> bool:
    maker = graph.maker(tensor)
    return maker is not None and maker.op_type == "DequantizeLinear"


def _additions(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        if node.op_type not in TABLE.residual or any(name in graph.constants for name in node.input):
            continue
        quantized = [_is_dequantized(graph, name) for name in node.input]
        makers = [graph.maker(name) for name in node.input]
        int8 = [m is not None and m.op_type in TABLE.weighted and reads_int8(graph, m) for m in makers]
        if all(quantized):
            yield Finding(
                "unfused-add",
                "warning",
                node.name,
                "both branches are quantized, so it does not fuse into a convolution",
            )
        elif any(int8) and not any(quantized):
            yield Finding(
                "unfused-add", "warning", node.name, "its identity branch is float, so it reads and writes float"
            )
        elif not any(int8) and any(quantized):
            yield Finding("unfused-add", "warning", node.name, "neither branch is an INT8 convolution")


def _layers(graph: Graph) -> Iterator[Finding]:
    least, wanted = TABLE.alignment["least"], TABLE.alignment["tensor_core"]
    for node in graph.nodes.values():
        roles = TABLE.weighted.get(node.op_type)
        if roles is None:
            continue
        if not reads_int8(graph, node):
            half = [p for p in (roles.input, roles.weight) if _is_dequantized(graph, node.input[p])]
            reason = (
                "only one of input and weight is quantized" if half else "neither input nor weight is quantized"
            )
            yield Finding("float-layer", "warning", node.name, f"runs in float: {reason}")
            continue
        shape = graph.shapes.get(node.input[roles.weight])
        if node.op_type not in ("Conv", "ConvTranspose") or not shape or shape[0] is None or shape[1] is None:
            continue
        odd = [int(size) for size in shape[:2] if size is not None and size % wanted and size > 4]
        if odd:
            grade = "pads them" if all(size % least == 0 for size in odd) else "has no fast INT8 kernel for them"
            yield Finding(
                "misaligned-channels",
                "warning",
                node.name,
                f"{odd} channels are no multiple of {wanted}; TensorRT {grade}",
            )
