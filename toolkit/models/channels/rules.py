"""What every operator does to labels. Names are ATen's; in-place forms share their rule.

``apply_rule`` returns what kind of reader the operator was: ``move`` (data movement), ``norm``, ``mix``
(convolution, linear), ``pointwise``, ``spatial``, or ``other``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from toolkit.models.channels import layers, moves
from toolkit.models.channels.call import Call
from toolkit.models.channels.labels import (
    RAGGED,
    VARYING,
    along,
    level,
    line_of,
    lowest,
    single_level,
    spread,
    varying_dims,
)
from toolkit.models.channels.pointwise import combine
from toolkit.models.channels.records import Known
from toolkit.models.channels.trace import Tracer

Rule = Callable[[Call], str]

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
    rule, kind = _rule_and_kind(call.func, call.base)
    if kind != "mix" and not any(item.labelled for item in call.known):
        call.learn_unlabelled()
        return kind
    return rule(call)


@cache
def _rule_and_kind(func: Any, base: str) -> tuple[Rule, str]:
    """An operator's rule, and what kind of reader it is when it reads no channels."""
    rule = RULES.get(base) or layers.RULES.get(base)
    if rule is None:
        rule = combine if torch.Tag.pointwise in func.tags or base in POINTWISE else Call.refuse
    return rule, _kind(base, func)


def _kind(base: str, func: Any) -> str:
    if base in layers.RULES:
        return "mix"
    if base in moves.MOVING:
        return "move"
    return "pointwise" if torch.Tag.pointwise in func.tags or base in POINTWISE else "other"


def _spatial(call: Call) -> str:
    labels, const = channelwise(call.tracer, call.known[0])
    if call.name.startswith("avg_pool") and any(flatten_ints(call.args[3:4])):
        const = _fading(call.known[0], const)
    for tensor in call.outputs:
        known = single_level(const)
        levels = spread(const, tensor.shape, 1) if known is None else level(known, tensor.shape)
        call.tracer.learn(tensor, [spread(labels, tensor.shape, 1)], levels)
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
    if single_level(const) == VARYING:
        return const
    nonzero = (item.tensor.detach() != 0).transpose(0, 1).flatten(1).any(dim=1)
    return torch.where(nonzero, const.clamp(max=RAGGED), const)


def flatten_ints(values: Sequence[Any]) -> list[int]:
    """Numbers in possibly nested lists."""
    return [n for v in values for n in (flatten_ints(v) if isinstance(v, (list, tuple)) else [int(v)])]


def _pad(call: Call) -> str:
    item, shape = call.known[0], call.outputs[0].shape
    if float(call.args[2] if len(call.args) > 2 else 0) != 0:
        return call.refuse()
    padded = {d for d in range(len(shape)) if shape[d] != item.tensor.shape[d]}
    if padded & set(varying_dims(item.labels[0])):
        return call.refuse()
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
        return call.refuse()
    keep = call.outputs[0].dim() == item.tensor.dim()
    line, known, shape = line_of(labels), single_level(const), call.outputs[0].shape
    for dim in reversed(reduced):
        labels = labels.narrow(dim, 0, 1) if keep else labels.select(dim, 0)
        const = const if known is not None else const.amin(dim=dim, keepdim=keep)
    if line is not None and line.dim not in reduced:
        labels = spread(line.vector, shape, line.dim if keep else line.dim - sum(d < line.dim for d in reduced))
    if known is not None:
        const = level(known, shape)
    if call.base == "logsumexp":
        call.tracer.trace.labels.stir(item.labels[0], call.outputs[0])
    if call.base not in ("mean", "amax", "amin", "max", "min") and known != VARYING:
        const = torch.where(call.outputs[0] != 0, const.clamp(max=RAGGED), const)
    for tensor in call.outputs:
        call.tracer.learn(tensor, [labels], const)
    return "spatial"


def _along_dim(call: Call) -> str:
    """A constant's softmax depends on how many positions there are."""
    item = call.known[0]
    dim = int(call.args[1]) % item.tensor.dim()
    if dim in varying_dims(item.labels[0]):
        return call.refuse()
    const = item.const.amin(dim=dim, keepdim=True).expand(item.const.shape).clamp(max=RAGGED)
    call.tracer.trace.labels.stir(item.labels[0], call.outputs[0])
    for tensor in call.outputs:
        call.tracer.learn(tensor, item.labels, const)
    return "spatial"


RULES: dict[str, Rule] = {
    **moves.RULES,
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(ALONG_DIM, _along_dim),
    "constant_pad_nd": _pad,
}
