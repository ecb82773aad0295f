import numpy as np
import pytest

from tests.unit.sweeps.handmade import Made
from toolkit.errors import ArtifactError
from toolkit.sweeps.evidence import matches, verdicts
from toolkit.sweeps.intervals import Column, average, difference, resampled
from toolkit.sweeps.report import to_markdown
from toolkit.sweeps.settings import EvidenceSettings
from toolkit.sweeps.table import collect

SCORES = {"prune": "scores"}
PATROL = {"prune": "masks", "set": {"slim": {"finetune": {"adversary": {"beta": 1.0}}}}}
METHODS = {"dense": {}, "shallow": {"set": {"model": {"cut": "layer1"}}}, "l1": SCORES, "patrol": PATROL,
           "device": {"wire": "embedding"}}  # fmt: skip
SETTINGS = EvidenceSettings()
TIGHT = {"macs": 1.0, "edge": {"budget": 2.0}}


@pytest.fixture
def made(tmp_path):
    """Everything of one seed; normalized SSIM is (ssim - 0.2) / 0.8."""
    made = Made(tmp_path, methods=METHODS, budget=0.5)
    made.finish("dense-seed0", map=0.60, ssim=0.80, macs=9.0, coded=200.0)
    made.finish("shallow-seed0", map=0.60, ssim=0.92, coded=300.0, plate=9, **TIGHT)
    made.finish("l1-seed0", map=0.50, ssim=0.60, plate=6, coded=100.0, **TIGHT)
    made.finish("device-seed0", map=0.60, ssim=0.28, macs=20.0, coded=10.0, plate=2)
    return made


def patrol(made, **changes):
    curves = {"finetune": {"adversary.error": [(step, 0.9) for step in range(30)]}}
    fields = {"map": 0.595, "ssim": 0.36, "plate": 2, "coded": 105.0, "curves": curves} | TIGHT | changes
    made.finish("patrol-seed0", **fields)
    return made.groups()


def test_the_target_is_met_with_half_of_the_leakage_at_no_loss(made):
    (group,) = patrol(made)
    strict, faithful = verdicts(group, SETTINGS)
    assert (strict.ssim.baseline, faithful.ssim.baseline) == ("l1", "shallow")
    assert strict.ssim.ratio.value == pytest.approx(0.2 / 0.5)
    assert faithful.ssim.ratio.value == pytest.approx(0.2 / 0.9)
    assert strict.plate.baseline == "l1" and strict.plate.ratio.value == pytest.approx(0.1 / 0.5)
    assert strict.map_loss == pytest.approx(0.005)
    assert strict.map_change.value == pytest.approx(0.095)
    assert strict.within and strict.holds(SETTINGS) and faithful.holds(SETTINGS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"map": 0.58}, False),  # two points of mAP
        ({"ssim": 0.48}, False),  # 0.7 of the best baseline's
        ({"plate": 5}, False),  # 0.8 of its plate
        ({"macs": 2.1}, False),  # above the budget
        ({"plate": None}, None),  # what was not read decides nothing
        ({"plate": None, "ssim": 0.48}, False),
    ],
)
def test_the_target_is_missed_when_one_part_is(made, changes, expected):
    (group,) = patrol(made, **changes)
    assert verdicts(group, SETTINGS)[0].holds(SETTINGS) is expected


def test_a_baseline_above_the_budget_is_none(made):
    (group,) = patrol(made)
    assert "dense" not in {verdict.ssim.baseline for verdict in verdicts(group, SETTINGS)}
    assert all(match.method not in ("dense", "device") for match in matches([group], "mAP", SETTINGS))


def test_without_a_baseline_nothing_is_decided(tmp_path):
    made = Made(tmp_path, methods={"dense": {}, "patrol": {"prune": "masks"}}, budget=0.5)
    made.finish("dense-seed0", map=0.6, ssim=0.8, macs=9.0)
    (group,) = patrol(made)
    verdict = verdicts(group, SETTINGS)[0]
    assert verdict.ssim is None and verdict.holds(SETTINGS) is None


def test_the_nearest_point_counts_within_the_tolerance(made):
    groups = patrol(made)
    (at_map,) = matches(groups, "mAP", SETTINGS)
    assert (at_map.method, at_map.how) == ("shallow", "nearest, +0.005 mAP")
    assert at_map.change.value == pytest.approx(-0.7)
    (at_rate,) = matches(groups, "coded bytes", SETTINGS)
    assert (at_rate.method, at_rate.bytes_entropy) == ("l1", pytest.approx(100.0))
    assert at_rate.how == "nearest, -5% bytes" and at_rate.change.value == pytest.approx(-0.3)
    assert at_rate.leaks == {"plate": pytest.approx(0.5)}
    tight = EvidenceSettings(map_tolerance=0.001, rate_tolerance=0.01)
    assert not matches(groups, "mAP", tight) and not matches(groups, "coded bytes", tight)


