"""The two ends of the wire inside the graphs: Clip -> QuantizeLinear, and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolkit.errors import ModelError
from toolkit.wire import WireFormat

WIRE = "wire"
PICTURE = "picture"
EMBEDDING = "embedding"
BATCH = "batch"
_STEP, _ZERO = "wire.step", "wire.zero_point"
_LOW, _HIGH = "wire.low", "wire.high"


def attach_edge_wire(model: onnx.ModelProto, fmt: WireFormat) -> onnx.ModelProto:
    """The edge half with its float output turned into INT8 codes named ``wire``.

    Clip bounds are ``low * step`` and ``high * step`` in float32, so that rounding after clipping gives the
    same codes as clipping after rounding, and fewer than 8 bits need nothing else.

    Raises:
        ModelError: the model has not exactly one output, or one of another shape than ``fmt``.
    """
    if len(model.graph.output) != 1:
        raise ModelError(f"an edge half has one output, this one has {len(model.graph.output)}")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _check_channels(graph.output[0], fmt)
    feature = graph.output[0].name
    low, high = fmt.clip
    for name, value in ((_LOW, low), (_HIGH, high), (_STEP, fmt.step)):
        graph.initializer.append(_scalar(name, value))
    graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int8), _ZERO))
    graph.node.append(helper.make_node("Clip", [feature, _LOW, _HIGH], ["wire.clipped"], name="wire/Clip"))
    graph.node.append(
        helper.make_node("QuantizeLinear", ["wire.clipped", _STEP, _ZERO], [WIRE], name="wire/QuantizeLinear")
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(WIRE, TensorProto.INT8, [BATCH, *fmt.shape]))
    return result


def attach_cloud_wire(model: onnx.ModelProto, fmt: WireFormat) -> onnx.ModelProto:
    """The cloud half with its float input fed by INT8 codes named ``wire``.

    Raises:
        ModelError: the model has not exactly one input, or one of another shape than ``fmt``.
    """
    if len(model.graph.input) != 1:
        raise ModelError(f"a cloud half has one input, this one has {len(model.graph.input)}")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _check_channels(graph.input[0], fmt)
    feature = graph.input[0].name
    graph.initializer.append(_scalar(_STEP, fmt.step))
    graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int8), _ZERO))
    node = helper.make_node("DequantizeLinear", [WIRE, _STEP, _ZERO], [feature], name="wire/DequantizeLinear")
    graph.node.insert(0, node)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(WIRE, TensorProto.INT8, [BATCH, *fmt.shape]))
    return result


def _scalar(name: str, value: float) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype=np.float32), name)


def _check_channels(value: onnx.ValueInfoProto, fmt: WireFormat) -> None:
    if value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ModelError(f"the tensor at the cut ({value.name}) is not float32")
    sides = value.type.tensor_type.shape.dim
    if len(sides) != 4 or any(
        side.HasField("dim_value") and side.dim_value != expected
        for side, expected in zip(list(sides)[1:], fmt.shape, strict=True)
    ):
        found = [side.dim_value or side.dim_param for side in sides]
        raise ModelError(
            f"the tensor at the cut is {found}, the wire carries (N, {', '.join(map(str, fmt.shape))})"
        )
