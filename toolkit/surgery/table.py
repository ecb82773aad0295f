"""What a plan does, layer by layer, before it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from toolkit.models.groups import ChannelGroup, survey
from toolkit.surgery.cost import LayerCost, cost, predicted_cost
from toolkit.surgery.plan import Plan
from toolkit.surgery.remove import kept_flags
from toolkit.surgery.run import clone, example_for, replace_module
from toolkit.surgery.structure import Structure

NOTHING = LayerCost("", 0, 0, 0, 0)


@dataclass(frozen=True)
class Row:
    """One convolution or linear layer.

    Attributes:
        before, after: output channels.
        why: what decided: the plan's source, alignment, constants, coupling, or a removed block.
        parameters, macs, activation_bytes: before and after; bytes are float32 per picture.
    """

    layer: str
    before: int
    after: int
    why: str
    parameters: tuple[int, int]
    macs: tuple[int, int]
    activation_bytes: tuple[int, int]


def plan_table(net: nn.Module, plan: Plan, example: Tensor | None = None) -> tuple[Row, ...]:
    """Every layer that the plan changes, in the order of the forward pass. Nothing is cut.

    Raises:
        PlanError: the plan is for another network.
    """
    plan.check(net)
    example = example_for(net, example)
    work = clone(net)
    for name in plan.removed_blocks:
        replace_module(work, name, nn.Identity())
    structure = Structure(work, survey(work, example))
    kept = kept_flags(structure, plan)
    after = {c.layer: c for c in predicted_cost(structure, work, kept, plan.created_biases, "all").per_layer}
    rows = []
    for old in cost(net, example).per_layer:
        new = after.get(old.layer, NOTHING)
        if (old.channels, old.parameters, old.macs) != (new.channels, new.parameters, new.macs):
            why = "block" if new is NOTHING else _why(old.layer, structure.channel_map.groups, plan)
            pairs = [(old.parameters, new.parameters), (old.macs, new.macs)]
            written = (old.activation_bytes, new.activation_bytes)
            rows.append(Row(old.layer, old.channels, new.channels, why, pairs[0], pairs[1], written))
    return tuple(rows)


def _why(layer: str, groups: Sequence[ChannelGroup], plan: Plan) -> str:
    reasons = []
    for group in groups:
        listed = plan.groups.get(group.name)
        if listed is None or not listed.removed:
            continue
        if layer in group.layers:
            first = plan.source if layer == group.layers[0] else f"coupled to {group.layers[0]}"
            extra = [
                f"{len(n)} {what}" for what, n in (("aligned", listed.aligned), ("constant", listed.constant)) if n
            ]
            reasons.append(", ".join([first, *extra]))
        elif layer in group.consumers:
            reasons.append(f"input from {group.layers[0]}")
    if layer in plan.created_biases:
        reasons.append("bias created")
    return "; ".join(dict.fromkeys(reasons))


def describe_plan(plan: Plan) -> tuple[str, ...]:
    """What a plan means beyond its layers, one sentence a line."""
    lines = [f"source: {plan.source}; channels are multiples of {plan.align}"]
    if plan.wire is not None:
        kept = len(plan.wire.kept)
        change = f"{plan.wire.before} -> {kept} channels, the cloud half is re-sliced"
        lines.append(f"wire: {change if plan.wire.shrinks else f'{kept} channels, unchanged'}")
    if plan.unaligned:
        lines.append(f"not aligned, as in the dense network: {', '.join(plan.unaligned)}")
    refused = {name: len(group.refused) for name, group in plan.groups.items() if group.refused}
    if refused:
        listed = ", ".join(f"{number} of {name}" for name, number in refused.items())
        lines.append(f"kept because their removal would not be exact: {listed}")
    if plan.created_biases:
        lines.append(f"a bias is created in: {', '.join(plan.created_biases)}")
    lines += [f"never cut: {layer} ({reason})" for layer, reason in plan.frozen.items()]
    return tuple(lines)


def format_rows(rows: Sequence[Row]) -> str:
    """The rows as a text table with a line of sums."""
    head = ("layer", "channels", "parameters", "MACs", "activation bytes", "why")
    numbers = ("parameters", "macs", "activation_bytes")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        pairs = [getattr(row, name) for name in numbers]
        lines.append((row.layer, _arrow(row.before, row.after), *(_arrow(*pair) for pair in pairs), row.why))
    sums = [_arrow(*(sum(getattr(row, name)[i] for row in rows) for i in (0, 1))) for name in numbers]
    lines.append(("sum", "", *sums, ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _arrow(before: int, after: int) -> str:
    return f"{before} -> {after}"
