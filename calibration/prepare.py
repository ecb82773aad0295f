"""Bring an FP32 edge half into the shape that placement works on, or say by name why it cannot be.

What changes: nodes get unique names, Constant nodes become initializers, Identity disappears and
BatchNormalization directly behind a convolution is folded into it. Nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from calibration.errors import (
    DynamicShapeError,
    ModelFileError,
    SettingsError,
    UnsupportedOperatorError,
    WireEndError,
)
from calibration.fold import fold_batch_norms
from calibration.graph import Graph, dimensions, opset_of
from calibration.table import TABLE

MAXIMUM_BYTES = 2**31 - 1
OPSETS = range(13, 18)


@dataclass(frozen=True)
class Wire:
    """The end of the edge half.

    Attributes:
        output: name of the INT8 output.
        step: size of one code, never changed by calibration.
        feature: the tensor in front of the Clip (or of QuantizeLinear when there is none).
        nodes: names of the Clip (if any) and of the QuantizeLinear.
        low, high: the smallest and largest code that can leave.
    """

    output: str
    step: float
    feature: str
    nodes: tuple[str, ...]
    low: int
    high: int


@dataclass(frozen=True)
class Prepared:
    """A model ready for placement.

    Attributes:
        graph: index of the prepared FP32 model.
        picture: name of the input.
        shape: the input's dimensions behind the batch.
        wire: the end of the graph.
        folded: how many BatchNormalization nodes were folded.
    """

    graph: Graph
    picture: str
    shape: tuple[int, ...]
    wire: Wire
    folded: int

    @property
    def model(self) -> onnx.ModelProto:
        """The prepared FP32 model."""
        return self.graph.model


def load_model(source: onnx.ModelProto | bytes | str | Path) -> onnx.ModelProto:
    """A private copy of the model.

    Raises:
        ModelFileError: no such file, not ONNX, truncated, or larger than 2 GB.
    """
    model = onnx.ModelProto()
    if isinstance(source, onnx.ModelProto):
        model.CopyFrom(source)
    else:
        name = "the ONNX model" if isinstance(source, bytes) else str(source)
        data = source if isinstance(source, bytes) else _read(Path(source))
        if not data:
            raise ModelFileError(f"{name} is empty; export the edge half again")
        try:
            model.ParseFromString(data)
        except Exception as error:  # protobuf's class depends on its implementation
            raise ModelFileError(f"{name} is truncated or not ONNX; export the edge half again") from error
    if any(item.data_location == onnx.TensorProto.EXTERNAL for item in model.graph.initializer):
        raise ModelFileError("weights lie in another file; save the model as one file (under 2 GB)")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(f"the ONNX checker refuses the model ({reason}); it may be truncated") from error
    return model


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; run the export stage first")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise ModelFileError(f"{path} is larger than 2 GB, which one ONNX file cannot hold; choose an earlier cut")
    return path.read_bytes()


def prepare(source: onnx.ModelProto | bytes | str | Path) -> Prepared:
    """Load, check and normalize an edge half.

    Args:
        source: FP32 model at opset 13 to 17 with one input (N, C, H, W) that ends in
            (Clip ->) QuantizeLinear with a constant step and INT8 zero point 0.

    Raises:
        ModelFileError: see :func:`load_model`.
        UnsupportedOperatorError: an operator or opset that cannot be quantized.
        DynamicShapeError: a dimension other than the batch is not fixed.
        WireEndError: the graph does not end in the wire.
    """
    model = load_model(source)
    _check_operators(model)
    _constants_to_initializers(model)
    _drop_identities(model)
    _name_nodes(model)
    folded = fold_batch_norms(model)
    _drop_unused(model)
    shape = _check_input(model)
    wire = _find_wire(Graph.of(model))
    del model.graph.value_info[:]
    try:
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        raise DynamicShapeError(f"shapes cannot be inferred: {str(error).strip().splitlines()[0]}") from error
    return Prepared(Graph.of(model), model.graph.input[0].name, shape, wire, folded)


def with_constants(prepared: Prepared, values: Mapping[str, np.ndarray]) -> Prepared:
    """The same network with other values of some initializers (weights that were trained further).

    Raises:
        SettingsError: no such initializer, or a value of another shape.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared.model)
    found = {item.name: item for item in model.graph.initializer}
    for name, value in values.items():
        known = prepared.graph.constants.get(name)
        if name not in found or known is None or known.shape != value.shape:
            raise SettingsError(f"{name!r} with shape {value.shape} is no weight of this network; train this one")
        found[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value.astype(known.dtype)), name))
    return replace(prepared, graph=Graph.of(model))


