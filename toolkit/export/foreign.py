"""Entry for a user's own ONNX file: cut it, choose the wire's step, attach the wire."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from toolkit.errors import ModelError
from toolkit.export.cutting import cut_model, real_inputs
from toolkit.export.halves import ExportResult, Pictures, accept_uint8, picture_inputs, write_halves
from toolkit.export.parity import check, compare, in_batches, runner
from toolkit.export.settings import OPSET, ExportSettings
from toolkit.export.tidy import plain
from toolkit.export.wire_ends import BATCH, EMBEDDING, PICTURE, attach_cloud_wire, attach_edge_wire
from toolkit.wire import WireFormat, choose_step, encode

logger = logging.getLogger(__name__)
Normalization = Literal["inside", "outside"]
OLDEST_OPSET = 11


class PictureFormat(Protocol):
    """What is needed of ``preprocess.json``."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...


@dataclass(frozen=True)
class ForeignResult:
    """The halves of a user's model and the wire that was chosen for them."""

    export: ExportResult
    fmt: WireFormat


def split_onnx(
    path: Path,
    cut: str,
    preprocess: PictureFormat,
    pictures: Pictures,
    bits: int,
    folder: Path,
    normalization: Normalization = "inside",
    settings: ExportSettings | None = None,
) -> ForeignResult:
    """Cut ``path`` at ``cut`` and write ``edge.onnx`` and ``cloud.onnx`` into ``folder``.

    Args:
        path: an ONNX file with one float32 input ``(N, 3, H, W)`` and the embedding as first output.
        cut: name of a tensor, or of the node that makes it.
        preprocess: picture size; its mean and std are put in front when ``normalization`` is ``outside``.
        pictures: uint8 ``(N, H, W, 3)`` from the training split: the step is chosen on them.
        bits: of the wire, 2 to 8.
        folder: must exist.
        normalization: whether the model normalizes its input itself.
        settings: of the export; simplification is left to the user's own tools.

    Raises:
        ModelError: the file cannot be read or converted, has another input, cannot be cut there, or loses
            parity with the uncut model.
        WireError: no step can be chosen from the features.
    """
    settings = settings or ExportSettings()
    model = _entering(path, preprocess.height, preprocess.width)
    if normalization == "outside":
        _normalize(model, preprocess)
    inputs = picture_inputs(pictures, preprocess)
    edge, cloud = cut_model(model, cut)
    plain(edge)
    plain(cloud)
    whole = _run(model, inputs, settings, str(path))
    feature = _run(edge, inputs, settings, "the edge half")
    signed = bool(feature.min() < 0)
    channels, height, width = (int(side) for side in feature.shape[1:])
    fmt = WireFormat(channels, height, width, bits, choose_step(feature, bits, signed), signed)
    steps = [compare("cut: whole -> halves, embedding", whole, _run(cloud, feature, settings, "the cloud half"))]
    _set_shape(edge.graph.output[0], fmt)
    _set_shape(cloud.graph.input[0], fmt)
    edge, cloud = attach_edge_wire(edge, fmt), attach_cloud_wire(cloud, fmt)
    codes = _run(edge, inputs, settings, "the edge half")
    steps.append(compare("edge: feature -> codes", encode(feature, fmt), codes))
    if settings.picture_input == "nhwc_uint8":
        edge = accept_uint8(edge)
        steps.append(compare("edge: float32 -> uint8 input, codes", codes, _run(edge, pictures, settings, "edge")))
    check(steps, settings)
    for half in (edge, cloud):
        onnx.checker.check_model(half)
    return ForeignResult(write_halves(edge, cloud, folder, steps, ("halves of a model of the user's own",)), fmt)


def check_onnx(path: Path, cut: str, height: int, width: int) -> None:
    """Refuse a file that :func:`split_onnx` would refuse for what it is, before anything is run.

    Raises:
        ModelError: the file cannot be read or converted, has another input, or cannot be cut there.
    """
    cut_model(_entering(path, height, width), cut)


def _entering(path: Path, height: int, width: int) -> onnx.ModelProto:
    model = load_model(path)
    _with_dynamic_batch(model, (3, height, width), str(path))
    return model


def load_model(path: Path) -> onnx.ModelProto:
    """Read, check and bring to opset 17.

    Raises:
        ModelError: missing, not ONNX, invalid, or of an opset that cannot be converted.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path} is not a valid ONNX model: {str(error).splitlines()[0]}") from error
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset == OPSET:
        return model
    advice = f"export it again with opset {OPSET}"
    if opset < OLDEST_OPSET:
        raise ModelError(f"{path} has opset {opset}, older than {OLDEST_OPSET}; {advice}")
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises RuntimeError and pybind types of its own
        raise ModelError(f"{path} has opset {opset} and cannot be converted; {advice} ({error})") from error


def _with_dynamic_batch(model: onnx.ModelProto, expected: tuple[int, int, int], source: str) -> None:
    graph = model.graph
    inputs = real_inputs(graph)
    if len(inputs) != 1:
        raise ModelError(f"{source} has inputs {[value.name for value in inputs]}; one picture input is needed")
    tensor = inputs[0].type.tensor_type
    sides = tensor.shape.dim
    found = tuple(side.dim_value or side.dim_param for side in sides)
    if tensor.elem_type != TensorProto.FLOAT or len(sides) != 4:
        raise ModelError(f"{source}: the input must be float32 (N, 3, H, W), it is {found}")
    for side, value in zip(list(sides)[1:], expected, strict=True):
        if side.dim_value not in (0, value):
            raise ModelError(f"{source}: the input is {found}, pictures are (N, {expected}); set picture to it")
        side.dim_value = value
    sides[0].dim_param = BATCH
    for value in graph.output:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]
    _rename(graph, inputs[0].name, PICTURE)
    _flat_output(graph)


def _flat_output(graph: onnx.GraphProto) -> None:
    """Embedding of shape (N, D) under its fixed name; further outputs are dropped."""
    old = graph.output[0].name
    sides = [side.dim_value for side in graph.output[0].type.tensor_type.shape.dim]
    if len(sides) > 2:
        graph.node.append(helper.make_node("Flatten", [old], [EMBEDDING], name="embedding/Flatten", axis=1))
    else:
        _rename(graph, old, EMBEDDING)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, [BATCH, None]))


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new


def _normalize(model: onnx.ModelProto, preprocess: PictureFormat) -> None:
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["picture.normal" if name == PICTURE else name for name in node.input]
    nodes = [
        helper.make_node("Sub", [PICTURE, "picture.mean"], ["picture.centred"], name="picture/Sub"),
        helper.make_node("Div", ["picture.centred", "picture.std"], ["picture.normal"], name="picture/Divide"),
        *graph.node,
    ]
    for name, values in (("picture.mean", preprocess.mean), ("picture.std", preprocess.std)):
        array = np.array(values, dtype=np.float32).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, name))
    del graph.node[:]
    graph.node.extend(nodes)


def _set_shape(value: onnx.ValueInfoProto, fmt: WireFormat) -> None:
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [BATCH, *fmt.shape]))


def _run(model: onnx.ModelProto, inputs: NDArray[Any], settings: ExportSettings, name: str) -> NDArray[Any]:
    try:
        return in_batches(runner(model), inputs, settings.parity_batch)
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{name} does not run on {min(len(inputs), settings.parity_batch)} pictures at once; "
            f"export it with a dynamic batch ({reason})"
        ) from error
