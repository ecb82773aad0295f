"""The fused layers of a network's edge half, and which weight of the network each belongs to."""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import replace
from typing import Any

import torch

from targets.jetson.catalogue import device_of
from targets.jetson.layers import Layer
from targets.jetson.predictor import Prediction, predict
from toolkit.errors import TrainingError
from toolkit.export import attach_edge_wire
from toolkit.models.halves import EdgeHalf
from toolkit.models.masks import MaskHook
from toolkit.models.network import ReidNet
from toolkit.optional import require
from toolkit.patrol.latency import EdgeLayers
from toolkit.patrol.settings import LatencyBudget
from toolkit.planning.layers import fuse
from toolkit.wire import WireFormat

OPSET = 17
PREFIX = "net."


def read_edge_layers(net: ReidNet, picture_size: tuple[int, int]) -> EdgeLayers:
    """What TensorRT makes of the edge half with its 8-bit wire; masks that are attached do not count.

    Args:
        net: its mode and device are left as they are.
        picture_size: (H, W).
    """
    onnx = require("onnx", "host")
    model = onnx.load_from_string(_exported(net, picture_size))
    dims = model.graph.output[0].type.tensor_type.shape.dim
    channels, height, width = (int(dim.dim_value) for dim in list(dims)[1:])
    signed = not net.backbone.nonnegative_at(net.architecture.cut)
    wired = attach_edge_wire(model, WireFormat(channels, height, width, 8, 1.0, signed))
    graph = fuse(wired, f"{net.architecture.backbone}:{net.architecture.cut}")
    weights = {node.name: _weight(node) for node in model.graph.node}
    layers = tuple(_folded(layer) for layer in graph.layers)
    names = tuple(weights.get(layer.name, "") if layer.macs else "" for layer in layers)
    return EdgeLayers(replace(graph, layers=layers), names)


def check_latency(net: ReidNet, picture_size: tuple[int, int], budget: LatencyBudget) -> Prediction:
    """The prediction for a network as it is, which has to keep a latency budget.

    Raises:
        TrainingError: the upper end of the interval is above the budget.
    """
    module, mode = device_of(budget.device)
    found = predict(read_edge_layers(net, picture_size).graph, module, mode, budget.precision)
    if found.latency_ms.high > budget.max_ms:
        raise TrainingError(
            f"the slim edge half is predicted to take up to {found.latency_ms.high:.3g} ms on {module.key} in "
            f"mode {mode.label}, more than masks.latency's {budget.max_ms:.3g} ms; the plan kept channels that "
            "the masks gave up: let slim.plan remove them, or raise masks.latency.max_ms"
        )
    return found


def _exported(net: ReidNet, picture_size: tuple[int, int]) -> bytes:
    """The edge half as ONNX with BatchNorm apart, so that weights keep the names they have in the network."""
    plain = copy.deepcopy(net).cpu().eval()
    for module in plain.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, MaskHook):
                del module._forward_hooks[key]
    buffer: Any = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            EdgeHalf(plain).eval(), (torch.zeros(1, 3, *picture_size),), buffer, dynamo=False,
            opset_version=OPSET, input_names=["picture"], output_names=["feature"],
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    return bytes(buffer.getvalue())


def _weight(node: Any) -> str:
    return node.input[1].removeprefix(PREFIX) if len(node.input) > 1 else ""


def _folded(layer: Layer) -> Layer:
    """BatchNorm is folded before an engine is built; what stays of it is a bias."""
    folded = layer.macs and "BatchNormalization" in layer.operators
    return replace(layer, weights=layer.weights + layer.out_channels) if folded else layer
