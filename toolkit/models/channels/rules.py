"""What every operator does to labels. Names are ATen's; in-place forms share their rule.

``apply_rule`` returns what kind of reader the operator was: ``move`` (data movement), ``norm``, ``mix``
(convolution, linear), ``pointwise``, ``spatial``, or ``other``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.models.channels import layers
from toolkit.models.channels.call import Call
from toolkit.models.channels.labels import RAGGED, along, lowest, spread, varying_dims
from toolkit.models.channels.pointwise import combine
from toolkit.models.channels.records import Binding, Known
from toolkit.models.channels.trace import Tracer

Rule = Callable[[Call], str]

SAME = {"clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "native_dropout"}
MOVES = {"permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "repeat", "flip", "roll"}
VIEWS = {"view", "_unsafe_view", "reshape", "unflatten"}
SPATIAL = {
    *(
        "max_pool1d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
    ),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "max_pool2d"),
    *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"),
    *("_upsample_nearest_exact2d", "_upsample_bilinear2d_aa"),
}
REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "var", "std", "linalg_vector_norm", "logsumexp"}
ALONG_DIM = {"_softmax", "_log_softmax", "cumsum", "sort"}
POINTWISE = {
    "hardswish",
    "_prelu_kernel",
    "hardtanh",
    "leaky_relu",
    "threshold",
    "softplus",
    "elu",
    "mish",
    "celu",
}


def apply_rule(call: Call) -> str:
    """Give the outputs of one operator their labels; freeze what the operator mixes."""
    base = call.base
    if not any(item.labelled for item in call.known) and base not in layers.RULES:
        call.learn_unlabelled()
        return _kind(base, call.func)
    rule = RULES.get(base) or layers.RULES.get(base)
    if rule is None and (torch.Tag.pointwise in call.func.tags or base in POINTWISE):
        rule = combine
    return (rule or _unknown)(call)


def _kind(base: str, func: Any) -> str:
    if base in SAME | MOVES | VIEWS or base in ("cat", "split", "split_with_sizes", "slice"):
        return "move"
    return "pointwise" if torch.Tag.pointwise in func.tags or base in POINTWISE else "other"


def _unknown(call: Call) -> str:
    call.freeze_all(f"{call.name} has no removal rule")
    call.learn_unlabelled()
    return "other"


def _same(call: Call) -> str:
    call.tracer.learn(call.outputs[0], call.known[0].labels, call.known[0].const, call.known[0].origin)
    return "move"


def _move(call: Call) -> str:
    planes = [call.func(plane, *call.args[1:], **call.given) for plane in call.known[0].labels]
    turned = call.name in ("t", "transpose", "permute", "repeat")
    const = call.func(call.known[0].const, *call.args[1:], **call.given)
    call.tracer.learn(call.outputs[0], planes, const, call.known[0].origin if turned else "")
    return "move"


def _view(call: Call) -> str:
    shape = call.outputs[0].shape
    planes = [plane.reshape(shape) for plane in call.known[0].labels]
    if len(planes) == 1:
        keep_rectangular(call.tracer, planes[0])
    call.tracer.learn(call.outputs[0], planes, call.known[0].const.reshape(shape))
    return "move"


def keep_rectangular(tracer: Tracer, labels: Tensor, keep: int | None = None) -> None:
    """Couple what a view split apart, so that removal leaves a full grid: the widest dimension stays free."""
    dims = varying_dims(labels)
    if len(dims) < 2:
        return
    free = keep if keep is not None else max(dims, key=lambda d: labels.shape[d])
    for dim in dims:
        if dim != free:
            tracer.trace.labels.unite(labels, labels.narrow(dim, 0, 1))


def _shuffle(call: Call) -> str:
    planes = [call.func(plane.contiguous(), *call.args[1:]) for plane in call.known[0].labels]
    for plane in planes:
        if call.name == "channel_shuffle":
            keep_rectangular(
                call.tracer, plane.reshape(plane.shape[0], -1, call.args[1], *plane.shape[2:]), keep=1
            )
        else:
            keep_rectangular(call.tracer, plane, keep=1)
    call.tracer.learn(call.outputs[0], planes, call.func(call.known[0].const.contiguous(), *call.args[1:]))
    return "other"


def _cat(call: Call) -> str:
    if any(len(item.labels) != 1 for item in call.known):
        return _unknown(call)
    rest = call.args[1:]
    labels = call.func([item.labels[0] for item in call.known], *rest, **call.given)
    call.tracer.learn(
        call.outputs[0], [labels], call.func([item.const for item in call.known], *rest, **call.given)
    )
    return "move"


def _split(call: Call) -> str:
    item, dim = call.known[0], _dim(call.args, call.given, 2, call.known[0])
    if len(item.labels) != 1:
        return _unknown(call)
    parts = call.func(item.labels[0], *call.args[1:], **call.given)
    flags = call.func(item.const, *call.args[1:], **call.given)
    if dim in varying_dims(item.labels[0]):
        sizes = [part.shape[dim] for part in parts]
        lines = [along(part, dim) for part in parts]
        if call.name == "split":
            if call.tracer.functions.name != "chunk":
                _bind(call.tracer, call.args[1], lines[0], item.labels[0])
            call.tracer.trace.equal_counts.append(tuple(line.numpy().copy() for line in lines))
            if len(set(sizes)) > 1:
                call.tracer.trace.labels.freeze(item.labels[0], call.tracer.where("split into unequal parts"))
        else:
            for size, line in zip(sizes, lines, strict=True):
                _bind(call.tracer, size, line, line)
    for tensor, part, flag in zip(call.outputs, parts, flags, strict=True):
        call.tracer.learn(tensor, [part], flag)
    return "move"


def _slice(call: Call) -> str:
    item = call.known[0]
    planes = [call.func(plane, *call.args[1:], **call.given) for plane in item.labels]
    dim = (call.args[1] if len(call.args) > 1 else 0) % item.tensor.dim()
    size = item.tensor.shape[dim]
    start, end, step = (call.args[2:5] + (None,) * 3)[:3] if isinstance(call.args, tuple) else (None, None, None)
    for plane in item.labels:
        if dim in varying_dims(plane):
            if step not in (None, 1):
                call.tracer.trace.labels.freeze(plane, call.tracer.where("slice with a step"))
            for bound in (start, end):
                if bound is not None and 0 < bound < size:
                    _bind(call.tracer, bound, along(plane, dim)[:bound], plane)
                elif bound is not None and -size < bound < 0:
                    call.tracer.trace.labels.freeze(plane, call.tracer.where("slice from the end"))
    call.tracer.learn(call.outputs[0], planes, call.func(item.const, *call.args[1:], **call.given))
    return "move"


def _bind(tracer: Tracer, size: int, counted: Tensor, touched: Tensor) -> None:
    """Find the integer that a split takes its bound from, an attribute or a normalization's size; else freeze."""
    module = tracer.net.get_submodule(tracer.module)
    own = [name for name, value in vars(module).items() if type(value) is int and value == size]
    for name in own:
        tracer.trace.bindings.append(Binding(tracer.module, name, counted.numpy().copy()))
    norms = [child for child in module.children() if getattr(child, "num_features", None) == size]
    if not own and not norms:
        tracer.trace.labels.freeze(touched, tracer.where(f"split at {size}, which is no attribute of the module,"))


