"""ONNX operators in PyTorch, with gradients: what an edge half is made of.

Quantization-aware fine-tuning runs the same graph that is exported, node by node, so that a Q/DQ pair stands at
the same tensor on both sides. Semantics: ONNX operator specification, opset 13 to 17.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from toolkit.errors import ModelError

Operands = list[Tensor | None]
Operator = Callable[[dict[str, Any], Operands], Tensor | list[Tensor]]
SIDES = 2  # pictures have two spatial axes


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def run_operator(node: onnx.NodeProto, attributes: dict[str, Any], operands: Operands) -> list[Tensor]:
    """The outputs of a node.

    Args:
        node: its type and name.
        attributes: see :func:`attributes_of`.
        operands: one per input; None where an optional one is left out.

    Raises:
        ModelError: the operator (or a mode of it) has no counterpart here.
    """
    operator = OPERATORS.get(node.op_type)
    if operator is None:
        raise ModelError(f"{node.op_type} ({node.name}) cannot be fine-tuned; leave out quantize.finetune")
    found = operator(attributes, operands)
    return found if isinstance(found, list) else [found]


def _given(operands: Operands, position: int) -> Tensor:
    value = operands[position]
    assert value is not None
    return value


def _optional(operands: Operands, position: int) -> Tensor | None:
    return operands[position] if position < len(operands) else None


def _padded(x: Tensor, attributes: dict[str, Any], value: float) -> tuple[Tensor, tuple[int, int]]:
    """The input and the symmetric padding that the operator itself can do; other padding is done here."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ModelError("auto_pad cannot be fine-tuned; export with explicit pads")
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _conv(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x, padding = _padded(_given(operands, 0), attributes, 0.0)
    weight = _given(operands, 1)
    ones = [1] * SIDES
    return F.conv2d(
        x,
        weight,
        _optional(operands, 2),
        attributes.get("strides", ones),
        padding,
        attributes.get("dilations", ones),
        attributes.get("group", 1),
    )


def _conv_transpose(attributes: dict[str, Any], operands: Operands) -> Tensor:
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    if (top, left) != (bottom, right) or "output_shape" in attributes:
        raise ModelError("a transposed convolution with uneven pads cannot be fine-tuned; export with even ones")
    ones = [1] * SIDES
    return F.conv_transpose2d(
        _given(operands, 0),
        _given(operands, 1),
        _optional(operands, 2),
        attributes.get("strides", ones),
        (top, left),
        attributes.get("output_padding", [0] * SIDES),
        attributes.get("group", 1),
        attributes.get("dilations", ones),
    )


def _gemm(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x, weight, bias = _given(operands, 0), _given(operands, 1), _optional(operands, 2)
    x = x.T if attributes.get("transA", 0) else x
    product = attributes.get("alpha", 1.0) * (x @ (weight.T if attributes.get("transB", 0) else weight))
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _max_pool(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x, padding = _padded(_given(operands, 0), attributes, float("-inf"))
    return F.max_pool2d(
        x,
        attributes["kernel_shape"],
        attributes.get("strides", [1] * SIDES),
        padding,
        attributes.get("dilations", [1] * SIDES),
        bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(attributes: dict[str, Any], operands: Operands) -> Tensor:
    counted = bool(attributes.get("count_include_pad", 0))
    x, padding = _padded(_given(operands, 0), attributes, 0.0)
    if x is not operands[0] and not counted:
        raise ModelError("an average pool with uneven pads cannot be fine-tuned; export with even ones")
    strides, rounding = attributes.get("strides", [1] * SIDES), bool(attributes.get("ceil_mode", 0))
    return F.avg_pool2d(x, attributes["kernel_shape"], strides, padding, rounding, counted)


def _batch_norm(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x, scale, shift, mean, variance = (_given(operands, position) for position in range(5))
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, attributes.get("epsilon", 1e-5))


def _instance_norm(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x, scale, shift = (_given(operands, position) for position in range(3))
    return F.instance_norm(x, weight=scale, bias=shift, eps=attributes.get("epsilon", 1e-5))


def _clip(attributes: dict[str, Any], operands: Operands) -> Tensor:
    low, high = _optional(operands, 1), _optional(operands, 2)
    return _given(operands, 0).clamp(None if low is None else low.item(), None if high is None else high.item())


def _split(attributes: dict[str, Any], operands: Operands) -> list[Tensor]:
    sizes, axis = _optional(operands, 1), attributes.get("axis", 0)
    if sizes is None:
        raise ModelError("Split without sizes cannot be fine-tuned; export it with its sizes")
    return list(_given(operands, 0).split([int(size) for size in sizes], dim=axis))


def _reshape(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x = _given(operands, 0)
    shape = [int(size) for size in _given(operands, 1)]
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _squeeze(attributes: dict[str, Any], operands: Operands) -> Tensor:
    axes = _optional(operands, 1)
    x = _given(operands, 0)
    return x.squeeze() if axes is None else x.squeeze(tuple(int(axis) for axis in axes))


def _unsqueeze(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x = _given(operands, 0)
    for axis in sorted(int(axis) for axis in _given(operands, 1)):
        x = x.unsqueeze(axis)
    return x


def _flatten(attributes: dict[str, Any], operands: Operands) -> Tensor:
    x, axis = _given(operands, 0), attributes.get("axis", 1)
    return x.flatten(axis) if axis == 1 else x.reshape(int(torch.tensor(x.shape[:axis]).prod()), -1)


def _one(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda attributes, operands: function(_given(operands, 0))


def _two(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda attributes, operands: function(_given(operands, 0), _given(operands, 1))


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _two(torch.matmul),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "Add": _two(torch.add),
    "Sub": _two(torch.sub),
    "Mul": _two(torch.mul),
    "Div": _two(torch.div),
    "Relu": _one(F.relu),
    "Sigmoid": _one(torch.sigmoid),
    "Tanh": _one(torch.tanh),
    "HardSwish": _one(F.hardswish),
    "HardSigmoid": lambda attributes, operands: (
        attributes.get("alpha", 0.2) * _given(operands, 0) + attributes.get("beta", 0.5)
    ).clamp(0.0, 1.0),
    "LeakyRelu": lambda attributes, operands: F.leaky_relu(_given(operands, 0), attributes.get("alpha", 0.01)),
    "Elu": lambda attributes, operands: F.elu(_given(operands, 0), attributes.get("alpha", 1.0)),
    "Clip": _clip,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _one(lambda x: x.mean((2, 3), keepdim=True)),
    "GlobalMaxPool": _one(lambda x: x.amax((2, 3), keepdim=True)),
    "Concat": lambda attributes, operands: torch.cat(
        [item for item in operands if item is not None], attributes["axis"]
    ),
    "Split": _split,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": lambda attributes, operands: _given(operands, 0).permute(attributes["perm"]),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
