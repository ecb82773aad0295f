"""Operators that work element by element: what meets in one element is coupled."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.models.channels.call import Call
from toolkit.models.channels.labels import (
    EVEN,
    VARYING,
    collapse,
    every,
    expanded,
    level,
    nothing,
    single_level,
    some,
    varying_dims,
)
from toolkit.models.channels.records import Addition, Known
from toolkit.models.channels.trace import Tracer

KEEP_ZERO = {
    *("relu", "leaky_relu", "_prelu_kernel", "silu", "gelu", "hardswish", "mish", "elu", "celu", "tanh"),
    *("mul", "abs", "neg"),
}


def combine(call: Call) -> str:
    """Couple the operands' channels and give the output their labels.

    An operand that is repeated over the channels (a spatial gate) is not coupled to them; it must only stay.
    An operand without labels that has one value per channel cannot shrink, so its partner is frozen.
    """
    tracer, known, outputs = call.tracer, call.known, call.outputs
    labels, const = _coupled(tracer, known, outputs[0].shape), _const(call)
    name = call.base
    if name in ("sigmoid", "hardsigmoid"):
        tracer.trace.sigmoids.add(id(outputs[0]))
    elif name == "mul":
        _note_gate(tracer, known)
    elif name == "add" and len(known) == 2 and known[0].tensor.shape == known[1].tensor.shape:
        ids = (id(known[0].tensor), id(known[1].tensor))
        tracer.trace.additions.append(Addition(tracer.module, ids, tracer.in_edge))
    if not _keeps_zero(call):
        tracer.trace.labels.stir(labels, outputs[0])
    for tensor in outputs:
        tracer.learn(tensor, [labels], const)
    return "pointwise"


def _coupled(tracer: Tracer, known: list[Known], shape: torch.Size) -> Tensor:
    """Labels of the output, the operands' channels coupled."""
    if len(known) == 1 and len(known[0].labels) == 1 and known[0].tensor.shape == shape:
        return known[0].labels[0]
    base = _leading(known, shape)
    planes = [expanded(plane, shape) for item in known for plane in _operand(tracer, item, base, shape)]
    labels = planes[0] if planes else nothing(shape)
    for plane in planes[1:]:
        tracer.trace.labels.unite(labels, plane)
        labels = _merged(labels, plane)
    for plane in planes:
        _freeze_partners(tracer, labels, plane)
    return labels


def _keeps_zero(call: Call) -> bool:
    """Whether zeros in a channel surely give zeros in that channel."""
    name = call.base
    if name in ("hardtanh", "clamp"):
        low, high = (*call.args[1:3], None, None)[:2]
        return isinstance(low, (int, float)) and low <= 0 and (high is None or high >= 0)
    if name in ("add", "sub"):
        return len(call.known) == 2 and all(_zero_with_its_channel(item) for item in call.known)
    return name in KEEP_ZERO


def _zero_with_its_channel(item: Known) -> bool:
    """An activation of channels, or zero for every input (the number that a sum begins with)."""
    if item.origin:
        return False
    return every(item.labels[0]) or (single_level(item.const) == EVEN and not bool(item.tensor.any()))


def _leading(known: list[Known], shape: torch.Size) -> Tensor:
    """Labels of the operand that covers the most: an activation before a parameter."""
    activations = [item for item in known if not item.origin and item.labelled]
    pool = activations or known
    return expanded(max(pool, key=lambda item: item.tensor.numel()).labels[0], shape)


def _operand(tracer: Tracer, item: Known, base: Tensor, shape: torch.Size) -> list[Tensor]:
    """The operand's labels that meet the leading operand's, broadcast; empty where nothing meets."""
    varying = varying_dims(base)
    missing = len(shape) - item.tensor.dim()
    size = [1] * missing + list(item.tensor.shape)
    repeated = bool(varying) and all(size[dim] == 1 for dim in varying)
    if repeated:
        if not item.origin:
            for plane in item.labels:
                tracer.trace.labels.freeze(plane, tracer.where("one channel works on all channels"))
        return []
    if len(item.labels) == 1:
        return [item.labels[0]]
    return [plane for plane in item.labels if [d + missing for d in varying_dims(plane)] == varying]


def _merged(first: Tensor, second: Tensor) -> Tensor:
    """The first tensor's labels, and the second's where the first has none."""
    if every(first) or not some(second):
        return first
    return second if not some(first) else torch.where(first > 0, first, second)


def _freeze_partners(tracer: Tracer, labels: Tensor, plane: Tensor) -> None:
    if labels is plane or every(plane):
        return
    a, b = torch.broadcast_tensors(collapse(labels), collapse(plane))
    alone = (a > 0) & (b == 0)
    if bool(alone.any()):
        tracer.trace.labels.freeze(
            a[alone], tracer.where("combined with a tensor that has no channels of its own")
        )


def _const(call: Call) -> Tensor:
    out = call.outputs[0]
    if len(call.known) == 1 and call.known[0].tensor.shape == out.shape:
        return call.known[0].const
    if all(single_level(item.const) == VARYING for item in call.known):
        return level(VARYING, out.shape)
    levels = [item.const.expand(out.shape) for item in call.known]
    const = levels[0]
    for other in levels[1:]:
        const = torch.minimum(const, other)
    if call.base == "mul":
        for item, own in zip(call.known, levels, strict=True):
            if item.tensor is not out and bool(collapse(own).any()):
                zero = (own > VARYING) & (item.tensor == 0).expand(out.shape)
                const = torch.where(zero, own, const)
    return const


def _note_gate(tracer: Tracer, known: list[Known]) -> None:
    """Remember the gate of a product, a sigmoid or the broadcast factor: not it is masked, but what it gates."""
    if len(known) != 2 or known[0].origin or known[1].origin:
        return
    ids = [id(item.tensor) for item in known]
    sizes = [item.tensor.numel() for item in known]
    sigmoids = [number for number in ids if number in tracer.trace.sigmoids]
    if len(sigmoids) == 1:
        tracer.trace.gates.add(sigmoids[0])
    elif sizes[0] != sizes[1]:
        tracer.trace.gates.add(ids[sizes[0] > sizes[1]])
