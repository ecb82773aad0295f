"""Where to cut: for every block of a backbone, what the edge half costs on a Jetson and what the link adds.

Edge times are *predicted* (``targets.jetson.predictor``). Where a cut breaks a limit, the plan says how narrow
PATROL would have to prune the edge half, uniformly over its channels, for the cut to fit.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from targets.jetson.catalogue import Module, PowerMode
from targets.jetson.layers import LayerGraph
from targets.jetson.predictor import Interval, Prediction, predict
from toolkit.errors import SettingsError
from toolkit.optional import require
from toolkit.planning.layers import fuse
from toolkit.wire import WireFormat, frame_size

logger = logging.getLogger(__name__)
WIDTHS = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)
OPSET = 17


@dataclass(frozen=True)
class Network:
    """What is cut.

    Attributes:
        backbone: name of one (``toolkit.models.registry``).
        height, width: of the picture.
        last_stride: of the backbone.
    """

    backbone: str
    height: int
    width: int
    last_stride: int = 2


@dataclass(frozen=True)
class Link:
    """Between device and server: megabits a second upwards, and milliseconds of a round trip."""

    mbit: float
    round_trip_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.mbit <= 0 or self.round_trip_ms < 0:
            raise SettingsError("a link has a positive bandwidth and no negative round trip")

    def milliseconds(self, size: int) -> float:
        """One frame up and the answer back."""
        return size * 8 / (self.mbit * 1e3) + self.round_trip_ms


@dataclass(frozen=True)
class EdgeLimits:
    """What the edge half may take; None is no limit."""

    ms: float | None = None
    mb: float | None = None
    mj: float | None = None

    def broken(self, found: Prediction) -> tuple[str, ...]:
        """Names of the limits that a prediction breaks."""
        values = {"ms": found.latency_ms, "mb": found.memory_mb, "mj": found.energy_mj}
        over = []
        for name, value in values.items():
            limit = getattr(self, name)
            if limit is not None and (value is None or value.value > limit):
                over.append(name)
        return tuple(over)


NO_LIMITS = EdgeLimits()


@dataclass(frozen=True)
class Split:
    """One cut.

    Attributes:
        edge: predicted; ``edge_macs`` is what the edge half computes.
        wire_bytes: of one uncompressed frame; ``wire_ms`` is its way, with the round trip.
        cloud_ms: None where no speed of the server was given.
        total_ms: edge, wire and, where known, cloud.
        privacy: of this cut, as given; None where nobody measured it.
        over: limits that it breaks.
        fitting_width: share of the channels that the edge half can keep to fit; 1.0 where it fits as it is, None
            where no width that was tried fits.
        removed: share of the edge half's multiply-accumulates that is gone at that width.
    """

    cut: str
    edge: Prediction
    edge_macs: int
    wire_bytes: int
    wire_ms: float
    cloud_ms: float | None
    privacy: float | None
    over: tuple[str, ...]
    fitting_width: float | None
    removed: float | None

    @property
    def total_ms(self) -> Interval:
        """Edge, wire and cloud; the interval is the edge's."""
        rest = self.wire_ms + (self.cloud_ms or 0.0)
        edge = self.edge.latency_ms
        return Interval(edge.value + rest, edge.low + rest, edge.high + rest)


def plan_splits(
    network: Network,
    module: Module,
    mode: PowerMode,
    link: Link,
    *,
    precision: str = "int8",
    bits: int = 8,
    limits: EdgeLimits = NO_LIMITS,
    cloud_gmacs_per_ms: float | None = None,
    privacy: Mapping[str, float] | None = None,
    cuts: Sequence[str] | None = None,
) -> tuple[Split, ...]:
    """Every cut of a backbone, or those named, from shallow to deep.

    Args:
        bits: per code on the wire.
        cloud_gmacs_per_ms: speed of the server on this network, where it was measured.
        privacy: a number per cut, for instance the normalized SSIM of an attack on it.

    Raises:
        ModelError: there is no such backbone or cut.
        PredictionError: the mode's clocks are not published.
    """
    names = _cuts(network, cuts)
    halves = [_edge(network, name, bits, 1.0) for name in names]
    whole = _edge(network, _cuts(network, None)[-1], bits, 1.0)[0].macs if cloud_gmacs_per_ms else 0
    found = []
    for name, (graph, size) in zip(names, halves, strict=True):
        edge = predict(graph, module, mode, precision)
        over = limits.broken(edge)
        width, removed = _fit(network, name, bits, (module, mode, precision), limits, graph.macs, over)
        cloud = (whole - graph.macs) / 1e9 / cloud_gmacs_per_ms if cloud_gmacs_per_ms else None
        found.append(
            Split(
                cut=name,
                edge=edge,
                edge_macs=graph.macs,
                wire_bytes=size,
                wire_ms=link.milliseconds(size),
                cloud_ms=cloud,
                privacy=(privacy or {}).get(name),
                over=over,
                fitting_width=width,
                removed=removed,
            )
        )
    return tuple(found)


def _cuts(network: Network, chosen: Sequence[str] | None) -> tuple[str, ...]:
    from toolkit.models.registry import build_backbone

    backbone = build_backbone(network.backbone, last_stride=network.last_stride, width=0.125)
    for name in chosen or ():
        backbone.index_of(name)
    return tuple(chosen) if chosen else tuple(backbone.block_names)


def _fit(
    network: Network,
    cut: str,
    bits: int,
    where: tuple[Module, PowerMode, str],
    limits: EdgeLimits,
    dense: int,
    over: tuple[str, ...],
) -> tuple[float | None, float | None]:
    """The widest edge half that keeps the limits, and the share of multiply-accumulates that it lacks."""
    if not over:
        return 1.0, 0.0
    for width in WIDTHS:
        graph, _ = _edge(network, cut, bits, width)
        if not limits.broken(predict(graph, *where)):
            return width, 1 - graph.macs / dense
    return None, None


def _edge(network: Network, cut: str, bits: int, width: float) -> tuple[LayerGraph, int]:
    """The fused edge half of a cut and the bytes of its frame."""
    torch = require("torch", "host")
    onnx = require("onnx", "host")
    from toolkit.export import attach_edge_wire
    from toolkit.models.architecture import Architecture
    from toolkit.models.halves import EdgeHalf
    from toolkit.models.network import build_network

    net = build_network(Architecture(network.backbone, cut, 2, network.last_stride, width=width), 0).eval()
    example = torch.zeros(1, 3, network.height, network.width)
    half = EdgeHalf(net).eval()
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = half(example).shape
        torch.onnx.export(
            half, (example,), buffer, dynamo=False, opset_version=OPSET, input_names=["picture"],
            output_names=["feature"],
        )  # fmt: skip
    signed = not net.backbone.nonnegative_at(cut)
    fmt = WireFormat(int(shape[1]), int(shape[2]), int(shape[3]), bits, 1.0, signed)
    model = attach_edge_wire(onnx.load_from_string(buffer.getvalue()), fmt)
    return fuse(model, f"{network.backbone}:{cut}"), frame_size(fmt)
