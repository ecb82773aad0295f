"""From one trace: the coupled groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.models.channels.coupling import channel_dim
from toolkit.models.channels.labels import Indices, line_of
from toolkit.models.channels.records import Trace
from toolkit.models.channels.structures import ChannelGroup, MaskPoint, Member


def positions(trace: Trace, roots: Indices) -> Iterator[tuple[str, int, Indices]]:
    """Every labelled dimension of every parameter with the coupled set at each position."""
    for name, known in trace.parameters.items():
        for plane in known.labels:
            line = line_of(plane)
            if line is not None:
                if line.vector.shape[0] > 1:
                    yield name, line.dim, roots[line.vector.numpy()]
                continue
            dims = [d for d in range(plane.dim()) if plane.stride(d) != 0 and plane.shape[d] > 1]
            if len(dims) == 1:
                index: list[int | slice] = [0] * plane.dim()
                index[dims[0]] = slice(None)
                yield name, dims[0], roots[plane[tuple(index)].numpy()]


@dataclass(frozen=True, eq=False)
class Partition:
    """Removable coupled sets, sorted into groups.

    Attributes:
        roots: the sets of each group, ascending.
        group: ``(labels,)`` by root: number of its group, -1 for what is not removable.
        local: ``(labels,)`` by root: its position in the group.
    """

    roots: list[Indices]
    group: Indices
    local: Indices

    def groups_of(self, roots: Indices) -> Iterable[int]:
        """Numbers of the groups that occur here, ascending."""
        found = np.flatnonzero(np.bincount(self.group[roots] + 1, minlength=1))
        return [number - 1 for number in found.tolist() if number]


def coupled_groups(
    trace: Trace, roots: Indices, points: dict[str, Indices], frozen: dict[int, str]
) -> tuple[ChannelGroup, ...]:
    """Channels that occur in the same tensors, equally often, form a group.

    Args:
        roots: coupled set of every label.
        points: modules that masks multiply, with their labels; a group needs one.
        frozen: sets that must stay.
    """
    wanted, maskable = np.zeros(len(roots), dtype=bool), np.zeros(len(roots), dtype=bool)
    for production in trace.productions:
        if production.in_edge:
            wanted[roots[production.labels]] = True
    for labels in points.values():
        maskable[roots[labels]] = True
    wanted &= maskable
    wanted[[0, *frozen]] = False
    table = [(name, dim, found) for name, dim, found in positions(trace, roots) if wanted[found].any()]
    part = _partition(wanted, table)
    return _assemble(trace, roots, points, part, _members(part, table))


def _partition(wanted: NDArray[np.bool_], table: list[tuple[str, int, Indices]]) -> Partition:
    """Sets with the same signature, the multiset of the tensor dimensions they occur in, form a group."""
    signature = np.zeros(len(wanted), dtype=np.uint64)
    if table:
        weights = _mixed(np.arange(len(table), dtype=np.uint64))
        lengths = [len(found) for _, _, found in table]
        np.add.at(signature, np.concatenate([found for _, _, found in table]), np.repeat(weights, lengths))
    ids = np.flatnonzero(wanted)
    _, first, inverse = np.unique(signature[ids], return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))[inverse.reshape(-1)]
    members = [ids[order == number] for number in range(len(first))]
    group, local = np.full(len(wanted), -1), np.full(len(wanted), -1)
    for number, mine in enumerate(members):
        group[mine] = number
        local[mine] = np.arange(len(mine))
    return Partition(members, group, local)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64 (Steele et al. 2014): sums of its values, modulo 2^64, identify multisets."""
    values = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _members(part: Partition, table: list[tuple[str, int, Indices]]) -> dict[int, list[Member]]:
    members: dict[int, list[Member]] = defaultdict(list)
    for name, dim, found in table:
        number = part.group[found]
        for group in part.groups_of(found):
            here = np.flatnonzero(number == group)
            ordered = here[np.argsort(part.local[found[here]], kind="stable")]
            members[group].append(Member(name, dim, ordered.reshape(len(part.roots[group]), -1)))
    return members


def _assemble(
    trace: Trace, roots: Indices, points: dict[str, Indices], part: Partition, members: dict[int, list[Member]]
) -> tuple[ChannelGroup, ...]:
    layers: dict[int, dict[str, None]] = defaultdict(dict)
    readers: dict[int, dict[str, None]] = defaultdict(dict)
    producers: dict[int, list[MaskPoint]] = defaultdict(list)
    for production in trace.productions:
        for group in part.groups_of(roots[production.labels]):
            layers[group][production.module] = None
    for use in trace.consumptions:
        for group in part.groups_of(roots[use.labels]):
            readers[group][use.module] = None
    for module, labels in points.items():
        for group in part.groups_of(roots[labels]):
            known = trace.module_outputs[module].labels[0]
            dim = channel_dim(tuple(known.shape), known, labels)
            index = np.where(part.group[roots[labels]] == group, part.local[roots[labels]], -1)
            producers[group].append(MaskPoint(module, 1 if dim is None else dim, index))
    crossing = set() if trace.cut is None else set(part.groups_of(roots[trace.cut]))
    weights = {production.parameter for production in trace.productions}
    names: dict[str, int] = defaultdict(int)
    groups = []
    for number, mine in enumerate(part.roots):
        first = next(iter(layers[number]))
        names[first] += 1
        widths = [m.index.shape[1] for m in members[number] if m.parameter in weights and m.dim == 0]
        groups.append(
            ChannelGroup(
                name=first if names[first] == 1 else f"{first}#{names[first]}",
                channels=len(mine),
                width=max(widths, default=1),
                producers=tuple(producers[number]),
                layers=tuple(layers[number]),
                consumers=tuple(readers[number]),
                members=tuple(members[number]),
                crosses_cut=number in crossing,
                roots=mine,
            )
        )
    return tuple(groups)
