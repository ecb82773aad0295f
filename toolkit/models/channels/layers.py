"""Operators with weights: convolution, linear layers and normalizations."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.models.channels.call import Call
from toolkit.models.channels.labels import (
    EVEN,
    RAGGED,
    VARYING,
    along,
    collapse,
    facts_of,
    level,
    line_of,
    lowest,
    single_level,
    spread,
    varying_dims,
)
from toolkit.models.channels.records import Consumption, Known, Production
from toolkit.models.channels.trace import Tracer


def _lookup(tracer: Tracer, tensor: Tensor | None) -> Known | None:
    return None if tensor is None else tracer.look(tensor)


def _convolution(call: Call) -> str:
    x, weight, bias = (
        call.tracer.look(call.args[0]),
        call.tracer.look(call.args[1]),
        _lookup(call.tracer, call.args[2]),
    )
    stride, padding, transposed, groups = call.args[3], call.args[4], bool(call.args[6]), int(call.args[8])
    if not weight.origin or weight.tensor is not call.tracer.trace.parameters.get(weight.origin, weight).tensor:
        return _computed_weight(call)
    in_dim, out_dim = (0, 1) if transposed else (1, 0)
    line, const_in, uniform, value = _arriving(call.tracer, x, 1)
    if groups == 1:
        produced = call.tracer.parameter_labels(weight, out_dim)
        _match(call.tracer, line, call.tracer.parameter_labels(weight, in_dim), "input of a convolution")
    else:
        produced = _grouped(call.tracer, line, weight, transposed, groups)
    if bias is not None:
        _match(call.tracer, call.tracer.parameter_labels(bias, 0), produced, "bias of a convolution")
    bordered = any(int(p) != 0 for p in padding) or (transposed and any(int(s) != 1 for s in stride))
    _consume(call.tracer, weight, in_dim, line, const_in, uniform, value, bordered, groups > 1)
    const = _level_out(weight.tensor.detach(), const_in, value, bordered, transposed, groups)
    repeats = (call.args[0] if transposed else call.outputs[0]).shape[2:].numel()
    _produce(call.tracer, weight, call.outputs[0], produced, const, repeats, out_dim)
    return "mix"


def _connected(kernels: Tensor) -> Tensor:
    """Which kernels are not all zero: ``(O, I/g, k)`` to ``(O, I/g)``. Mostly one element of each says so."""
    first = kernels[:, :, 0] != 0
    return first if bool(first.all()) else (kernels != 0).any(dim=2)


def _level_out(
    weight: Tensor, const_in: Tensor, value: Tensor, bordered: bool, transposed: bool, groups: int
) -> Tensor:
    """Level of every output channel of a convolution. Mostly one weight of each filter says that it varies."""
    sample = weight.flatten(1)[:, 0]
    if single_level(const_in) == VARYING and not transposed and bool((sample != 0).all()):
        return level(VARYING, weight.shape[:1])
    fading = torch.where(value != 0, const_in.clamp(max=RAGGED), const_in) if bordered else const_in
    return _const_out(_connected(weight.flatten(2)), fading, transposed, groups)


def _arriving(tracer: Tracer, x: Known, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per channel of an input: label, constant, uniform over positions, value. ``(I,)`` each."""
    labels = x.labels[0]
    line = along(labels, dim)
    if varying_dims(labels) not in ([], [dim]):
        tracer.trace.labels.unite(labels, spread(line, labels.shape, dim))
    const = lowest(x.const, dim)
    if single_level(const) == VARYING or not bool(const.any()):
        return line, const, torch.zeros(len(line), dtype=torch.bool), torch.zeros(len(line), dtype=torch.float64)
    values = x.tensor.detach().movedim(dim, 0).flatten(1).double()
    low, high = values.amin(dim=1), values.amax(dim=1)
    uniform = (const == EVEN) & ((high - low) <= 1e-12 * torch.maximum(low.abs(), high.abs()))
    value = torch.where(uniform, (low + high) / 2, values.mean(dim=1))
    return line, const, uniform, value