def test_between_two_points_it_is_interpolated_and_never_beyond(tmp_path):
    made = Made(tmp_path, methods={"dense": {}, "l1": SCORES, "patrol": {"prune": "masks"}},
                axes={"seed": [0], "wire.bits": [8, 4]}, budget=0.5)  # fmt: skip
    for bits, value, coded in ((8, 0.60, 400.0), (4, 0.40, 100.0)):
        made.finish(f"dense-seed0-bits{bits}", map=0.6, ssim=0.8, macs=9.0)
        made.finish(f"l1-seed0-bits{bits}", map=value, ssim=value, coded=coded, **TIGHT)
    made.finish("patrol-seed0-bits8", map=0.45, ssim=0.36, coded=200.0, **TIGHT)
    made.finish("patrol-seed0-bits4", map=0.30, ssim=0.36, coded=50.0, **TIGHT)
    groups = made.groups()
    (match,) = matches(groups, "mAP", SETTINGS)
    assert match.row.point == {"wire.bits": 8}
    assert match.map == pytest.approx(0.45) and match.ssim == pytest.approx((0.45 - 0.2) / 0.8)
    assert match.how == "between bits 4 and bits 8"
    (match,) = matches(groups, "coded bytes", SETTINGS)
    assert match.bytes_entropy == pytest.approx(200.0)
    assert match.ssim == pytest.approx((0.5 - 0.2) / 0.8), (
        "half way between 100 and 400 bytes on a logarithmic scale"
    )
    assert match.change.value == pytest.approx(0.2 - 0.375)


def test_jobs_of_a_version_that_read_no_leaks_are_rows_without_them(made):
    patrol(made)
    rows = {row.method: row for row in collect(made.sweep)}
    assert rows["dense"].leaks == {} and rows["dense"].background is None
    assert rows["patrol"].leaks["plate"].above.value == pytest.approx(0.1)
    assert rows["patrol"].background == pytest.approx(0.05)
    assert rows["patrol"].leak_excess == {"plate": pytest.approx(0.0)}
    assert rows["patrol"].excess == pytest.approx(0.2 - 0.1)
    assert rows["patrol"].latency_ms is None


def test_the_report_says_all_of_it(made):
    groups = patrol(made, frames={4: {"ssim": 0.45, "r2": 0.6}})
    text = to_markdown(made.sweep, groups)
    for title in ("read by name", "above the embedding", "training adversary", "same mAP", "same rate", "target"):
        assert title in text
    assert "| normalized SSIM | 1 frame | 4 frames |" in text and "| patrol | 0.200 | 0.450 |" in text
    assert "| patrol | 0.100 | 0.500 | +0.400 |" in text, "opinion, attacker, gap"
    assert "evidence of the identity: plate" in text
    assert "| patrol, within the budget | l1 | 0.005 | kept |" in text and "**met**" in text


def test_slack_is_held_against_the_split_that_the_budget_names(tmp_path):
    made = Made(tmp_path, methods=METHODS, budget="layer1")
    made.finish("dense-seed0", map=0.6, ssim=0.8, macs=9e6)
    (group,) = made.groups()
    row = group.entries[0].row
    assert set(row.limits) == {"macs", "parameters", "activation_bytes", "wire_bytes"}
    assert row.limits["wire_bytes"] == 8 * 8 * 8, "eight channels of 8 x 8 at 8 bits"
    split = f"{row.limits['macs'] / 1e6:.2f} M MACs"
    text = to_markdown(made.sweep, [group])
    assert split in text and f"9.00 M ({1 - 9e6 / row.limits['macs']:+.0%})" in text


def test_an_interval_covers_its_value_and_the_bounds_lie_inside():
    column = Column(np.arange(40, dtype=np.float64), tuple(str(number // 4) for number in range(40)))
    found = resampled([column])
    assert found.value == pytest.approx(19.5)
    assert found.low < found.at_least < found.value < found.at_most < found.high


def test_columns_of_other_identities_are_refused():
    one, two = (Column(np.ones(2), names) for names in (("a", "b"), ("a", "c")))
    for combine in (lambda: difference(one, two), lambda: average([one, two]), lambda: resampled([one, two])):
        with pytest.raises(ArtifactError, match="other queries or pictures"):
            combine()
