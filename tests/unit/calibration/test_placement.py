"""The placement table applied: where pairs stand and why."""

import pytest

from calibration.errors import SettingsError
from calibration.placement import place, wide_enough
from calibration.prepare import prepare
from calibration.settings import CalibrationSettings
from calibration.table import read_table
from tests.unit.calibration.networks import branching, inverted, pooled_wire, residual


def plan_of(model, **settings):
    return place(prepare(model), CalibrationSettings(**settings))


def points_of(plan):
    return {point.tensor: point for point in plan.points}


def test_residual_network():
    plan = plan_of(residual(norms=True))
    points = points_of(plan)
    assert list(points) == [
        "normalized",
        "stem.out",
        "pool",
        "block1.mid",
        "block1.out",
        "block2.mid",
        "block2.down",
    ]
    assert all(layer.precision == "int8" and layer.axis == 0 for layer in plan.layers)


def test_only_the_identity_branch_of_an_addition_is_quantized():
    plan = plan_of(residual())
    joins = {join.node: join for join in plan.joins}
    assert (joins["block1.add/Add"].fused, joins["block1.add/Add"].identity) == (0, 1)
    assert (joins["block2.add/Add"].fused, joins["block2.add/Add"].identity) == (0, 1)
    points = points_of(plan)
    assert points["block2.down"].role == "identity"
    assert ("block1.add/Add", 1) in points["pool"].uses
    assert not {"block1.b", "block2.b"} & set(points)


def test_pooling_shares_the_scale_of_its_input():
    points = points_of(plan_of(residual()))
    assert points["pool"].group == points["stem.out"].group == "stem.out"
    assert points["stem.out"].role == "shared"


def test_concatenation_and_pooling_share_one_scale():
    points = points_of(plan_of(branching()))
    shared = {points[name].group for name in ("left.out", "right.out", "joined", "pooled")}
    assert len(shared) == 1
    assert points["stem.out"].group == "stem.out"


def test_linear_tensors_carry_one_pair_for_layer_and_identity():
    points = points_of(plan_of(inverted()))
    assert set(points["project0"].uses) == {("one.expand/Conv", 0), ("one.add/Add", 0)}
    assert "one.expand" not in points
    assert "one.project" not in points


def test_a_pool_in_front_of_the_wire_works_on_the_wires_step():
    points = points_of(plan_of(pooled_wire()))
    assert points["two.out"].fixed == pytest.approx(0.03)
    assert points["one.out"].fixed is None


def test_first_and_depthwise_choices_and_kept_layers():
    plan = plan_of(inverted(), first_layer="float", depthwise="float", keep_float=("two.project/Conv",))
    reasons = {layer.node: layer.reason for layer in plan.layers if layer.precision == "float"}
    assert set(reasons) == {"stem/Conv", "one.depth/Conv", "two.depth/Conv", "two.project/Conv"}
    assert "first" in reasons["stem/Conv"]
    assert "depthwise" in reasons["one.depth/Conv"]
    assert "normalized" not in points_of(plan)


def test_an_addition_behind_a_float_layer_is_left_alone():
    plan = plan_of(residual(), keep_float=("block2.b/Conv",))
    assert {join.node: join.fused for join in plan.joins}["block2.add/Add"] is None
    assert "block2.down" not in points_of(plan)


def test_an_unknown_layer_is_named():
    with pytest.raises(SettingsError, match=r"layer9.*stem/Conv"):
        plan_of(residual(), keep_float=("layer9",))


@pytest.mark.parametrize(
    ("shape", "groups", "first", "expected"),
    [
        ((64, 64, 3, 3), 1, False, True),
        ((64, 3, 7, 7), 1, True, True),
        ((8, 3, 3, 3), 1, True, True),
        ((9, 3, 3, 3), 1, True, False),
        ((8, 8, 3, 3), 1, False, False),
        ((32, 8, 3, 3), 1, False, True),
        ((32, 8, 1, 3), 1, False, False),
        ((33, 9, 3, 3), 1, False, False),
        ((8, 1, 3, 3), 8, False, True),
        ((12, 1, 3, 3), 12, False, False),
        ((8, 1, 1, 1), 8, False, False),
        ((32, 1, 3, 3), 32, False, True),
    ],
)
def test_least_channels(shape, groups, first, expected):
    assert wide_enough("Conv", shape, groups, first) is expected


def test_the_table_says_what_the_contract_says():
    table = read_table()
    assert table.weighted["Conv"].axis == 0
    assert table.weighted["ConvTranspose"].axis == 1
    assert table.activation_codes == (-128, 127)
    assert table.weight_codes == (-127, 127)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "best"},
        {"percentile": 40.0},
        {"bins": 3000},
        {"forward_pictures": 0},
        {"threads": -1},
        {"first_layer": "int4"},
        {"forms": ("c",)},
        {"forms": ()},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        CalibrationSettings(**wrong)