def _check_operators(model: onnx.ModelProto) -> None:
    version = opset_of(model)
    if version not in OPSETS:
        raise UnsupportedOperatorError(
            f"the model has opset {version}; export it with opset 17 (13 to 17 can be quantized)"
        )
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedOperatorError(
                f"{node.op_type} ({node.name}) is of domain {node.domain!r}; export without it"
            )
        reason = TABLE.refused.get(node.op_type)
        if reason:
            raise UnsupportedOperatorError(f"{node.op_type} ({node.name}): {reason}; export the half without it")
    outputs = {info.name for info in model.graph.output}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.output[0] not in outputs:
            raise UnsupportedOperatorError(
                f"{node.op_type} ({node.name}): the model is quantized already; give the FP32 half"
            )


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant":
            kept.append(node)
            continue
        [item] = node.attribute
        value = helper.get_attribute_value(item)
        array = numpy_helper.to_array(value) if item.name == "value" else _plain_constant(item.name, value)
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _plain_constant(name: str, value: object) -> np.ndarray:
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name not in kinds:
        raise UnsupportedOperatorError(f"a Constant node with attribute {name} cannot be carried over")
    return np.asarray(value, dtype=kinds[name])


def _drop_identities(model: onnx.ModelProto) -> None:
    outputs = {info.name for info in model.graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = inputs[0]
            continue
        for position, name in enumerate(inputs):
            node.input[position] = name
        kept.append(node)
    if renamed:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del model.graph.node[:]
        model.graph.node.extend(copies)


def _name_nodes(model: onnx.ModelProto) -> None:
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in seen:
            name = f"{name}_{index}"
        node.name = name
        seen.add(name)


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    inputs = [info for info in model.graph.input if info.name in used - {item.name for item in kept}]
    for field, items in ((model.graph.initializer, kept), (model.graph.input, inputs)):
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        del field[:]
        field.extend(copies)
    domains = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", max(domains)))


def _check_input(model: onnx.ModelProto) -> tuple[int, ...]:
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise UnsupportedOperatorError(
            f"an edge half has one input and one output, this model has {len(model.graph.input)} and "
            f"{len(model.graph.output)}"
        )
    info = model.graph.input[0]
    if info.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise UnsupportedOperatorError(f"input {info.name} is not float32; export with a float32 picture")
    shape = dimensions(info)[1:]
    for axis, size in enumerate(shape, start=1):
        if size is None:
            raise DynamicShapeError(
                f"axis {axis} of input {info.name} is dynamic; export with a fixed picture size"
            )
    return tuple(int(size) for size in shape if size is not None)


def _find_wire(graph: Graph) -> Wire:
    [output] = graph.outputs
    last = graph.maker(output)
    advice = "export the edge half with its wire (Clip -> QuantizeLinear, constant step, INT8 zero point 0)"
    if last is None or last.op_type != "QuantizeLinear":
        raise WireEndError(f"output {output} does not come from QuantizeLinear; {advice}")
    step, zero = graph.constant(last, 1), graph.constant(last, 2)
    if step is None or step.size != 1 or not np.isfinite(step).all() or float(step.reshape(())) <= 0:
        raise WireEndError(f"the wire's step is not one positive constant; {advice}")
    if zero is None or zero.dtype != np.int8 or zero.any():
        raise WireEndError(f"the wire's zero point is not INT8 0; {advice}")
    size = float(step.reshape(()))
    clip = graph.maker(last.input[0])
    if clip is None or clip.op_type != "Clip":
        return Wire(output, size, last.input[0], (last.name,), -128, 127)
    low, high = graph.constant(clip, 1), graph.constant(clip, 2)
    codes = [
        default if bound is None else int(np.clip(np.rint(float(bound.reshape(())) / size), -128, 127))
        for bound, default in ((low, -128), (high, 127))
    ]
    return Wire(output, size, clip.input[0], (clip.name, last.name), codes[0], codes[1])
