"""What decides: lists, scores, budgets, blocks, alignment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unit.surgery.exactness import EXACT, pictures, removed, slim_exactly
from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo import conv_bn, resnet_basic, resnet_bottleneck
from tests.unit.surgery.zoo_families import FAMILIES
from toolkit.models.groups import GroupError, find_groups, survey
from toolkit.models.masks import MaskSet
from toolkit.surgery import (
    PlanSettings,
    ScoreSettings,
    SurgeryError,
    apply_plan,
    cost,
    deviation,
    fold_masks,
    format_rows,
    plan_from_lists,
    plan_from_masks,
    plan_from_scores,
    plan_from_zeros,
    plan_table,
    slim_by_masks,
    slim_by_scores,
    slim_by_zeros,
)
from toolkit.surgery.choose import alignment
from toolkit.surgery.remove import check_alignment
from toolkit.surgery.scores import score
from toolkit.surgery.structure import Structure

ONE = PlanSettings(align=1)
X = pictures(1, 16)


def _net() -> nn.Module:
    torch.manual_seed(0)
    net = resnet_basic()
    randomize(net, 0)
    return net.double().eval()


def _loss(net: nn.Module) -> torch.Tensor:
    return net(pictures(4, 16)).square().mean()


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale", "taylor", "fpgm"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_every_score_removes_the_ratio(criterion: str, scope: str) -> None:
    net = _net()
    scoring = ScoreSettings(criterion=criterion, scope=scope, ratio=0.25)  # type: ignore[arg-type]
    plan = plan_from_scores(net, scoring, ONE, X, _loss)
    total = sum(group.channels for group in plan.groups.values())
    assert removed(plan) == round(0.25 * total)
    if scope == "layer":
        assert {len(g.removed) / g.channels for g in plan.groups.values()} == {0.25}
    apply_plan(net, None, plan, X)


def test_scores_are_what_the_papers_say() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4, 0], [0, 0, 1], [1, 1, 1]]).view(3, 3, 1, 1))
        net[1].weight.copy_(torch.tensor([-2.0, 1, 3]))
    groups = find_groups(net, torch.rand(1, 3, 4, 4))

    def relative(criterion: str) -> list[float]:
        values = score(net, groups, criterion)["0"]  # type: ignore[arg-type]
        return (values / values[1]).tolist()

    assert relative("l1") == pytest.approx([7, 1, 3])
    assert relative("l2") == pytest.approx([5, 1, 3**0.5])
    assert relative("bn_scale") == pytest.approx([2, 1, 3])
    far = [[0.0, 26**0.5, 14**0.5], [26**0.5, 0, 2**0.5], [14**0.5, 2**0.5, 0]]
    sums = [sum(row) for row in far]
    assert relative("fpgm") == pytest.approx([value / sums[1] for value in sums])


def test_taylor_needs_a_loss_and_leaves_no_gradient() -> None:
    net = _net()
    with pytest.raises(SurgeryError, match="need a loss"):
        plan_from_scores(net, ScoreSettings(criterion="taylor", ratio=0.2), ONE, X)
    plan_from_scores(net, ScoreSettings(criterion="taylor", ratio=0.2), ONE, X, _loss)
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(SurgeryError, match="not finite"):
        score(net, find_groups(net, X), "taylor", lambda n: _loss(n) * float("nan"))


def test_a_group_without_normalization_has_no_scale() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).double()
    with pytest.raises(SurgeryError, match="use l2"):
        plan_from_scores(net, ScoreSettings(criterion="bn_scale", ratio=0.5), ONE, X)


@pytest.mark.parametrize("what", ["parameters", "macs", "activation_bytes"])
@pytest.mark.parametrize("align", [1, 8])
def test_a_budget_holds_for_the_aligned_network(what: str, align: int) -> None:
    net = _net()
    scoring = ScoreSettings(budget=0.6, budget_of=what)  # type: ignore[arg-type]
    slim = apply_plan(net, None, plan_from_scores(net, scoring, PlanSettings(align=align), X), X)
    spent = getattr(cost(slim, X), what) / getattr(cost(net, X), what)
    assert 0.2 < spent <= 0.6


@pytest.mark.parametrize("align", [1, 8])
def test_a_budget_is_filled_with_the_best_steps_that_fit(align: int) -> None:
    net, settings = _net(), PlanSettings(align=align)
    ranked, full = (
        plan_from_scores(net, ScoreSettings(budget=0.6, budget_of="macs", fill=fill), settings, X)
        for fill in (False, True)
    )
    spent = [cost(apply_plan(net, None, plan, X), X).macs / cost(net, X).macs for plan in (ranked, full)]
    assert spent[0] <= spent[1] <= 0.6
    for name, group in full.groups.items():
        assert set(ranked.groups[name].kept) <= set(group.kept), "nothing goes that the ranking keeps"
    for name, group in full.groups.items():  # no further step fits
        if group.removed:
            gone = {n: g.removed for n, g in full.groups.items()} | {name: group.removed[align:]}
            more = plan_from_lists(net, gone, settings=settings, example=X)
            assert cost(apply_plan(net, None, more, X), X).macs > 0.6 * cost(net, X).macs
    assert "fill" not in ScoreSettings().model_dump()


def test_a_budget_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(SurgeryError, match="cannot go below"):
        plan_from_scores(_net(), ScoreSettings(budget=0.01, most=0.3), ONE, X)
    with pytest.raises(SurgeryError, match="either a ratio or a budget"):
        plan_from_scores(_net(), ScoreSettings(), ONE, X)


def test_an_explicit_list_with_a_block() -> None:
    net = _net()
    plan = plan_from_lists(net, {"stem.0": [0, 3]}, ["stages.0.1"], example=X)
    assert plan.groups["stem.0"].kept == tuple(i for i in range(16) if i not in (0, 3))
    assert plan.removed_blocks == ("stages.0.1",)
    assert "stages.0.1.conv1" not in plan.groups
    slim = apply_plan(net, None, plan, X)
    assert isinstance(slim.get_submodule("stages.0.1"), nn.Identity)


def test_wrong_lists_are_refused() -> None:
    net = _net()
    for listed in ([16], [-1], [2, 2]):
        with pytest.raises(SurgeryError, match=r"channels 0\.\.15"):
            plan_from_lists(net, {"stem.0": listed}, example=X)
    with pytest.raises(GroupError, match="no channel group 'stem'"):
        plan_from_lists(net, {"stem": [1]}, example=X)
    with pytest.raises(SurgeryError, match=r"'stages\.1\.0' is not removable; removable: stages\.0\.0"):
        plan_from_lists(net, {}, ["stages.1.0"], example=X)


def test_a_block_that_is_not_the_identity_is_refused() -> None:
    net = resnet_basic(act=nn.Tanh).double().eval()
    with pytest.raises(SurgeryError, match="not the identity when its branch is zero"):
        plan_from_lists(net, {}, ["stages.0.1"], example=X)


def test_excluded_groups_stay() -> None:
    net = _net()
    settings = PlanSettings(align=1, exclude=("stem.0",))
    plan = plan_from_scores(net, ScoreSettings(ratio=0.5), settings, X)
    assert plan.groups["stem.0"].removed == ()
    assert removed(plan) > 0


def test_alignment_keeps_the_best_scored() -> None:
    net = nn.Sequential(conv_bn(3, 32), nn.Conv2d(32, 8, 1))
    randomize(net, 0)
    with torch.no_grad():
        norms = torch.arange(32).double() + 1
        net[0][0].weight.copy_(norms.view(-1, 1, 1, 1) * torch.ones_like(net[0][0].weight))
    net = net.double().eval()
    masks = MaskSet(find_groups(net, X))
    masks.set_({"0.0": torch.tensor([1.0] * 5 + [0.0] * 27)})
    plan = plan_from_masks(net, masks, PlanSettings(align=8), X)
    assert plan.groups["0.0"].kept == (0, 1, 2, 3, 4, 29, 30, 31)
    assert plan.groups["0.0"].aligned == (29, 30, 31)
    slim = apply_plan(net, masks, plan, X)
    assert bool((slim.get_submodule("0.1").weight[5:] == 0).all())
    masks.attach(net)
    assert deviation(net, slim, X).relative <= EXACT


@pytest.mark.parametrize("align", [8, 16, 32])
@pytest.mark.parametrize("family", ["mobilenet_v2", "googlenet", "regnet_y", "shufflenet_v2", "densenet"])
def test_nothing_is_left_unaligned_that_was_not_so_before(family: str, align: int) -> None:
    torch.manual_seed(0)
    net = FAMILIES[family]()
    dense = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    x = pictures(1, 32)
    net = net.double().eval()
    plan = plan_from_scores(net, ScoreSettings(ratio=0.5), PlanSettings(align=align), x)
    slim = apply_plan(net, None, plan, x)
    for name, conv in slim.named_modules():
        if isinstance(conv, nn.Conv2d):
            for size, before in (
                (conv.out_channels, dense[name].out_channels),
                (conv.in_channels, dense[name].in_channels),
            ):
                assert size % align == 0 or (size == before and name in plan.unaligned)


def test_alignment_by_name() -> None:
    assert [alignment("auto", p) for p in ("int8", "fp16", "fp32")] == [16, 8, 8]
    assert alignment("auto", "int8", 24) == 24
    assert alignment("32") == alignment(32) == 32
    for wrong in (5, "wide", 0):
        with pytest.raises(SurgeryError, match="alignment is auto"):
            alignment(wrong)


def test_the_table_says_what_happens_and_why() -> None:
    net = _net()
    plan = plan_from_lists(net, {"stem.0": [0, 3], "stages.0.0.conv1": [1]}, ["stages.0.1"], example=X)
    rows = {row.layer: row for row in plan_table(net, plan, X)}
    assert (rows["stem.0"].before, rows["stem.0"].after, rows["stem.0"].why) == (16, 14, "lists")
    assert rows["stages.0.0.conv2"].why == "coupled to stem.0; input from stages.0.0.conv1"
    assert (rows["stages.0.1.conv1"].after, rows["stages.0.1.conv1"].why) == (0, "block")
    assert rows["stem.0"].parameters == (16 * 27, 14 * 27)
    assert rows["stem.0"].macs == (16 * 27 * 256, 14 * 27 * 256)
    assert rows["stem.0"].activation_bytes == (16 * 256 * 4, 14 * 256 * 4)
    text = format_rows(tuple(rows.values()))
    assert "16 -> 14" in text
    assert text.splitlines()[-1].startswith("sum")


def test_cost_of_a_known_network() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 256, 5))
    found = cost(net.double(), X)
    assert found.parameters == 8 * 27 + 8 + 16 + 8 * 256 * 5 + 5
    assert found.macs == 8 * 27 * 256 + 8 * 256 * 5
    assert found.activation_bytes == 4 * (8 * 256 + 5)
    assert [layer.layer for layer in found.per_layer] == ["0", "3"]


def test_a_grouped_network_under_a_ratio() -> None:
    plan, slim = slim_exactly(resnet_bottleneck(groups=4, expansion=2), 16, align=8)
    for name, conv in slim.named_modules():
        if isinstance(conv, nn.Conv2d) and conv.groups > 1:
            assert conv.weight.shape[1] in (4, 8), name
    assert plan.groups


def test_masks_of_a_survey_keep_their_order() -> None:
    net = _net()
    assert [g.name for g in survey(net, X).groups] == [g.name for g in survey(net, X).groups]


@pytest.mark.parametrize("align", [1, 8])
def test_slimming_at_once_is_planning_and_applying(align: int) -> None:
    net, settings, scoring = _net(), PlanSettings(align=align), ScoreSettings(ratio=0.4)
    at_once = slim_by_scores(net, scoring, settings, X)
    plan = plan_from_scores(net, scoring, settings, X)
    assert at_once.plan == plan
    assert deviation(apply_plan(net, None, plan, X), at_once.net, X).relative <= EXACT
    dead = fold_masks(net, _half_masked(net))
    found = slim_by_zeros(dead, settings, X)
    assert removed(found.plan) > 0
    assert found.plan == plan_from_zeros(dead, settings, X)
    assert deviation(dead, found.net, X).relative <= EXACT
    masked = slim_by_masks(net, _half_masked(net), settings, X)
    assert masked.plan == plan_from_masks(net, _half_masked(net), settings, X)
    assert deviation(dead, masked.net, X).relative <= EXACT


def _half_masked(net: nn.Module) -> MaskSet:
    masks = MaskSet(find_groups(net, X))
    masks.set_({name: (torch.arange(len(value)) % 2).float() for name, value in masks.values().items()})
    return masks


def test_a_ratio_removes_what_the_network_without_those_channels_is() -> None:
    """The kept channels' weights are untouched: the result is the dense network with the others set to zero."""
    net = _net()
    found = slim_by_scores(net, ScoreSettings(ratio=0.4), PlanSettings(align=8), X)
    masks = MaskSet(find_groups(net, X))
    zeros = {n: torch.ones(g.channels) for n, g in found.plan.groups.items()}
    for name, group in found.plan.groups.items():
        zeros[name][list(group.removed)] = 0
        assert not group.constant
    masks.set_(zeros)
    assert deviation(fold_masks(net, masks), found.net, X).relative <= EXACT


def test_a_convolution_that_is_not_aligned_after_all_is_refused() -> None:
    net = _net()
    plan = plan_from_scores(net, ScoreSettings(ratio=0.4), PlanSettings(align=8), X)
    slim = apply_plan(net, None, plan, X)
    dense = Structure(net, survey(net, X)).widths()
    check_alignment(slim, dense, plan)
    with pytest.raises(SurgeryError, match=r"stem\.0 has 10 channels, which is not aligned to 8"):
        slim.get_submodule("stem.0").out_channels = 10
        check_alignment(slim, dense, plan)