def _match(tracer: Tracer, first: Tensor, second: Tensor, what: str) -> None:
    tracer.trace.labels.unite(first, second)
    if first.dim() == 1 == second.dim() and facts_of(first).every and facts_of(second).every:
        return
    if (first.numpy() == 0).any() or (second.numpy() == 0).any():
        reason = tracer.where(f"{what} that has no channels of its own")
        tracer.trace.labels.freeze(first[second == 0], reason)
        tracer.trace.labels.freeze(second[first == 0], reason)


def _grouped(tracer: Tracer, line: Tensor, weight: Known, transposed: bool, groups: int) -> Tensor:
    """Couple all inputs and outputs of each group: a grouped convolution loses whole groups only."""
    if transposed:
        _match(tracer, line, tracer.parameter_labels(weight, 0), "input of a grouped convolution")
        produced = tracer.trace.labels.new(weight.tensor.shape[1] * groups)
        tracer.trace.labels.freeze(produced, tracer.where("grouped transposed convolution"))
    else:
        produced = tracer.parameter_labels(weight, 0)
    ins, outs = line.reshape(groups, -1), produced.reshape(groups, -1)
    tracer.trace.labels.unite(ins, ins[:, :1])
    _match(tracer, outs, ins[:, :1].expand(outs.shape), "input of a grouped convolution")
    return produced


def _const_out(nonzero: Tensor, const_in: Tensor, transposed: bool, groups: int) -> Tensor:
    """Level of every output channel, the lowest it reads. ``nonzero``: ``(O, I/g)``, transposed ``(I, O/g)``."""
    if not bool(const_in.any()) and bool(nonzero.any(dim=0 if transposed else 1).all()):
        outputs = nonzero.shape[1] * groups if transposed else len(nonzero)
        return level(VARYING, torch.Size((outputs,)))
    if transposed:
        blocks = nonzero.reshape(groups, -1, nonzero.shape[1]).transpose(1, 2)
    else:
        blocks = nonzero.reshape(groups, -1, nonzero.shape[1])
    levels = const_in.reshape(groups, 1, -1).expand(blocks.shape)
    return torch.where(blocks, levels, torch.full_like(levels, EVEN)).amin(dim=2).reshape(-1)


def _consume(
    tracer: Tracer, weight: Known, dim: int, line: Tensor, const: Tensor, uniform: Tensor, value: Tensor,
    bordered: bool, grouped: bool,
) -> None:  # fmt: skip
    arrays = (line.numpy().copy(), const.numpy() > VARYING, uniform.numpy(), value.numpy())
    tracer.trace.consumptions.append(
        Consumption(tracer.module, weight.origin, dim, *arrays, bordered=bordered, grouped=grouped)
    )


def _produce(
    tracer: Tracer, weight: Known, out: Tensor, labels: Tensor, const: Tensor, repeats: int, out_dim: int
) -> None:
    known = single_level(const)
    levels = spread(const, out.shape, 1) if known is None else level(known, out.shape)
    tracer.learn(out, [spread(labels, out.shape, 1)], levels)
    line = labels.numpy().copy()
    positions = out.numel() // (len(line) * tracer.batch)
    tracer.trace.productions.append(
        Production(tracer.module, weight.origin, id(out), line, tracer.in_edge, positions, repeats, out_dim)
    )


def _computed_weight(call: Call) -> str:
    call.freeze_all("a weight that is computed, not a parameter,")
    call.learn_unlabelled()
    return "mix"


