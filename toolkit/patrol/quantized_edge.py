"""The edge half in PyTorch with Q/DQ pairs where the exported forms have them, and scales that can be learned.

Learned step size quantization: S. Esser et al., "Learned Step Size Quantization", ICLR 2020 (arXiv:1902.08153),
sections 2.1 and 2.2. Scales are learned by their logarithm, so that they stay positive and a step of the optimizer
is relative; they are rounded to FP16 as in every form. The wire's step is given and never learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from calibration.placement import Layer, Plan
from calibration.prepare import Prepared
from calibration.scales import SMALLEST, Scales
from calibration.table import TABLE
from toolkit.patrol.onnx_operators import attributes_of, run_operator

EMPTY = Plan((), (), ())


def learned_quantize(x: Tensor, scale: Tensor, low: int, high: int, damping: float = 1.0) -> Tensor:
    """``clip(round(x / s), low, high) * s``, halves to even, with the gradients of LSQ.

    Equation 3 for the step size: the code minus ``x / s`` inside, ``low`` or ``high`` outside; 1 or 0 for ``x``.

    Args:
        x: float32; scale: float32, broadcasts against ``x``.
        low, high: smallest and largest code.
        damping: factor of the step's gradient (section 2.2: 1 / sqrt(number of values * high)).
    """
    scale = scale.detach() + damping * (scale - scale.detach())  # its value to the last bit
    ratio = (x / scale).clamp(low, high)
    return (ratio + (ratio.round() - ratio).detach()) * scale


class LearnedScale(nn.Module):
    """One scale, or one per channel: ``initial * exp(offset)``, rounded to FP16.

    Args:
        initial: float32, exact in FP16.
    """

    initial: Tensor

    def __init__(self, initial: np.ndarray | float) -> None:
        super().__init__()
        self.register_buffer("initial", torch.from_numpy(np.array(initial, dtype=np.float32)))
        self.offset = nn.Parameter(torch.zeros_like(self.initial))

    def forward(self) -> Tensor:
        scale = (self.initial * self.offset.exp()).clamp(min=SMALLEST)
        return scale + (scale.half().float() - scale).detach()

    def value(self) -> np.ndarray:
        """float32, exact in FP16."""
        with torch.no_grad():
            scale = (self.initial * self.offset.exp()).clamp(min=SMALLEST).half()
        return np.asarray(scale.cpu().numpy(), dtype=np.float32)


class QuantizedEdge(nn.Module):
    """A prepared edge half that is quantized as its forms are: same placement, same scales.

    Args:
        prepared: the FP32 half.
        plan: where the pairs stand; :data:`EMPTY` runs the half in FP32.
        scales: to begin with; ``Scales({}, {})`` for an empty plan.

    Weights and biases of the INT8 layers and all scales but the wire's are parameters.
    """

    def __init__(self, prepared: Prepared, plan: Plan = EMPTY, scales: Scales | None = None) -> None:
        super().__init__()
        scales = scales or Scales({}, {})
        self.prepared, self.plan, self.starting = prepared, plan, scales
        self._layers: dict[str, Layer] = {layer.node: layer for layer in plan.int8_layers}
        self._reads = {use: point.tensor for point in plan.points for use in point.uses}
        self._points = {point.tensor: point for point in plan.points}
        self._attributes = {node.name: attributes_of(node) for node in prepared.graph.nodes.values()}
        self._nodes = [node for node in prepared.graph.nodes.values() if node.name not in prepared.wire.nodes]
        self._add_constants(prepared)
        self._add_parameters(scales)

    def _add_constants(self, prepared: Prepared) -> None:
        self._constants: dict[str, str] = {}
        for number, (name, value) in enumerate(prepared.graph.constants.items()):
            self._constants[name] = f"constant_{number}"
            self.register_buffer(f"constant_{number}", torch.from_numpy(value.copy()), persistent=False)

    def _add_parameters(self, scales: Scales) -> None:
        graph = self.prepared.graph
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.weight_scales, self.activation_scales = nn.ModuleList(), nn.ModuleList()
        self._weight_of: dict[str, int] = {}
        self._bias_of: dict[str, int] = {}
        self._scale_of: dict[str, int] = {}
        for number, layer in enumerate(self._layers.values()):
            self.weight_scales.append(LearnedScale(scales.weights[layer.node]))
            self._scale_of[layer.node] = number
            if layer.weight not in self._weight_of:
                self._weight_of[layer.weight] = len(self.weights)
                self.weights.append(nn.Parameter(torch.from_numpy(graph.constants[layer.weight].copy())))
            bias = scales.biases.get(layer.node)
            position = TABLE.weighted[layer.operator].bias
            if bias is None and position is not None:
                bias = graph.constant(graph.nodes[layer.node], position)
            if bias is not None:
                self._bias_of[layer.node] = len(self.biases)
                self.biases.append(nn.Parameter(torch.from_numpy(np.array(bias, np.float32))))
        heads = dict.fromkeys(point.group for point in self.plan.points if point.fixed is None)
        self._group_of = {name: number for number, name in enumerate(heads)}
        self.activation_scales.extend(LearnedScale(scales.activations[name]) for name in heads)

    def feature(self, pictures: Tensor) -> Tensor:
        """float32 (N, 3, H, W) in [0, 1] to the feature in front of the wire's Clip."""
        values: dict[str, Tensor] = {self.prepared.picture: pictures}
        coded: dict[str, Tensor] = {}
        for node in self._nodes:
            operands: list[Tensor | None] = []
            for position, name in enumerate(node.input):
                if not name:
                    operands.append(None)
                elif name in self._constants:
                    operands.append(getattr(self, self._constants[name]))
                elif (node.name, position) in self._reads:
                    operands.append(self._coded(name, values[name], coded))
                else:
                    operands.append(values[name])
            if node.name in self._layers:
                self._replace(self._layers[node.name], operands)
            found = run_operator(node, self._attributes[node.name], operands)
            values.update(zip(node.output, found, strict=False))
        return values[self.prepared.wire.feature]

    def forward(self, pictures: Tensor) -> Tensor:
        """The feature that the cloud half receives: decoded codes, float32, straight-through gradient."""
        wire = self.prepared.wire
        feature = self.feature(pictures)
        step = torch.full((), wire.step, dtype=torch.float32, device=feature.device)
        return learned_quantize(feature, step, wire.low, wire.high)

    @torch.no_grad()
    def codes(self, pictures: Tensor) -> Tensor:
        """INT8 codes of the wire."""
        wire = self.prepared.wire
        feature = self.feature(pictures)
        step = torch.full((), wire.step, dtype=torch.float32, device=feature.device)
        return (feature / step).round().clamp(wire.low, wire.high).to(torch.int8)

    def clipped(self, pictures: Tensor) -> Tensor:
        """The feature within what the wire can hold."""
        wire = self.prepared.wire
        return self.feature(pictures).clamp(wire.low * wire.step, wire.high * wire.step)

    def _coded(self, name: str, value: Tensor, coded: dict[str, Tensor]) -> Tensor:
        if name not in coded:
            point = self._points[name]
            low, high = TABLE.activation_codes
            if point.fixed is not None:
                scale = torch.full((), point.fixed, dtype=torch.float32, device=value.device)
                coded[name] = learned_quantize(value, scale, low, high)
            else:
                scale = self.activation_scales[self._group_of[point.group]]()
                coded[name] = learned_quantize(value, scale, low, high, _damping(value.numel(), high))
        return coded[name]

    def _replace(self, layer: Layer, operands: list[Tensor | None]) -> None:
        roles = TABLE.weighted[layer.operator]
        weight = self.weights[self._weight_of[layer.weight]]
        scale = self.weight_scales[self._scale_of[layer.node]]()
        shape = [1] * weight.dim()
        shape[layer.axis] = -1
        low, high = TABLE.weight_codes
        damping = _damping(weight.numel() // scale.numel(), high)
        operands[roles.weight] = learned_quantize(weight, scale.view(shape), low, high, damping)
        if layer.node in self._bias_of and roles.bias is not None:
            operands[roles.bias :] = [self.biases[self._bias_of[layer.node]]]

    def learned_weights(self) -> dict[str, np.ndarray]:
        """Initializer -> float32."""
        return {name: _array(self.weights[number]) for name, number in self._weight_of.items()}

    def learned_scales(self) -> Scales:
        """For ``calibration.learned``; what only the cpu form quantizes keeps its scale."""
        activations: Mapping[str, float] = {
            point.tensor: point.fixed
            if point.fixed is not None
            else float(self.activation_scales[self._group_of[point.group]].value())  # type: ignore[operator]
            for point in self.plan.points
        }
        weights = {
            node: np.asarray(self.weight_scales[number].value())  # type: ignore[operator]
            for node, number in self._scale_of.items()
        }
        biases = {node: _array(self.biases[number]) for node, number in self._bias_of.items()}
        return Scales(activations, weights, self.starting.internal, biases)


def _damping(values: int, high: int) -> float:
    return float(1.0 / np.sqrt(max(values, 1) * high))


def _array(parameter: Tensor) -> np.ndarray:
    return np.asarray(parameter.detach().cpu().numpy(), dtype=np.float32).copy()
