"""The plan file: round trip, refusals, composition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.unit.surgery.exactness import EXACT, pictures, slim_exactly
from tests.unit.surgery.randomize import randomize
from tests.unit.surgery.zoo import conv_bn, resnet_basic
from toolkit.surgery import (
    Plan,
    PlanError,
    PlanSettings,
    apply_plan,
    compose,
    deviation,
    plan_from_lists,
    plan_from_zeros,
    shrink,
)

ONE = PlanSettings(align=1)
X = pictures(1, 12)


def _chain() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(conv_bn(3, 8), conv_bn(8, 6), nn.Conv2d(6, 5, 1))
    randomize(net, 0)
    return net.double().eval()


def _plan() -> Plan:
    return plan_from_lists(_chain(), {"0.0": [1, 5], "1.0": [0]}, example=X)


def test_round_trip(tmp_path: Path) -> None:
    plan = _plan()
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert json.loads((tmp_path / "plan.json").read_text())["schema_version"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": [0, 2, 8]}, "kept channel out of range 0..7 in group 0.0"),
        ({"kept": [-1, 2]}, "out of range"),
        ({"kept": [0, 2, 2]}, "not ascending or listed twice"),
        ({"kept": [2, 0]}, "not ascending or listed twice"),
        ({"kept": []}, "keeps no channel"),
        ({"kept": [0, 2], "aligned": [3]}, "aligned, constant or refused channels that are not kept"),
        ({"kept": [0, 2], "aligned": [9]}, "aligned channel out of range"),
        ({"kept": "all"}, "not a plan of version 1: groups.0.0.kept"),
        ({"channels": None}, "not a plan of version 1"),
    ],
)
def test_a_malformed_group_is_refused(change: dict[str, object], message: str) -> None:
    content = json.loads(_plan().to_json())
    content["groups"]["0.0"] |= change
    with pytest.raises(PlanError, match=message):
        Plan.parse(content)


def test_malformed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(PlanError, match="cannot read"):
        Plan.load(path)
    path.write_text(_plan().to_json()[:-40])
    with pytest.raises(PlanError, match="cannot read"):
        Plan.load(path)
    path.write_text(json.dumps({"schema_version": 2}))
    with pytest.raises(PlanError, match="not a plan of version 1"):
        Plan.load(path)


def test_another_network_is_refused() -> None:
    plan = _plan()
    other = nn.Sequential(conv_bn(3, 8), conv_bn(8, 7), nn.Conv2d(7, 5, 1)).double()
    for refused in (lambda: shrink(other, plan, X), lambda: apply_plan(other, None, plan, X)):
        with pytest.raises(PlanError, match="another architecture"):
            refused()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["groups"].update({"9.9": c["groups"]["0.0"]}), "a group '9.9' that this network has not"),
        (lambda c: c["groups"]["1.0"].update({"channels": 9}), "group 1.0 has 6 channels, the plan says 9"),
        (lambda c: c["groups"]["1.0"].update({"kept": [1, 2]}), "does not lead to the network"),
        (lambda c: c.update({"created_biases": ["7"]}), "bias to '7', which does not exist"),
        (lambda c: c.update({"created_biases": ["0.1"]}), "no convolution or linear layer"),
    ],
)
def test_a_changed_plan_is_refused(change: object, message: str) -> None:
    content = json.loads(_plan().to_json())
    change(content)  # type: ignore[operator]
    with pytest.raises(PlanError, match=message):
        shrink(_chain(), content, X)


def test_shrink_changes_nothing_but_the_copy() -> None:
    net = _chain()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    slim = shrink(net, _plan(), X)
    assert slim.get_submodule("0.0").out_channels == 6
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_two_plans_compose_into_one() -> None:
    net = _chain()
    first = plan_from_lists(net, {"0.0": [1, 5], "1.0": [0]}, example=X)
    once = apply_plan(net, None, first, X)
    second = plan_from_lists(once, {"0.0": [0, 4]}, example=X)
    twice = apply_plan(once, None, second, X)
    both = compose(first, second)
    assert both.groups["0.0"].kept == (2, 3, 4, 7)
    assert both.groups["1.0"].kept == (1, 2, 3, 4, 5)
    again = shrink(net, both, X)
    again.load_state_dict(twice.state_dict())
    assert torch.equal(again.eval()(X), twice(X))


def test_composition_over_masks_blocks_and_constants() -> None:
    torch.manual_seed(0)
    net = resnet_basic((3, 2), 16)
    first, slim = slim_exactly(net, align=8, seed=3, train=False)
    second, slimmer = slim_exactly(slim, align=1, seed=4, train=False)
    both = compose(first, second)
    again = shrink(net, both, X)
    again.load_state_dict(slimmer.state_dict())
    assert torch.equal(again.eval()(X), slimmer(X))
    assert set(both.removed_blocks) >= set(first.removed_blocks)


def test_composition_keeps_created_biases() -> None:
    net = _chain()
    first = plan_from_lists(net, {"1.0": [0]}, example=X)
    once = apply_plan(net, None, first, X)
    with torch.no_grad():
        once.get_submodule("0.1").weight[2] = 0
        once.get_submodule("0.1").bias[2] = -1
        once.get_submodule("1.1").weight[3] = 0
        once.get_submodule("1.1").bias[3] = 1
    second = plan_from_zeros(once, ONE, X)
    twice = apply_plan(once, None, second, X)
    assert deviation(once, twice, pictures(2, 12, 3)).relative <= EXACT
    again = shrink(net, compose(first, second), X)
    again.load_state_dict(twice.state_dict())
    assert torch.equal(again.eval()(X), twice(X))


def test_plans_that_do_not_follow_each_other_are_refused() -> None:
    with pytest.raises(PlanError, match="was not made on the network"):
        compose(_plan(), _plan())
