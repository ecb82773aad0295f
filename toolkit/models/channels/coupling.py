"""From one trace: the places where masks act, the removable blocks, and what is frozen."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from toolkit.models.channels.labels import Indices, along, varying_dims
from toolkit.models.channels.records import Production, Trace
from toolkit.models.channels.structures import FrozenChannels, ResidualBlock


def frozen_roots(trace: Trace, roots: Indices) -> dict[int, str]:
    frozen: dict[int, str] = {}
    for label, reason in trace.labels.frozen.items():
        frozen.setdefault(int(roots[label]), reason)
    return frozen


def frozen_layers(trace: Trace, roots: Indices, frozen: dict[int, str]) -> tuple[FrozenChannels, ...]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    stays = np.zeros(len(roots), dtype=bool)
    stays[list(frozen)] = True
    for production in trace.productions:
        mine = roots[production.labels]
        if production.in_edge and stays[mine].any():
            for root, number in zip(*np.unique(mine[stays[mine]], return_counts=True), strict=True):
                found[production.module, frozen[int(root)]] += int(number)
    listed = [FrozenChannels(layer, number, reason) for (layer, reason), number in found.items()]
    named = {entry.layer for entry in listed}
    silent = [(module, reason) for module, reason in trace.unhandled.items() if module not in named]
    known = {entry.reason for entry in listed}
    return (*listed, *(FrozenChannels(module, 0, reason) for module, reason in silent if reason not in known))


def _follow(trace: Trace, tensor: int) -> list[int] | None:
    """Outputs of the normalizations that read a tensor, through data movement; None for any other reader."""
    found: list[int] = []
    for use in trace.uses.get(tensor, []):
        if use.kind == "move":
            for output in use.outputs:
                deeper = _follow(trace, output)
                if deeper is None:
                    return None
                found += deeper
        elif use.kind == "norm":
            found.append(use.outputs[0])
        else:
            return None
    return found


def _is_gate(trace: Trace, tensor: int) -> bool:
    """Whether a layer's output only opens and closes other channels (squeeze-excitation)."""
    seen, queue = set(), [tensor]
    while queue:
        current = queue.pop()
        if current in trace.gates:
            return True
        seen.add(current)
        for use in trace.uses.get(current, []):
            if use.kind in ("pointwise", "move", "norm"):
                queue += [o for o in use.outputs[:1] if o not in seen and len(trace.parents.get(o, ())) < 3
                          and not _is_sum(trace, o)]  # fmt: skip
    return False


def _is_sum(trace: Trace, tensor: int) -> bool:
    activations = [p for p in trace.parents.get(tensor, ()) if p in trace.uses and not trace.known[p].origin]
    return len(activations) > 1


def mask_points(net: nn.Module, trace: Trace) -> dict[str, Indices]:
    """Paths of the modules that masks multiply, with the labels along their output's channels."""
    norms = {norm.tensor: norm for norm in trace.norms}
    leaves = {path for path, module in net.named_modules() if not module._modules}
    points: dict[str, Indices] = {}
    for production in trace.productions:
        if _is_gate(trace, production.tensor):
            continue
        followed = _follow(trace, production.tensor)
        here = [norms[t] for t in followed] if followed else [production]
        if not all(_maskable(leaves, trace, point) for point in here):
            here = [production] if _maskable(leaves, trace, production) else []
        for point in here:
            points[point.module] = point.labels
    return points


def stirred_roots(trace: Trace, roots: Indices, points: dict[str, Indices]) -> NDArray[np.bool_]:
    """Sets that need not be zero everywhere when their masks are: ``(labels,)`` flags by root."""
    flags = np.zeros(len(roots), dtype=bool)
    stirred = list(trace.labels.stirred)
    for layer in (*trace.productions, *trace.norms):
        if layer.module not in points and not _follow(trace, layer.tensor):
            stirred.append((layer.tensor, layer.labels))
    for tensor, labels in stirred:
        if not _only_gates(trace, tensor):
            flags[roots[labels]] = True
    return flags


def _only_gates(trace: Trace, tensor: int) -> bool:
    """Whether all that is made of a tensor is one factor of a product: what it gates stays zero where it was."""
    uses = trace.uses.get(tensor, [])
    if tensor in trace.gates:
        return len(uses) == 1
    if len(uses) != 1 or uses[0].kind not in ("pointwise", "move") or _is_sum(trace, uses[0].outputs[0]):
        return False
    return uses[0].outputs[0] != tensor and _only_gates(trace, uses[0].outputs[0])


def _maskable(leaves: set[str], trace: Trace, point: Production) -> bool:
    """A leaf module that owns the weight and whose output has exactly these channels."""
    owner, _, leaf = point.parameter.rpartition(".")
    output = trace.module_outputs.get(point.module)
    if owner != point.module or leaf != "weight" or output is None or owner not in leaves:
        return False
    return channel_dim(output.labels[0].shape, output.labels[0], point.labels) is not None


def channel_dim(shape: tuple[int, ...], labels: Tensor, wanted: Indices) -> int | None:
    dims = varying_dims(labels)
    if len(dims) != 1 or shape[dims[0]] != len(wanted):
        return None
    return dims[0] if bool((along(labels, dims[0]).numpy() == wanted).all()) else None


def residual_blocks(trace: Trace) -> tuple[ResidualBlock, ...]:
    """Blocks whose output is their input plus the output of a layer that nothing else reads."""
    blocks = []
    for addition in trace.additions:
        entry = trace.module_inputs.get(addition.module)
        if not addition.in_edge or not addition.module or entry not in addition.operands:
            continue
        branch = next((o for o in addition.operands if o != entry), None)
        owner = trace.owners.get(branch) if branch is not None else None
        if branch is not None and owner and owner.startswith(addition.module + ".") and _read_once(trace, branch):
            blocks.append(ResidualBlock(addition.module, owner))
    return tuple(blocks)


def _read_once(trace: Trace, tensor: int) -> bool:
    """One reader, or, when the sum is written in place, the sum and the activation behind it."""
    first = trace.uses.get(tensor, [])[:1]
    return bool(first) and first[0].kind == "pointwise"
