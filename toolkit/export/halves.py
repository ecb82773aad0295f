"""Export of both halves, checked against PyTorch at every step on real pictures."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from toolkit.errors import ModelError
from toolkit.export.parity import ParityStep, check, compare, in_batches, runner, within
from toolkit.export.settings import OPSET, ExportSettings
from toolkit.export.simplify import simplify
from toolkit.export.tidy import tidy, to_bytes
from toolkit.export.wire_ends import BATCH, EMBEDDING, PICTURE, attach_cloud_wire, attach_edge_wire
from toolkit.preprocess import to_input
from toolkit.wire import WireFormat, encode_tensor, quantize_ste

logger = logging.getLogger(__name__)
FEATURE = "feature"
Pictures = NDArray[np.uint8]


class SplitNet(Protocol):
    """What the export needs of a network: ``ReidNet`` has it."""

    training: bool

    def edge(self, x: Tensor) -> Tensor: ...
    def cloud(self, feature: Tensor) -> Tensor: ...
    def train(self, mode: bool = True) -> Any: ...
    def named_modules(self) -> Iterable[tuple[str, nn.Module]]: ...


class PictureSize(Protocol):
    """What the export needs of ``preprocess.json``."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...


@dataclass(frozen=True)
class ExportResult:
    """Two files and how near they are to the network.

    Attributes:
        edge: ``edge.onnx``, ``picture`` -> ``wire`` (int8 codes).
        cloud: ``cloud.onnx``, ``wire`` -> ``embedding``.
        edge_sha256: of the file; the model hash of frames.
        parity: every comparison that was made.
        notes: what onnxsim did, or why it was left out.
    """

    edge: Path
    cloud: Path
    edge_sha256: str
    cloud_sha256: str
    parity: tuple[ParityStep, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the manifest: hashes, parity and notes."""
        return {
            "edge_sha256": self.edge_sha256,
            "cloud_sha256": self.cloud_sha256,
            "parity": [step.to_dict() for step in self.parity],
            "notes": list(self.notes),
        }


def export_halves(
    net: SplitNet,
    fmt: WireFormat,
    preprocess: PictureSize,
    pictures: Pictures,
    folder: Path,
    settings: ExportSettings | None = None,
) -> ExportResult:
    """Write ``edge.onnx`` and ``cloud.onnx`` (opset 17, IR 8, dynamic batch) into ``folder``.

    The same network on the same machine gives the same bytes.

    Args:
        net: in any mode; it is exported in evaluation mode and left as it was.
        fmt: the wire; the edge half ends in Clip -> QuantizeLinear, the cloud half begins with
            DequantizeLinear.
        preprocess: height and width of the pictures.
        pictures: uint8 ``(N, H, W, 3)`` RGB, real ones, for the parity checks (16 to 64 are enough).
        folder: must exist.
        settings: see :class:`ExportSettings`.

    Raises:
        ModelError: pictures of another size, a feature that is not ``fmt``'s, another opset than asked for,
            or parity beyond the bounds.
    """
    settings = settings or ExportSettings()
    inputs = picture_inputs(pictures, preprocess)
    was_training = net.training
    net.train(False)
    try:
        reference = _reference(net, fmt, inputs, settings)
        names = tuple(name for name, _ in net.named_modules() if name)
        edge_raw = _trace(_Edge(net), torch.zeros(1, *inputs.shape[1:]), PICTURE, FEATURE, names)
        cloud_raw = _trace(_Cloud(net), torch.zeros(1, *fmt.shape), FEATURE, EMBEDDING, names)
    finally:
        net.train(was_training)
    steps: list[ParityStep] = []
    notes: list[str] = []
    edge = _finish_edge(edge_raw, fmt, pictures, reference, settings, steps, notes)
    cloud = _finish_cloud(cloud_raw, fmt, reference, settings, steps, notes)
    check(steps, settings)
    return write_halves(edge, cloud, folder, steps, notes)


@dataclass(frozen=True)
class _Reference:
    inputs: NDArray[np.float32]
    feature: NDArray[np.float32]
    codes: NDArray[np.int8]
    received: NDArray[np.float32]
    embedding: NDArray[np.float32]


def picture_inputs(pictures: Pictures, preprocess: PictureSize) -> NDArray[np.float32]:
    """Pictures as the network's float input, after a look at their type and size.

    Raises:
        ModelError: no pictures, another type, or another size than ``preprocess``.
    """
    expected = (preprocess.height, preprocess.width, 3)
    if pictures.dtype != np.uint8 or pictures.shape[1:] != expected or not len(pictures):
        raise ModelError(f"parity needs uint8 pictures (N, {expected}), got {pictures.dtype} {pictures.shape}")
    return to_input(pictures)


def _reference(
    net: SplitNet, fmt: WireFormat, inputs: NDArray[np.float32], settings: ExportSettings
) -> _Reference:
    parts: list[tuple[Any, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(inputs), settings.parity_batch):
            feature = net.edge(torch.from_numpy(inputs[start : start + settings.parity_batch]))
            if tuple(feature.shape[1:]) != fmt.shape:
                raise ModelError(f"the cut gives {tuple(feature.shape[1:])}, the wire carries {fmt.shape}")
            received = quantize_ste(feature, fmt)
            outputs = (feature, encode_tensor(feature, fmt), received, net.cloud(received))
            parts.append(tuple(output.numpy() for output in outputs))
    return _Reference(inputs, *(np.concatenate(column) for column in zip(*parts, strict=True)))


class _Edge(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture: Tensor) -> Tensor:
        result: Tensor = self.net.edge(picture)
        return result


class _Cloud(_Edge):
    def forward(self, feature: Tensor) -> Tensor:
        result: Tensor = self.net.cloud(feature)
        return result


def _trace(
    module: nn.Module, example: Tensor, source: str, target: str, names: tuple[str, ...]
) -> onnx.ModelProto:
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter with dynamo=True writes opset 18 when asked for 17; this one keeps to it. What tracing
        # would freeze wrongly (a shape turned into a constant) shows in the parity checks.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[source],
            output_names=[target],
            dynamic_axes={source: {0: BATCH}, target: {0: BATCH}},
        )
    model = tidy(onnx.load_from_string(buffer.getvalue()), names)
    onnx.checker.check_model(model, full_check=True)
    return model


def _finish_edge(
    raw: onnx.ModelProto,
    fmt: WireFormat,
    pictures: Pictures,
    reference: _Reference,
    settings: ExportSettings,
    steps: list[ParityStep],
    notes: list[str],
) -> onnx.ModelProto:
    batch, inputs = settings.parity_batch, reference.inputs
    feature = in_batches(runner(raw), inputs, batch)
    steps.append(compare("edge: torch -> onnx, feature", reference.feature, feature))
    model = attach_edge_wire(raw, fmt)
    before = in_batches(runner(model), inputs, batch)
    steps.append(compare("edge: torch -> onnx, codes", reference.codes, before))
    model = _simplified("edge", model, inputs, before, settings, steps, notes)
    if settings.picture_input == "nhwc_uint8":
        model = accept_uint8(model)
        after = in_batches(runner(model), pictures, batch)
        steps.append(compare("edge: float32 -> uint8 input, codes", before, after))
    onnx.checker.check_model(model, full_check=True)
    return model


def _finish_cloud(
    raw: onnx.ModelProto,
    fmt: WireFormat,
    reference: _Reference,
    settings: ExportSettings,
    steps: list[ParityStep],
    notes: list[str],
) -> onnx.ModelProto:
    batch = settings.parity_batch
    plain = in_batches(runner(raw), reference.received, batch)
    steps.append(compare("cloud: torch -> onnx, embedding", reference.embedding, plain))
    model = attach_cloud_wire(raw, fmt)
    before = in_batches(runner(model), reference.codes, batch)
    steps.append(compare("cloud: torch -> onnx from codes, embedding", reference.embedding, before))
    model = _simplified("cloud", model, reference.codes, before, settings, steps, notes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _simplified(
    half: str,
    model: onnx.ModelProto,
    inputs: NDArray[Any],
    before: NDArray[Any],
    settings: ExportSettings,
    steps: list[ParityStep],
    notes: list[str],
) -> onnx.ModelProto:
    if settings.simplify == "off":
        return model
    smaller, note = simplify(model, settings.simplify_timeout_s)
    if smaller is not None:
        after = in_batches(runner(smaller), inputs, settings.parity_batch)
        step = compare(f"{half}: onnx -> onnxsim", before, after)
        if within(step, settings):
            steps.append(step)
            notes.append(f"{half}: {note}")
            return smaller
        note = f"onnxsim changed the output (relative difference {step.max_relative:.1e})"
    logger.warning("%s half kept unsimplified: %s", half, note)
    notes.append(f"{half}: kept unsimplified, {note}")
    return model


def accept_uint8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The edge half with ``picture`` as uint8 ``(batch, H, W, 3)``: Cast, divide by 255, transpose inside."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    sides = graph.input[0].type.tensor_type.shape.dim
    height, width = sides[2].dim_value, sides[3].dim_value
    for node in graph.node:
        node.input[:] = ["picture.nchw" if name == PICTURE else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array(255, dtype=np.float32), "picture.white"))
    front = [
        helper.make_node("Cast", [PICTURE], ["picture.float"], name="picture/Cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["picture.float", "picture.white"], ["picture.unit"], name="picture/Div"),
        helper.make_node(
            "Transpose", ["picture.unit"], ["picture.nchw"], name="picture/Transpose", perm=[0, 3, 1, 2]
        ),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(PICTURE, TensorProto.UINT8, [BATCH, height, width, 3]))
    return result


def write_halves(
    edge: onnx.ModelProto, cloud: onnx.ModelProto, folder: Path, steps: Iterable[ParityStep], notes: Iterable[str]
) -> ExportResult:
    """Write both files and say what they are."""
    paths, sums = [], []
    for name, model in (("edge.onnx", edge), ("cloud.onnx", cloud)):
        data = to_bytes(model)
        path = folder / name
        path.write_bytes(data)
        paths.append(path)
        sums.append(hashlib.sha256(data).hexdigest())
    return ExportResult(paths[0], paths[1], sums[0], sums[1], tuple(steps), tuple(notes))