def _matmul(call: Call) -> str:
    name = call.name
    bias = call.tracer.look(call.args[0]) if name == "addmm" else None
    x, weight = (call.tracer.look(t) for t in (call.args[1:3] if bias is not None else call.args[:2]))
    source = call.tracer.trace.parameters[weight.origin].tensor if weight.origin else None
    if name not in ("mm", "addmm") or x.origin or source is None or source.data_ptr() != weight.tensor.data_ptr():
        return _computed_weight(call)
    straight = source.shape == weight.tensor.shape and source.stride() == weight.tensor.stride()
    line, const_in, uniform, value = _arriving(call.tracer, x, 1)
    parameter = call.tracer.trace.parameters[weight.origin]
    in_dim, out_dim = (0, 1) if straight else (1, 0)
    produced = call.tracer.parameter_labels(parameter, out_dim)
    _match(call.tracer, line, call.tracer.parameter_labels(parameter, in_dim), "input of a linear layer")
    if bias is not None:
        _match(call.tracer, call.tracer.parameter_labels(bias, 0), produced, "bias of a linear layer")
    _consume(call.tracer, weight, in_dim, line, const_in, uniform, value, False, False)
    nonzero = (weight.tensor.detach() != 0).transpose(0, 1)
    const = _const_out(nonzero, const_in, False, 1)
    repeats = call.outputs[0].shape[0] // call.tracer.batch
    _produce(call.tracer, parameter, call.outputs[0], produced, const, repeats, out_dim)
    return "mix"


def _batch_norm(call: Call) -> str:
    x, scale = call.tracer.look(call.args[0]), _lookup(call.tracer, call.args[1])
    labels, const = x.labels[0], x.const
    if varying_dims(labels) not in ([], [1]):
        call.tracer.trace.labels.unite(labels, spread(along(labels, 1), labels.shape, 1))
    line = along(labels, 1)
    for item in (_lookup(call.tracer, tensor) for tensor in call.args[1:5]):
        if item is not None:
            own = along(item.labels[0], 0)
            _match(call.tracer, line, own, "normalization")
    if bool(call.args[5]):
        const = const if single_level(const) is not None else spread(lowest(const, 1), const.shape, 1)
    if scale is not None:
        silent = scale.tensor.detach() == 0
        if bool(silent.any()):
            const = level(EVEN, const.shape).where(spread(silent, const.shape, 1), const)
        call.tracer.trace.norms.append(
            Production(
                call.tracer.module, scale.origin, id(call.outputs[0]), line.numpy().copy(), call.tracer.in_edge
            )
        )
    else:
        call.tracer.trace.labels.stir(line, call.outputs[0])
    known = line_of(labels)
    if known is None or known.dim != 1:
        labels = spread(line, call.outputs[0].shape, 1)
    call.tracer.learn(call.outputs[0], [labels], const)
    call.learn_unlabelled(1)
    return "norm" if scale is not None else "other"


def _mixing_norm(call: Call) -> str:
    """LayerNorm and GroupNorm: their statistics run over channels, so none may go."""
    x = call.tracer.look(call.args[0])
    name = "LayerNorm" if call.name == "native_layer_norm" else "GroupNorm"
    dims = varying_dims(x.labels[0])
    first = x.tensor.dim() - len(call.args[1]) if name == "LayerNorm" else 0
    per_channel = name == "GroupNorm" and int(call.args[6]) == x.tensor.shape[1]
    if per_channel:
        for item in (_lookup(call.tracer, tensor) for tensor in call.args[1:3]):
            if item is not None:
                _match(call.tracer, along(x.labels[0], 1), along(item.labels[0], 0), name)
    elif any(dim >= first for dim in dims):
        call.freeze_all(f"{name} averages over channels")
    flag = level(int(collapse(x.const).min()), x.const.shape)
    if per_channel:
        flag = spread(lowest(x.const, 1), x.const.shape, 1)
    call.tracer.trace.labels.stir(x.labels[0], call.outputs[0])
    call.tracer.learn(call.outputs[0], [x.labels[0]], flag)
    call.learn_unlabelled(1)
    return "other"


RULES = {
    "convolution": _convolution,
    "addmm": _matmul,
    "mm": _matmul,
    "bmm": _computed_weight,
    "baddbmm": _computed_weight,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "native_layer_norm": _mixing_norm,
    "native_group_norm": _mixing_norm,
}
