"""Where Q/DQ pairs stand: which layers become INT8, which tensors carry a pair, which share a scale.

Follows ``placement.json``. Sources: the explicit-quantization chapter of NVIDIA's TensorRT developer guide
(pairs on the inputs of weighted layers, none between Conv, BN and ReLU), NVIDIA's pytorch-quantization ResNet
example (residual additions: identity branch only), Model Optimizer (least channel numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from calibration.errors import SettingsError
from calibration.graph import Graph, Use, attribute, integer, multiply_accumulates
from calibration.prepare import Prepared
from calibration.settings import CalibrationSettings
from calibration.table import TABLE

Role = Literal["input", "identity", "shared"]


@dataclass(frozen=True)
class Layer:
    """One weighted layer.

    Attributes:
        node, operator: its name and ONNX type.
        precision: ``int8`` or ``float``; reason: why, for people.
        input: the activation it reads; weight: its initializer; axis: the weight's channel axis.
        macs: multiply-accumulates for one picture.
    """

    node: str
    operator: str
    precision: Literal["int8", "float"]
    reason: str
    input: str
    weight: str
    axis: int
    macs: int


@dataclass(frozen=True)
class Point:
    """One tensor that carries a Q/DQ pair.

    Attributes:
        tensor: its name.
        role: what the pair is there for.
        uses: the node inputs that read the dequantized tensor (others read the original).
        group: the first tensor of the group that shares one scale (itself when it is alone).
        fixed: the scale, when it is given (the wire's step), else None.
    """

    tensor: str
    role: Role
    uses: tuple[Use, ...]
    group: str
    fixed: float | None


@dataclass(frozen=True)
class Join:
    """One residual addition: positions of the branch that fuses and of the identity; None when it cannot fuse."""

    node: str
    fused: int | None
    identity: int | None


@dataclass(frozen=True)
class Plan:
    """Everything that placement decided, in topological order."""

    layers: tuple[Layer, ...]
    points: tuple[Point, ...]
    joins: tuple[Join, ...]

    @property
    def int8_layers(self) -> tuple[Layer, ...]:
        """The layers that become INT8."""
        return tuple(layer for layer in self.layers if layer.precision == "int8")


def place(prepared: Prepared, settings: CalibrationSettings) -> Plan:
    """Decide precision and Q/DQ pairs for a prepared model.

    Raises:
        SettingsError: ``keep_float`` names a layer that is not there.
    """
    graph = prepared.graph
    layers = _layers(graph, settings)
    known = {layer.node for layer in layers}
    missing = [name for name in settings.keep_float if name not in known]
    if missing:
        raise SettingsError(
            f"keep_float names {missing[0]!r}, which is no weighted layer; there are {', '.join(sorted(known))}"
        )
    joins = tuple(_join(graph, node, layers) for node in graph.nodes.values() if _is_join(graph, node))
    uses: dict[str, dict[Use, Role]] = {}
    for layer in layers:
        if layer.precision == "int8":
            position = TABLE.weighted[layer.operator].input
            uses.setdefault(layer.input, {})[(layer.node, position)] = "input"
    for join in joins:
        _add_identity(graph, join, uses)
    groups = _share_scales(prepared, uses)
    return Plan(layers, _points(prepared, uses, groups), joins)


def _layers(graph: Graph, settings: CalibrationSettings) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    behind_weighted: set[str] = set()
    for node in graph.nodes.values():
        roles = TABLE.weighted.get(node.op_type)
        first = not any(name in behind_weighted for name in node.input)
        if roles is not None or not first:
            behind_weighted.update(node.output)
        if roles is None:
            continue
        reason = _why_float(graph, node, first, settings)
        axis = roles.axis
        if roles.axis_transposed is not None and integer(node, "transB", 0):
            axis = roles.axis_transposed
        layers.append(
            Layer(
                node=node.name,
                operator=node.op_type,
                precision="float" if reason else "int8",
                reason=reason or "enough channels",
                input=node.input[roles.input],
                weight=node.input[roles.weight],
                axis=axis,
                macs=multiply_accumulates(graph, node),
            )
        )
    return tuple(layers)


def _why_float(graph: Graph, node: onnx.NodeProto, first: bool, settings: CalibrationSettings) -> str:
    """Why a weighted node stays in floating point; empty when it becomes INT8."""
    weight = graph.constant(node, TABLE.weighted[node.op_type].weight)
    if weight is None:
        return "its weight is not constant"
    if node.name in settings.keep_float:
        return "kept by the settings"
    if not np.isfinite(weight).all():
        return "its weight is not finite"
    if first and settings.first_layer == "float":
        return "first layer, kept by the settings"
    if node.op_type not in ("Conv", "ConvTranspose"):
        if (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) != (1.0, 1.0):
            return "its alpha or beta is not 1"
        narrow = weight.ndim != 2 or min(weight.shape) < TABLE.minimum_channels["gemm"]
        return f"fewer than {TABLE.minimum_channels['gemm']} rows or columns" if narrow else ""
    groups = integer(node, "group", 1)
    if groups > 1 and weight.shape[1] == 1 and settings.depthwise == "float":
        return "depthwise, kept by the settings"
    return "" if wide_enough(node.op_type, weight.shape, groups, first) else f"too few channels ({weight.shape})"


def wide_enough(operator: str, shape: tuple[int, ...], groups: int, first: bool) -> bool:
    """Whether a convolution has the channels that INT8 kernels need (the rule of NVIDIA's Model Optimizer).

    Args:
        operator: ``Conv`` or ``ConvTranspose``.
        shape: of the weight.
        groups: of the convolution.
        first: no other weighted layer stands in front of it.
    """
    limits = TABLE.minimum_channels
    if operator == "Conv":
        out, into = shape[0], shape[1] * groups
    else:
        out, into = shape[1] * groups, shape[0]
    kernel = shape[2:]
    if min(out, into) >= limits["conv"]:
        return True
    multiple = limits["conv_multiple"]
    if groups > 1:
        return out % multiple == 0 and min(kernel, default=0) >= limits["grouped_kernel"]
    even = out % multiple == 0 or into % multiple == 0
    return even and (first or max(out, into) >= limits["conv"]) and len(set(kernel)) == 1


def _is_join(graph: Graph, node: onnx.NodeProto) -> bool:
    return node.op_type in TABLE.residual and all(name not in graph.constants for name in node.input)


def _join(graph: Graph, node: onnx.NodeProto, layers: tuple[Layer, ...]) -> Join:
    """The branch that fuses is a convolution read by nobody else; of two, the one behind more layers."""
    precisions = {layer.node: layer.precision for layer in layers if layer.operator in ("Conv", "ConvTranspose")}
    depths = {}
    for position, name in enumerate(node.input):
        maker = graph.maker(name)
        if maker is not None and maker.name in precisions and graph.only_reader(name) is not None:
            own = graph.ancestors(name) - graph.ancestors(node.input[1 - position])
            depths[position] = sum(graph.nodes[item].op_type in TABLE.weighted for item in own)
    if not depths:
        return Join(node.name, None, None)
    fused = max(depths, key=lambda position: depths[position])
    maker = graph.maker(node.input[fused])
    if maker is None or precisions[maker.name] == "float":
        return Join(node.name, None, None)
    return Join(node.name, fused, 1 - fused)


def _add_identity(graph: Graph, join: Join, uses: dict[str, dict[Use, Role]]) -> None:
    node = graph.nodes[join.node]
    if join.identity is not None:
        uses.setdefault(node.input[join.identity], {})[(join.node, join.identity)] = "identity"
    elif all(name in uses for name in node.input):  # both are INT8 already: reading them so costs nothing
        for position, name in enumerate(node.input):
            uses[name][(join.node, position)] = "identity"


def _share_scales(prepared: Prepared, uses: dict[str, dict[Use, Role]]) -> dict[str, str]:
    """Carry pairs through pooling and concatenation; return tensor -> parent in its group (union-find)."""
    graph = prepared.graph
    parent: dict[str, str] = {}
    for node in reversed(tuple(graph.nodes.values())):
        out = node.output[0]
        if node.op_type not in TABLE.share_scale or (out not in uses and out != prepared.wire.feature):
            continue
        for position, name in enumerate(node.input):
            if name and name not in graph.constants:
                uses.setdefault(name, {})[(node.name, position)] = "shared"
                parent[_root(parent, out)] = _root(parent, name)
            if node.op_type != "Concat":
                break
    return parent


def _root(parent: dict[str, str], name: str) -> str:
    while parent.get(name, name) != name:
        name = parent[name]
    return name


def _points(prepared: Prepared, uses: dict[str, dict[Use, Role]], parent: dict[str, str]) -> tuple[Point, ...]:
    graph = prepared.graph
    order = [prepared.picture, *(out for node in graph.nodes.values() for out in node.output)]
    tensors = [name for name in order if name in uses]
    first: dict[str, str] = {}
    for name in tensors:
        first.setdefault(_root(parent, name), name)
    wired = _root(parent, prepared.wire.feature)
    points = []
    for name in tensors:
        roles = set(uses[name].values())
        role: Role = "identity" if roles == {"identity"} else "shared" if roles == {"shared"} else "input"
        root = _root(parent, name)
        fixed = prepared.wire.step if root == wired else None
        points.append(Point(name, role, tuple(sorted(uses[name])), first[root], fixed))
    return tuple(points)
