"""A second opinion on which channels belong together: torch-pruning's dependency graph (Fang et al. 2023, CVPR).

The graph is built from autograd's, quite differently from the trace that the surgery trusts, so that where both
agree a mistake of either is unlikely. It does not decide anything.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from toolkit.models.groups import ChannelGroup, ChannelMap, survey
from toolkit.optional import require
from toolkit.surgery.run import clone

# A layer, whether its outputs or inputs, and the position; normalizations and depthwise layers count as outputs.
Place = tuple[str, str, int]
PER_GROUP = 4


@dataclass(frozen=True)
class Testimony:
    """What the two graphs say of the same channels.

    Attributes:
        agreed: channels that both couple to the same places.
        differing: for every channel on which they differ: its layer and number, and one place that only one names.
        kept: layers that only torch-pruning would cut, with the reason why the surgery leaves them alone.
        failure: torch-pruning's error, when it could not follow the network at all.
    """

    agreed: int
    differing: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    failure: str = ""


def question(net: nn.Module, example: Tensor, per_group: int = PER_GROUP) -> Testimony:
    """Compare the coupled channels of a network with torch-pruning's.

    Args:
        net: not changed.
        example: its input.
        per_group: channels that are looked at in every group, evenly spread.

    Raises:
        GroupError: nothing can be removed.
        MissingExtraError: torch-pruning is not installed.
    """
    work = clone(net).eval()
    channel_map = survey(work, example)
    try:
        graph = _graph(work, example)
        theirs = dict(_their_layers(graph))
        compared = [_compare(graph, theirs, group, work, per_group) for group in channel_map.groups]
    except Exception as error:  # the library has no error class of its own
        return Testimony(0, failure=f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
    differing = tuple(text for texts, _ in compared for text in texts)
    return Testimony(sum(number for _, number in compared), differing, _only_theirs(theirs, channel_map))


def _graph(net: nn.Module, example: Tensor) -> Any:
    pruning = require("torch_pruning", "host")
    forward: Callable[..., Any] | None = None
    if hasattr(net, "training_forward"):
        forward = lambda model, x: cast(Any, model).training_forward(x)  # noqa: E731
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = pruning.DependencyGraph()
        return graph.build_dependency(net, example_inputs=example, forward_fn=forward, verbose=False)


def _their_layers(graph: Any) -> Iterator[tuple[str, nn.Module]]:
    """Names of the layers whose outputs torch-pruning would cut."""
    for group in graph.get_all_groups():
        for dep, _ in group:
            module = dep.target.module
            if isinstance(module, nn.Linear | _ConvNd) and graph.is_out_channel_pruning_fn(dep.handler):
                yield graph._module2name[module], module


def _compare(
    graph: Any, theirs: dict[str, nn.Module], group: ChannelGroup, net: nn.Module, per_group: int
) -> tuple[list[str], int]:
    root = next((m for m in group.members if m.parameter.rpartition(".")[0] == group.layers[0]), None)
    layer = net.get_submodule(group.layers[0])
    if root is None or group.layers[0] not in theirs:
        return [f"{group.layers[0]}: torch-pruning does not cut it"], 0
    pruner = graph.get_pruner_of_module(layer)
    differing, agreed = [], 0
    for number in range(0, group.channels, max(1, group.channels // per_group)):
        found = graph.get_pruning_group(layer, pruner.prune_out_channels, root.index[number].tolist())
        mine, other = _our_places(group, net, number), _their_places(graph, found)
        if only := sorted(mine ^ other):
            who = "ours" if only[0] in mine else "torch-pruning's"
            differing.append(f"{group.layers[0]}:{number}: only {who}: {' '.join(map(str, only[0]))}")
        agreed += not only
    return differing, agreed


def _our_places(group: ChannelGroup, net: nn.Module, number: int) -> set[Place]:
    places: set[Place] = set()
    for member in group.members:
        path, _, leaf = member.parameter.rpartition(".")
        module = net.get_submodule(path)
        if leaf == "weight" and isinstance(module, nn.Linear | _ConvNd | _NormBase):
            outputs = 1 if isinstance(module, _ConvTransposeNd) else 0
            side = "out" if member.dim == outputs else "in"
            places |= {(path, side, int(position)) for position in member.index[number]}
    return places


def _their_places(graph: Any, group: Any) -> set[Place]:
    places: set[Place] = set()
    for dep, positions in group:
        module = dep.target.module
        if not isinstance(module, nn.Linear | _ConvNd | _NormBase):
            continue
        both = isinstance(module, _NormBase) or (isinstance(module, _ConvNd) and module.groups > 1)
        side = "out" if both or graph.is_out_channel_pruning_fn(dep.handler) else "in"
        places |= {(graph._module2name[module], side, int(position)) for position in positions}
    return places


def _only_theirs(theirs: dict[str, nn.Module], channel_map: ChannelMap) -> tuple[tuple[str, str], ...]:
    ours = {layer for group in channel_map.groups for layer in group.layers}
    reasons: dict[str, str] = defaultdict(lambda: "it is in the cloud half, or no mask can act on it")
    reasons.update((entry.layer, entry.reason) for entry in channel_map.frozen)
    return tuple((name, reasons[name]) for name in theirs if name not in ours)