def _select(call: Call) -> str:
    item, dim = call.known[0], _dim(call.args, call.given, 1, call.known[0])
    for plane in item.labels:
        if dim in varying_dims(plane):
            call.tracer.trace.labels.freeze(plane, call.tracer.where("channels taken by number"))
    pieces = [call.func(plane, *call.args[1:], **call.given) for plane in (*item.labels, item.const)]
    if isinstance(pieces[0], Tensor):
        pieces = [(piece,) for piece in pieces]
    for number, tensor in enumerate(call.outputs):
        call.tracer.learn(tensor, [piece[number] for piece in pieces[:-1]], pieces[-1][number])
    return "move"


def _dim(args: Sequence[Any], given: dict[str, Any], position: int, item: Known) -> int:
    dim = given.get("dim", args[position] if len(args) > position else 0)
    return int(dim) % item.tensor.dim()


def _spatial(call: Call) -> str:
    labels, const = channelwise(call.tracer, call.known[0])
    if call.name.startswith("avg_pool") and any(flatten_ints(call.args[3:4])):
        const = _fading(call.known[0], const)
    for tensor in call.outputs:
        call.tracer.learn(tensor, [spread(labels, tensor.shape, 1)], spread(const, tensor.shape, 1))
    return "spatial"


def channelwise(tracer: Tracer, item: Known) -> tuple[Tensor, Tensor]:
    """Labels and flags per channel (dimension 1); what differs along another dimension is coupled."""
    labels = item.labels[0]
    line = along(labels, 1)
    if varying_dims(labels) not in ([], [1]):
        tracer.trace.labels.unite(labels, spread(line, labels.shape, 1))
    return line, lowest(item.const, 1)


