"""Cut somebody's ONNX file in two at a tensor that everything passes through."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, shape_inference

from toolkit.errors import ModelError

_SHOWN = 8


@dataclass(frozen=True)
class Cut:
    """A place where a model can be cut.

    Attributes:
        tensor: name of the tensor.
        node: name of the node that makes it (may be empty).
        operator: the node's type.
        shape: ``(C, h, w)`` where shape inference knows it.
    """

    tensor: str
    node: str
    operator: str
    shape: tuple[int, ...]


def find_cuts(model: onnx.ModelProto) -> tuple[Cut, ...]:
    """All tensors ``(N, C, h, w)`` that separate the input from every output, in graph order.

    A tensor is one when no output can be computed from the graph's inputs without it, so that it alone
    feeds the cloud, main path and skip.
    """
    graph = shape_inference.infer_shapes(model).graph
    known = {value.name: value for value in (*graph.value_info, *graph.output)}
    cuts = []
    for node in graph.node:
        for tensor in node.output:
            shape = _shape(known.get(tensor))
            if (
                len(shape) == 4
                and tensor not in {value.name for value in graph.output}
                and _separates(graph, tensor)
            ):
                cuts.append(Cut(tensor, node.name, node.op_type, shape[1:]))
    return tuple(cuts)


def cut_model(model: onnx.ModelProto, cut: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Edge and cloud part, float, with the cut tensor as output and input.

    Args:
        model: one picture input; its first output is the embedding.
        cut: name of a tensor, or of a node (its first output is meant).

    Raises:
        ModelError: no such tensor or node, or it does not separate input and output; both messages list
            places where the model can be cut.
    """
    graph = model.graph
    tensor = _resolve(model, cut)
    if not _separates(graph, tensor):
        raise ModelError(f"not everything passes through {cut}, a branch goes around it; {_offer(model, cut)}")
    inferred = shape_inference.infer_shapes(model).graph
    known = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    shape = _shape(known.get(tensor))
    if len(shape) != 4:
        raise ModelError(f"{cut} is not a feature map (N, C, h, w); {_offer(model, cut)}")
    middle = helper.make_tensor_value_info(
        tensor, TensorProto.FLOAT, ["batch", *(side or None for side in shape[1:])]
    )
    edge = _part(model, graph.input, [middle], _needed(graph, [tensor], stop=set()))
    output = graph.output[0]
    cloud = _part(model, [middle], [output], _needed(graph, [output.name], stop={tensor}))
    return edge, cloud


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs without those that older exporters listed for the weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _resolve(model: onnx.ModelProto, cut: str) -> str:
    tensors = {name for node in model.graph.node for name in node.output}
    if cut in tensors:
        return cut
    for node in model.graph.node:
        if node.name == cut:
            return node.output[0]
    raise ModelError(f"the model has no tensor or node {cut!r}; {_offer(model, cut)}")


def _offer(model: onnx.ModelProto, wanted: str) -> str:
    names = [cut.tensor for cut in find_cuts(model)]
    if not names:
        return "it has no tensor (N, C, h, w) that everything passes through, so it cannot be cut"
    near = difflib.get_close_matches(wanted, names, n=_SHOWN, cutoff=0.4)
    evenly = names[:: max(len(names) // _SHOWN, 1)][:_SHOWN]
    return f"cut at one of: {', '.join(near or evenly)} ({len(names)} places in all)"


def _separates(graph: onnx.GraphProto, tensor: str) -> bool:
    reached = {value.name for value in real_inputs(graph)}
    wanted = {graph.output[0].name}
    if tensor in reached:
        return False
    for node in graph.node:
        if any(name in reached for name in node.input):
            reached.update(name for name in node.output if name != tensor)
    return not wanted & reached


def _needed(graph: onnx.GraphProto, outputs: Iterable[str], stop: set[str]) -> list[onnx.NodeProto]:
    wanted = set(outputs)
    nodes = []
    for node in reversed(graph.node):
        if any(name in wanted and name not in stop for name in node.output):
            nodes.append(node)
            wanted.update(name for name in node.input if name)
    return nodes[::-1]


def _part(
    model: onnx.ModelProto,
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[onnx.ValueInfoProto],
    nodes: list[onnx.NodeProto],
) -> onnx.ModelProto:
    read = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in read]
    names = {tensor.name for tensor in weights}
    graph = helper.make_graph(
        nodes, "part", [value for value in inputs if value.name not in names], list(outputs), weights
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _shape(value: onnx.ValueInfoProto | None) -> tuple[int, ...]:
    """Static sides, 0 for a dynamic one; empty when unknown or not float32."""
    if value is None or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        return ()
    return tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
