"""Lint of Q/DQ networks: what TensorRT refuses, and what makes INT8 slow.

Rules of TensorRT 8.x from the ONNX-TensorRT operator table (symmetric INT8 only, zero point 0), NVIDIA's
pytorch-quantization guide (the axis attribute exists from opset 13) and TensorRT 8.6's parser (explicit zero
points, no UINT8 tensors); efficiency from the explicit-quantization chapter of the TensorRT developer guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from calibration.graph import Graph, integer, multiply_accumulates, opset_of
from calibration.table import TABLE

Severity = Literal["error", "warning"]
Rules = Literal["tensorrt8", "strongly_typed", "efficiency", "a", "b", "cpu"]


@dataclass(frozen=True)
class Finding:
    """One thing that a lint found.

    Attributes:
        rule: short stable name; severity: ``error`` when the target refuses it.
        node: name of the node, or of the model's part; message: what is wrong and what to do.
    """

    rule: str
    severity: Severity
    node: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.rule}: {self.node}: {self.message}"


@dataclass(frozen=True)
class Coverage:
    """How much of the work runs in INT8: multiply-accumulates of one picture, and their share."""

    int8_macs: int
    total_macs: int

    @property
    def share(self) -> float:
        """INT8 share in [0, 1]; 0 for a network without weighted layers."""
        return self.int8_macs / self.total_macs if self.total_macs else 0.0


def lint(model: onnx.ModelProto, rules: Rules) -> list[Finding]:
    """Findings in a Q/DQ network.

    Args:
        model: any form; node names must be unique.
        rules: ``tensorrt8`` (what 8.x refuses), ``strongly_typed`` (10/11), ``efficiency`` (what costs speed), or
            a form's key for all that matter to it: ``a``, ``b``, ``cpu``.
    """
    from calibration.lint_efficiency import efficiency_findings

    inferred = _inferred(model)
    graph = Graph.of(inferred)
    if rules == "efficiency":
        return list(efficiency_findings(graph))
    if rules == "cpu":  # pairs in front of activations and UINT8 codes are what this form is for
        return [
            item
            for item in efficiency_findings(graph)
            if item.rule in ("float-layer", "coverage", "dangling-pair")
        ]
    if rules in ("a", "b"):
        target: Rules = "tensorrt8" if rules == "a" else "strongly_typed"
        return [*lint(model, target), *efficiency_findings(graph)]
    found = [*_pairs(graph), *_weights(graph), *_biases(graph)]
    return [*found, *(_eight(inferred, graph) if rules == "tensorrt8" else _strong(inferred, graph))]


def coverage(model: onnx.ModelProto) -> Coverage:
    """INT8 coverage in multiply-accumulates: layers whose input and weight both come from DequantizeLinear."""
    graph = Graph.of(_inferred(model))
    int8 = total = 0
    for node in graph.nodes.values():
        if node.op_type in TABLE.weighted:
            macs = multiply_accumulates(graph, node)
            total += macs
            int8 += macs if reads_int8(graph, node) else 0
    return Coverage(int8, total)


def reads_int8(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a weighted node's input and weight both come from DequantizeLinear."""
    roles = TABLE.weighted[node.op_type]
    makers = [graph.maker(node.input[position]) for position in (roles.input, roles.weight)]
    return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def is_weight_pair(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a Q or DQ works on a constant."""
    name = node.input[0]
    if name in graph.constants:
        return True
    maker = graph.maker(name)
    return maker is not None and maker.op_type == "QuantizeLinear" and maker.input[0] in graph.constants


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return model


def _pairs(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = graph.constant(node, 1), graph.constant(node, 2)
        if zero is None:
            yield Finding("explicit-zero-point", "error", node.name, "has no constant zero point; write INT8 0")
        elif zero.any():
            yield Finding("symmetric", "error", node.name, f"has zero point {zero.reshape(-1)[0]}; it must be 0")
        if scale is None:
            yield Finding("constant-scale", "error", node.name, "has a scale that is not constant")
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            yield Finding("positive-scale", "error", node.name, "has a scale that is zero, negative or not finite")
        elif scale.size > 1 and not is_weight_pair(graph, node):
            yield Finding("per-tensor-activation", "error", node.name, "quantizes an activation per channel")


def _weights(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        roles = TABLE.weighted.get(node.op_type)
        maker = graph.maker(node.input[roles.weight]) if roles else None
        if roles is None or maker is None or maker.op_type != "DequantizeLinear":
            continue
        scale = graph.constant(maker, 1)
        axis = roles.axis
        if roles.axis_transposed is not None and integer(node, "transB", 0):
            axis = roles.axis_transposed
        if scale is not None and scale.size > 1 and integer(maker, "axis", 1) != axis:
            yield Finding(
                "weight-axis",
                "error",
                maker.name,
                f"has axis {integer(maker, 'axis', 1)}; {node.op_type} needs {axis}",
            )


def _biases(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        roles = TABLE.weighted.get(node.op_type)
        if roles is None or roles.bias is None or len(node.input) <= roles.bias:
            continue
        maker = graph.maker(node.input[roles.bias])
        if maker is not None and maker.op_type == "DequantizeLinear":
            yield Finding(
                "float-bias",
                "error",
                node.name,
                "has a quantized bias, which NVIDIA's parser refuses; keep it float",
            )


def _eight(model: onnx.ModelProto, graph: Graph) -> Iterator[Finding]:
    version = opset_of(model)
    if not 13 <= version <= 17:
        yield Finding("opset", "error", "model", f"opset {version}; TensorRT 8.x takes Q/DQ at 13 to 17")
    for item in model.opset_import:
        if item.domain not in ("", "ai.onnx"):
            yield Finding("domain", "error", "model", f"imports the domain {item.domain!r}; remove it")
    if model.ir_version > 8:
        yield Finding("ir-version", "error", "model", f"IR version {model.ir_version}; 8 at most for opset 17")
    for value in model.graph.input:
        if None in graph.shapes.get(value.name, ())[1:]:
            yield Finding("fixed-shape", "error", value.name, "a dimension other than the batch is dynamic")
    for info in [*model.graph.value_info, *model.graph.output]:
        if info.type.tensor_type.elem_type == TensorProto.UINT8:
            yield Finding("uint8", "error", info.name, "is UINT8, which TensorRT 8.x has only as input; use INT8")
        elif info.type.tensor_type.elem_type == TensorProto.FLOAT16:
            yield Finding(
                "fp32-tensors", "error", info.name, "is FP16; form A keeps FP32 and lets the builder choose"
            )
    yield from _eight_pairs(graph)


def _eight_pairs(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes.values():
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = graph.constant(node, 1), graph.constant(node, 2)
        if scale is not None and scale.dtype != np.float32:
            yield Finding("fp32-scale", "error", node.name, f"has a {scale.dtype} scale; 8.x takes float32")
        if zero is not None and zero.dtype != np.int8:
            yield Finding("int8", "error", node.name, f"quantizes to {zero.dtype}; 8.x takes INT8")
        if node.op_type == "DequantizeLinear" and node.input[0] in graph.constants:
            yield Finding(
                "stored-codes",
                "error",
                node.name,
                "reads stored INT8 weights; 8.0 to 8.2 need FP32 + QuantizeLinear",
            )


def _strong(model: onnx.ModelProto, graph: Graph) -> Iterator[Finding]:
    version = opset_of(model)
    for node in graph.nodes.values():
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero = graph.constant(node, 1), graph.constant(node, 2)
        if scale is not None and scale.dtype == np.float16 and version < 19:
            yield Finding("opset", "error", node.name, f"has an FP16 scale at opset {version}; that needs 19")
        if zero is not None and zero.dtype != np.int8:
            yield Finding("int8", "error", node.name, f"quantizes to {zero.dtype}; use INT8")
    for node in graph.nodes.values():
        roles = TABLE.weighted.get(node.op_type)
        weight = graph.constant(node, roles.weight) if roles else None
        if weight is not None and weight.dtype == np.float32:
            yield Finding(
                "fp32-layer",
                "warning",
                node.name,
                "computes in FP32, because strongly typed networks run as written",
            )