def _fading(item: Known, const: Tensor) -> Tensor:
    """Levels per channel behind a padding with zeros: a constant that is not zero shows it."""
    nonzero = (item.tensor.detach() != 0).transpose(0, 1).flatten(1).any(dim=1)
    return torch.where(nonzero, const.clamp(max=RAGGED), const)


def flatten_ints(values: Sequence[Any]) -> list[int]:
    """Numbers in possibly nested lists."""
    return [n for v in values for n in (flatten_ints(v) if isinstance(v, (list, tuple)) else [int(v)])]


def _pad(call: Call) -> str:
    item, shape = call.known[0], call.outputs[0].shape
    if float(call.args[2] if len(call.args) > 2 else 0) != 0:
        return _unknown(call)
    padded = {d for d in range(len(shape)) if shape[d] != item.tensor.shape[d]}
    if padded & set(varying_dims(item.labels[0])):
        return _unknown(call)
    labels, const = channelwise(call.tracer, item)
    const = _fading(item, const)
    call.tracer.learn(call.outputs[0], [spread(labels, shape, 1)], spread(const, shape, 1))
    return "spatial"


def _reduce(call: Call) -> str:
    item = call.known[0]
    place = 2 if call.name == "linalg_vector_norm" else 1
    dims = call.given.get("dim", call.args[place] if len(call.args) > place else None)
    dims = range(item.tensor.dim()) if dims is None else [dims] if isinstance(dims, int) else dims
    reduced = sorted({d % item.tensor.dim() for d in dims})
    labels, const = item.labels[0], item.const
    if set(reduced) & set(varying_dims(labels)):
        return _unknown(call)
    keep = call.outputs[0].dim() == item.tensor.dim()
    for dim in reversed(reduced):
        labels = labels.narrow(dim, 0, 1) if keep else labels.select(dim, 0)
        const = const.amin(dim=dim, keepdim=keep)
    if call.base == "logsumexp":
        call.tracer.trace.labels.stir(item.labels[0], call.outputs[0])
    if call.base not in ("mean", "amax", "amin", "max", "min"):
        const = torch.where(call.outputs[0] != 0, const.clamp(max=RAGGED), const)
    for tensor in call.outputs:
        call.tracer.learn(tensor, [labels], const)
    return "spatial"


def _along_dim(call: Call) -> str:
    """A constant's softmax depends on how many positions there are."""
    item = call.known[0]
    dim = int(call.args[1]) % item.tensor.dim()
    if dim in varying_dims(item.labels[0]):
        return _unknown(call)
    const = item.const.amin(dim=dim, keepdim=True).expand(item.const.shape).clamp(max=RAGGED)
    call.tracer.trace.labels.stir(item.labels[0], call.outputs[0])
    for tensor in call.outputs:
        call.tracer.learn(tensor, item.labels, const)
    return "spatial"


RULES: dict[str, Rule] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(VIEWS, _view),
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(ALONG_DIM, _along_dim),
    **dict.fromkeys(("channel_shuffle", "pixel_shuffle", "pixel_unshuffle"), _shuffle),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("select", "unbind"), _select),
    "cat": _cat,
    "slice": _slice,
    "constant_pad_nd": _pad,
}
