"""Assemble an ONNX model node by node, deterministically."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.prepare import Prepared

PRODUCER = "patrol-edge calibration"


class Writer:
    """Collects nodes and constants for a model with the input and output of ``prepared``."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Store a constant once; returns its name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def node(self, operator: str, inputs: list[str], output: str, name: str, **attributes: int) -> str:
        """Append a node with one output; returns the output's name."""
        made = helper.make_node(operator, inputs, [output], name=name)
        made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(made)
        return output

    def copy(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        """Append a copy of a node that reads ``inputs``; constants it reads are taken along."""
        made = onnx.NodeProto.FromString(node.SerializeToString())
        del made.input[:]
        made.input.extend(inputs)
        self._nodes.append(made)
        for name in inputs:
            if name in self._prepared.graph.constants and name not in self._constants:
                self.constant(name, self._prepared.graph.constants[name])

    def pair(self, tensor: str, scale: np.ndarray, zero: np.ndarray, source: str | None = None) -> str:
        """Append QuantizeLinear and DequantizeLinear per tensor; returns the dequantized name."""
        codes = self.quantize(tensor, scale, zero, source)
        return self.dequantize(tensor, codes, scale, zero)

    def quantize(self, tensor: str, scale: np.ndarray, zero: np.ndarray, source: str | None = None) -> str:
        """Append QuantizeLinear on ``source`` (default ``tensor``); returns the codes' name."""
        names = [self.constant(f"{tensor}.scale", scale), self.constant(f"{tensor}.zero_point", zero)]
        return self.node("QuantizeLinear", [source or tensor, *names], f"{tensor}.codes", f"{tensor}.quantize")

    def dequantize(self, tensor: str, codes: str, scale: np.ndarray, zero: np.ndarray) -> str:
        """Append DequantizeLinear on ``codes``; returns the float name."""
        names = [self.constant(f"{tensor}.scale", scale), self.constant(f"{tensor}.zero_point", zero)]
        return self.node("DequantizeLinear", [codes, *names], f"{tensor}.dequantized", f"{tensor}.dequantize")

    def model(self, opset: int, name: str) -> onnx.ModelProto:
        """The finished model: float32 input, INT8 wire."""
        source = self._prepared.model.graph
        output = helper.make_tensor_value_info(self._prepared.wire.output, TensorProto.INT8, None)
        output.CopyFrom(source.output[0])
        graph = helper.make_graph(self._nodes, name, [source.input[0]], [output], list(self._constants.values()))
        return helper.make_model(
            graph,
            producer_name=PRODUCER,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=ir_version_of(opset),
        )


def ir_version_of(opset: int) -> int:
    """The ONNX IR version that was current with an opset, so that runtimes of its time read the file."""
    for least, version in ((21, 10), (19, 9), (15, 8), (13, 7)):
        if opset >= least:
            return version
    return 6
