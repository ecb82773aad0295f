"""Several costs of the edge half that bind at once, and what is left of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toolkit.errors import TrainingError
from toolkit.models.groups import survey
from toolkit.models.masks import MaskSet
from toolkit.models.network import ReidNet, build_network
from toolkit.patrol.cost import EdgeCost, edge_cost, share_of_split
from toolkit.patrol.settings import CostName, MaskSettings
from toolkit.surgery.cost import cost as counted

ROUNDING = 1e-6


class Budgets(EdgeCost):
    """The largest share of its limit that any cost takes; 1 keeps them all.

    Args:
        costs: of the same masks and alignment, with the limit of each.
    """

    def __init__(self, costs: Sequence[tuple[EdgeCost, float]]) -> None:
        first = costs[0][0]
        self.costs = tuple(costs)
        super().__init__((), first.sizes, first.align, "budgets")
        self.full = max(cost.full / limit for cost, limit in costs)

    def __call__(self, kept: Mapping[str, int]) -> float:
        """Share of the limit that is nearest to being passed; ``kept`` counts channels, 0 or 1 for a block."""
        return max(cost(kept) / limit for cost, limit in self.costs)

    def smooth(self) -> EdgeCost:
        """Every cost charged channel by channel."""
        return Budgets([(cost.smooth(), cost.smooth_target(limit)) for cost, limit in self.costs])

    def check_reachable(self, target: float, minimum: int) -> None:
        """Refuse limits of which one is not met with the least channels everywhere (errors as each cost's)."""
        for cost, limit in self.costs:
            cost.check_reachable(limit * target, minimum)


def mask_budget(
    net: ReidNet, masks: MaskSet, picture_size: tuple[int, int], settings: MaskSettings
) -> tuple[EdgeCost, float]:
    """The cost that masks are steered by, and the share of it that may stay.

    Args:
        net: dense, masks attached or not.
        masks: of this network.
        picture_size: (H, W).
        settings: with a ratio or an earlier split, and no latency.

    Raises:
        TrainingError: the split lies behind the network's cut.
    """
    bound = []
    for unit in settings.bound():
        cost = edge_cost(net, masks, picture_size, unit, settings.align)
        ratio = settings.ratio or 1.0
        if settings.as_split is not None:
            ratio = share_of_split(net, cost, settings.as_split, picture_size)
        bound.append((cost, ratio))
    if len(bound) == 1:
        return bound[0]
    found = Budgets([(cost, ratio * cost.full) for cost, ratio in bound])
    return found, 1 / found.full


def new_masks(net: ReidNet, example: Tensor, settings: MaskSettings | None) -> MaskSet:
    """Fresh masks of a network: of its channel groups, and of its removable residual blocks where asked for.

    Args:
        net: no masks attached.
        example: an input, (1, 3, H, W).
        settings: None masks channels alone.

    Raises:
        GroupError: nothing can be removed.
    """
    found = survey(net, example)
    return MaskSet(found.groups, found.blocks if settings is not None and settings.blocks else ())


@dataclass(frozen=True)
class Slack:
    """What is left of one budget.

    Attributes:
        name: of the cost.
        used, limit: in its unit.
        whose: what the limit comes from, in a few words.
    """

    name: str
    used: float
    limit: float
    whose: str

    @property
    def share(self) -> float:
        """Part of the limit that is left; negative where it is passed."""
        return 1 - self.used / self.limit

    def check(self) -> None:
        """Refuse a network that passes the limit.

        Raises:
            TrainingError: by how much, and what to change.
        """
        if self.used > self.limit * (1 + ROUNDING):
            raise TrainingError(
                f"the slim edge half costs {self.used:,.0f} {self.name.replace('_', ' ')}, more than {self.whose} "
                f"allows ({self.limit:,.0f}): alignment or exactness kept channels that the masks gave up; lower "
                "slim.plan.align, set slim.plan.borders to approximate, or lower the budget of patrol.masks"
            )


def slacks(dense: ReidNet, slim: ReidNet, settings: MaskSettings, example: Tensor) -> list[Slack]:
    """What the masks' budgets leave, counted on the networks themselves; none where no budget was asked for.

    Args:
        dense: the network that was masked.
        slim: what is left of it.
        settings: of the masks; a latency budget is checked elsewhere (``toolkit.planning.edge``).
        example: an input, (1, 3, H, W).
    """
    if settings.latency is not None or (settings.ratio is None and settings.as_split is None):
        return []
    used = costs_of(slim, example)
    whole = costs_of(dense, example)
    share, whose = settings.ratio or 1.0, f"{settings.ratio} of the dense edge half"
    if settings.as_split is not None:
        split = replace(dense.architecture, cut=settings.as_split, bottleneck=0, bottleneck_pool=1)
        whole, share = costs_of(build_network(split), example), 1.0
        whose = f"the dense split after {settings.as_split}"
    return [Slack(name, used[name], share * whole[name], whose) for name in settings.bound()]


def costs_of(net: ReidNet, example: Tensor) -> dict[CostName, float]:
    """All countable costs of a network's edge half, for one picture; wire bytes at 8 bits."""
    found = counted(net, example, half="edge")
    was_training = net.training
    with torch.no_grad():
        values = net.eval().edge(example.to(next(net.parameters()).device)).numel() // len(example)
    net.train(was_training)
    return {
        "macs": float(found.macs),
        "parameters": float(found.parameters),
        "activation_bytes": float(found.activation_bytes),
        "wire_bytes": float(values),
    }
