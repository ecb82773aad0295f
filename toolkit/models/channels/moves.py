"""Operators that only move data: they are applied to the labels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from toolkit.models.channels.call import Call
from toolkit.models.channels.labels import along, level, line_of, single_level, spread, varying_dims
from toolkit.models.channels.records import Binding, Known
from toolkit.models.channels.trace import Tracer

SAME = {"clone", "detach", "alias", "_to_copy", "lift_fresh", "contiguous", "native_dropout"}
MOVES = {"permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "repeat", "flip"}
VIEWS = {"view", "_unsafe_view", "reshape", "unflatten"}
MOVING = SAME | MOVES | VIEWS | {"cat", "split", "split_with_sizes", "slice"}


def same(call: Call) -> str:
    call.tracer.learn(call.outputs[0], call.known[0].labels, call.known[0].const, call.known[0].origin)
    return "move"


def move(call: Call) -> str:
    planes = [call.func(plane, *call.args[1:], **call.given) for plane in call.known[0].labels]
    turned = call.name in ("t", "transpose", "permute", "repeat")
    const = _moved(call, call.known[0].const, call.outputs[0])
    call.tracer.learn(call.outputs[0], planes, const, call.known[0].origin if turned else "")
    return "move"


def roll(call: Call) -> str:
    """As data movement along pixels; a shift by a number of channels is another one when some are gone."""
    planes = call.known[0].labels
    along_these = [int(dim) % planes[0].dim() for dim in (call.args[2] if len(call.args) > 2 else ())]
    if not along_these or any(dim in along_these for plane in planes for dim in varying_dims(plane)):
        return call.refuse()
    return move(call)


def _moved(call: Call, levels: Tensor, output: Tensor) -> Tensor:
    """Levels behind an operator that moves data."""
    known = single_level(levels)
    if known is not None:
        return level(known, output.shape)
    return cast(Tensor, call.func(levels, *call.args[1:], **call.given))


def _cut(whole: Tensor, part: Tensor) -> Tensor:
    """A part of labels whose dimensions are those of the whole, with what is remembered of it."""
    line = line_of(whole)
    return part if line is None else spread(along(part, line.dim), part.shape, line.dim)


def view(call: Call) -> str:
    shape = call.outputs[0].shape
    planes = [plane.reshape(shape) for plane in call.known[0].labels]
    if len(planes) == 1:
        keep_rectangular(call.tracer, planes[0])
    known = single_level(call.known[0].const)
    const = call.known[0].const.reshape(shape) if known is None else level(known, shape)
    call.tracer.learn(call.outputs[0], planes, const)
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


def shuffle(call: Call) -> str:
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


def cat(call: Call) -> str:
    if any(len(item.labels) != 1 for item in call.known):
        return call.refuse()
    call.tracer.learn(call.outputs[0], [_joined(call)], _joined_levels(call))
    return "move"


def _joined(call: Call) -> Tensor:
    planes = [item.labels[0] for item in call.known]
    dim = _dim(call.args, call.given, 1, call.known[0])
    lines = [line for line in map(line_of, planes) if line is not None and line.dim == dim]
    if len(lines) == len(planes):
        return spread(torch.cat([line.vector for line in lines]), call.outputs[0].shape, dim)
    return cast(Tensor, call.func(planes, *call.args[1:], **call.given))


def _joined_levels(call: Call) -> Tensor:
    found = {single_level(item.const) for item in call.known}
    known = found.pop() if len(found) == 1 else None
    if known is not None:
        return level(known, call.outputs[0].shape)
    return cast(Tensor, call.func([item.const for item in call.known], *call.args[1:], **call.given))


def split(call: Call) -> str:
    item, dim = call.known[0], _dim(call.args, call.given, 2, call.known[0])
    if len(item.labels) != 1:
        return call.refuse()
    parts = [_cut(item.labels[0], part) for part in call.func(item.labels[0], *call.args[1:], **call.given)]
    known = single_level(item.const)
    if known is None:
        flags = call.func(item.const, *call.args[1:], **call.given)
    else:
        flags = [level(known, part.shape) for part in parts]
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


def slice_(call: Call) -> str:
    item = call.known[0]
    planes = [_cut(plane, call.func(plane, *call.args[1:], **call.given)) for plane in item.labels]
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
    call.tracer.learn(call.outputs[0], planes, _moved(call, item.const, call.outputs[0]))
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


def select(call: Call) -> str:
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


RULES = {
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(VIEWS, view),
    "roll": roll,
    **dict.fromkeys(("channel_shuffle", "pixel_shuffle", "pixel_unshuffle"), shuffle),
    **dict.fromkeys(("split", "split_with_sizes"), split),
    **dict.fromkeys(("select", "unbind"), select),
    "cat": cat,
    "slice": slice_,
}
