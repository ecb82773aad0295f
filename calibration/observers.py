"""One pass of the pictures through the FP32 network: histograms and ranges, never activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import ActivationError, PictureError
from calibration.histogram import StreamingHistogram
from calibration.prepare import Prepared
from calibration.session import open_session

MOST = 1 << 14  # values of a picture that a histogram counts


@dataclass(frozen=True)
class Observations:
    """What one pass saw.

    Attributes:
        histograms: tensor -> histogram of its absolute values (of many, an even part).
        ranges: tensor -> (smallest, largest) for every float tensor of the graph.
        pictures: how many pictures went through.
        data_hash: sha256 of the pictures' bytes, in order.
        probe: the first pictures, float32 (P, C, H, W), kept to compare candidates.
    """

    histograms: dict[str, StreamingHistogram]
    ranges: dict[str, tuple[float, float]]
    pictures: int
    data_hash: str
    probe: np.ndarray


def observe(
    prepared: Prepared,
    batches: Iterable[np.ndarray],
    tensors: Sequence[str],
    *,
    bins: int,
    forward_pictures: int,
    probe_pictures: int,
    threads: int,
) -> Observations:
    """Run the network once over all pictures.

    Args:
        prepared: the FP32 model.
        batches: float32 (N, C, H, W) arrays, N free.
        tensors: those that get a histogram; of all others only the range is kept, computed inside the graph.
        bins, forward_pictures, probe_pictures, threads: see :class:`CalibrationSettings`.

    Raises:
        PictureError: no pictures, or of another shape, type or range than the input.
        ActivationError: a tensor is NaN or infinite; the message names it and the picture.
    """
    histograms = {name: StreamingHistogram(bins) for name in tensors if name != prepared.picture}
    ranged = [name for name in float_tensors(prepared) if name not in histograms]
    model = _with_outputs(prepared, list(histograms), ranged)
    session = open_session(model, threads)
    names = [item.name for item in session.get_outputs()]
    if prepared.picture in tensors:
        histograms[prepared.picture] = StreamingHistogram(bins)
    ranges: dict[str, tuple[float, float]] = {}
    digest = hashlib.sha256()
    probe: list[np.ndarray] = []
    kept = count = 0
    for pictures in _chunks(prepared, batches, forward_pictures):
        digest.update(np.ascontiguousarray(pictures).tobytes())
        if kept < probe_pictures:
            probe.append(pictures[: probe_pictures - kept].copy())
            kept += len(probe[-1])
        values = dict(zip(names, session.run(None, {prepared.picture: pictures}), strict=True))
        values[prepared.picture] = pictures
        for name, histogram in histograms.items():
            low, high = float(values[name].min()), float(values[name].max())
            _check_finite(name, values[name], (low, high), count)
            histogram.update(thinned(values[name]), (low, high))
        for name in ranged:
            low, high = float(values[f"{name}.low"]), float(values[f"{name}.high"])
            _check_finite(name, np.asarray([low, high]), (low, high), count)
            old = ranges.get(name, (low, high))
            ranges[name] = (min(old[0], low), max(old[1], high))
        low, high = ranges.get(prepared.picture, (np.inf, -np.inf))
        ranges[prepared.picture] = (min(low, float(pictures.min())), max(high, float(pictures.max())))
        count += len(pictures)
    if not count:
        raise PictureError("there are no calibration pictures; choose some with choose_pictures")
    ranges.update({name: (item.minimum, item.maximum) for name, item in histograms.items()})
    return Observations(histograms, ranges, count, digest.hexdigest(), np.concatenate(probe))


def float_tensors(prepared: Prepared) -> list[str]:
    """Names of all float32 tensors that nodes make, in topological order."""
    kinds = {info.name: info.type.tensor_type.elem_type for info in prepared.model.graph.value_info}
    made = [out for node in prepared.graph.nodes.values() for out in node.output]
    return [name for name in made if kinds.get(name) == TensorProto.FLOAT]


def _with_outputs(prepared: Prepared, full: list[str], ranged: list[str]) -> onnx.ModelProto:
    """A model without the wire whose outputs are the tensors of ``full`` and the ranges of ``ranged``."""
    model = onnx.ModelProto()
    model.CopyFrom(prepared.model)
    graph = model.graph
    keep = [node for node in graph.node if node.output[0] != prepared.wire.output]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in keep]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in full]
    for name in ranged:
        for suffix, operator in (("low", "ReduceMin"), ("high", "ReduceMax")):
            copies.append(helper.make_node(operator, [name], [f"{name}.{suffix}"], f"{name}.{suffix}", keepdims=0))
            outputs.append(helper.make_tensor_value_info(f"{name}.{suffix}", TensorProto.FLOAT, []))
    for field, items in ((graph.node, copies), (graph.output, outputs)):
        del field[:]
        field.extend(items)
    used = {name for node in graph.node for name in node.input}
    constants = [item for item in graph.initializer if item.name in used]
    arrays = [numpy_helper.from_array(numpy_helper.to_array(item), item.name) for item in constants]
    del graph.initializer[:]
    graph.initializer.extend(arrays)
    return model


def _chunks(prepared: Prepared, batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    for batch in batches:
        if not isinstance(batch, np.ndarray) or batch.dtype != np.float32 or batch.shape[1:] != prepared.shape:
            seen = getattr(batch, "shape", type(batch).__name__), getattr(batch, "dtype", "")
            raise PictureError(
                f"a batch is {seen}; give float32 arrays (N, {', '.join(map(str, prepared.shape))})"
            )
        if not np.isfinite(batch).all():
            raise PictureError("a calibration picture holds NaN or infinite values; decode it again")
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


def thinned(values: np.ndarray) -> np.ndarray:
    """At most about ``MOST`` values of each picture ``(N, ...)``, evenly, so that every column and channel is met.

    Neighbours in a feature map are alike: a histogram of all of them says nothing that one of many does not. The
    extremes are taken from all of them. What is drawn does not depend on how many pictures come at once.
    """
    flat = values.reshape(len(values), -1)
    stride = flat.shape[1] // MOST
    return values if stride < 2 else flat[:, :: stride | 1]


def _check_finite(name: str, values: np.ndarray, extremes: tuple[float, float], first: int) -> None:
    if np.isfinite(extremes).all():  # NaN passes through min and max
        return
    where = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)) if values.ndim > 1 else [0]
    kind = "NaN" if np.isnan(values).any() else "infinite"
    raise ActivationError(
        f"tensor {name} is {kind} at picture {first + int(where[0])}; the network or its training diverged"
    )
