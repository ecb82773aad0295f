"""Private noise inside the edge half: the codes go through one more addition and quantizer before they are sent.

``... -> QuantizeLinear -> DequantizeLinear -> + noise * sigma -> Clip -> QuantizeLinear -> wire``

The second input ``noise`` is standard normal, drawn by the device (:mod:`toolkit.wire.private_noise`) and
never sent. The signal is what the engine would send without it, so whatever an engine makes of the network, its
noise-free codes (``noise`` of zeros) are the exact means that the certificate needs
(:mod:`toolkit.privacy.certificate`).

The first QuantizeLinear stays where it was, so TensorRT fuses it into the layer before as it does without noise;
what is added is elementwise, between two INT8 tensors, and TensorRT-RTX makes it part of the last kernel. It is
written in FP32 in every form, whatever
the form's own type is, so that no Cast is needed (codes are INT8 on both sides) and all forms give the same codes
for the same signal and noise. A weakly typed TensorRT may still run it in FP16: whole codes survive that
unchanged, and noisy ones move by at most an eighth of a step before they are rounded.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolkit.errors import ModelError
from toolkit.export.wire_ends import BATCH, WIRE
from toolkit.wire import NOISE, WireFormat

SIGNAL = "wire.signal"


def attach_private_noise(model: onnx.ModelProto, fmt: WireFormat, sigma_steps: float) -> onnx.ModelProto:
    """The edge half with a second input ``noise``, float32 ``(N, C, h, w)``, added before the last quantizer.

    Args:
        model: any form of an edge half: one input, one output ``wire`` of INT8 codes; not changed.
        fmt: of its wire.
        sigma_steps: standard deviation of what is added, in steps of the wire.

    Raises:
        ModelError: a noise that is not positive, a model with noise, or one that does not end in the wire's codes.
    """
    if not (math.isfinite(sigma_steps) and sigma_steps > 0):
        raise ModelError(f"private noise has a positive standard deviation in wire steps, not {sigma_steps}")
    names = [value.name for value in model.graph.input]
    if NOISE in names:
        raise ModelError("the model has private noise already; give the form without it")
    _check_wire(model, fmt)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for node in graph.node:
        node.output[:] = [SIGNAL if name == WIRE else name for name in node.output]
    _append(graph, fmt, sigma_steps)
    graph.input.append(helper.make_tensor_value_info(NOISE, TensorProto.FLOAT, [_batch(model), *fmt.shape]))
    return result


def _append(graph: onnx.GraphProto, fmt: WireFormat, sigma_steps: float) -> None:
    low, high = fmt.clip
    sigma = float(np.float32(sigma_steps) * np.float32(fmt.step))
    for name, value in (("step", fmt.step), ("sigma", sigma), ("low", low), ("high", high)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{NOISE}.{name}"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{NOISE}.zero_point"))
    pair = [f"{NOISE}.step", f"{NOISE}.zero_point"]
    tail = (
        ("DequantizeLinear", [SIGNAL, *pair], f"{NOISE}.signal"),
        ("Mul", [NOISE, f"{NOISE}.sigma"], f"{NOISE}.scaled"),
        ("Add", [f"{NOISE}.signal", f"{NOISE}.scaled"], f"{NOISE}.sum"),
        ("Clip", [f"{NOISE}.sum", f"{NOISE}.low", f"{NOISE}.high"], f"{NOISE}.clipped"),
        ("QuantizeLinear", [f"{NOISE}.clipped", *pair], WIRE),
    )
    for operator, inputs, output in tail:
        graph.node.append(helper.make_node(operator, inputs, [output], name=f"{NOISE}/{operator}"))


def _check_wire(model: onnx.ModelProto, fmt: WireFormat) -> None:
    outputs = [value.name for value in model.graph.output]
    if outputs != [WIRE] or model.graph.output[0].type.tensor_type.elem_type != TensorProto.INT8:
        raise ModelError(
            f"private noise is for an edge half with the INT8 output {WIRE}, not {', '.join(outputs)}"
        )
    sides = [side.dim_value for side in model.graph.output[0].type.tensor_type.shape.dim][1:]
    if any(side and side != wanted for side, wanted in zip(sides, fmt.shape, strict=True)):
        raise ModelError(f"the model sends codes {tuple(sides)}, the wire carries {fmt.shape}")


def _batch(model: onnx.ModelProto) -> str | int:
    """The batch as the picture has it: the two inputs go together."""
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    return first.dim_value if first.HasField("dim_value") else first.dim_param or BATCH
