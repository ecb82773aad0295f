"""The part of a network behind some of its edges, to measure what a disturbance there does to the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.graph import Graph, Use
from calibration.prepare import Prepared
from calibration.session import open_session


class Suffix:
    """The FP32 network from a set of replaced inputs to the wire's feature.

    Args:
        prepared: the model.
        uses: the node inputs that are replaced by one new tensor.
        threads: of ONNX Runtime.
    """

    def __init__(self, prepared: Prepared, uses: Iterable[Use], threads: int) -> None:
        graph, self._uses = prepared.graph, frozenset(uses)
        behind = graph.descendants(name for name, _ in self._uses) & graph.ancestors(prepared.wire.feature)
        self._target = prepared.wire.feature
        nodes, outside = _cut(graph, behind, self._uses)
        self.needed = tuple(outside)
        model = _model(graph, nodes, outside, self._target)
        self._session = open_session(model, threads) if nodes else None

    def run(self, replacement: np.ndarray, activations: Mapping[str, np.ndarray]) -> np.ndarray:
        """The feature when the replaced inputs read ``replacement``; ``activations`` holds :attr:`needed`."""
        if self._session is None:
            return replacement
        feeds = {name: activations[name] for name in self.needed}
        feeds["replaced"] = replacement
        return np.asarray(self._session.run(None, feeds)[0])


def _cut(graph: Graph, behind: set[str], uses: frozenset[Use]) -> tuple[list[onnx.NodeProto], list[str]]:
    nodes, made, outside = [], set(), []
    for node in graph.nodes.values():
        if node.name not in behind:
            continue
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        for position, name in enumerate(copy.input):
            if (node.name, position) in uses:
                copy.input[position] = "replaced"
            elif name and name not in made and name not in graph.constants and name not in outside:
                outside.append(name)
        made.update(copy.output)
        nodes.append(copy)
    return nodes, outside


def _model(graph: Graph, nodes: list[onnx.NodeProto], outside: list[str], target: str) -> onnx.ModelProto:
    names = {name for node in nodes for name in node.input}
    constants = [
        numpy_helper.from_array(graph.constants[name], name) for name in sorted(names) if name in graph.constants
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ["replaced", *outside]]
    output = helper.make_tensor_value_info(target, TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "suffix", inputs, [output], constants)
    return helper.make_model(made, opset_imports=graph.model.opset_import, ir_version=8)


def activations_of(
    prepared: Prepared, tensors: Iterable[str], pictures: np.ndarray, threads: int
) -> dict[str, np.ndarray]:
    """The values of ``tensors`` for a few pictures (the input's included when asked for)."""
    wanted = [name for name in dict.fromkeys(tensors) if name != prepared.picture]
    model = onnx.ModelProto()
    model.CopyFrom(prepared.model)
    kept = [
        onnx.NodeProto.FromString(n.SerializeToString())
        for n in model.graph.node
        if n.output[0] != prepared.wire.output
    ]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    found = (
        dict(zip(wanted, open_session(model, threads).run(None, {prepared.picture: pictures}), strict=True))
        if wanted
        else {}
    )
    return {**found, prepared.picture: pictures}
