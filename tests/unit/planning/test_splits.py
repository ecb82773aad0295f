"""The split planner: deeper cuts cost more on the edge and less on the wire; limits say what must go."""

import json

import pytest
from typer.testing import CliRunner

from targets.jetson.catalogue import find_module
from toolkit.cli import app
from toolkit.errors import ModelError, SettingsError
from toolkit.planning.plot import kept, plot_splits
from toolkit.planning.splits import EdgeLimits, Link, Network, plan_splits

NETWORK = Network("resnet18", 64, 64)
NANO = find_module("orin-nano-8gb")
MODE = NANO.mode("15W")
CUTS = ("layer1.1", "layer2.1", "layer3.1")


@pytest.fixture(scope="module")
def plan():
    privacy = {"layer2.1": 0.4}
    return plan_splits(NETWORK, NANO, MODE, Link(10.0, 5.0), cuts=CUTS, cloud_gmacs_per_ms=2.0, privacy=privacy)


def test_deeper_cuts_cost_more_on_the_edge_and_less_elsewhere(plan):
    assert [split.cut for split in plan] == list(CUTS)
    edge = [split.edge.latency_ms.value for split in plan]
    assert edge == sorted(edge)
    for name in ("wire_bytes", "wire_ms", "cloud_ms"):
        values = [getattr(split, name) for split in plan]
        assert values == sorted(values, reverse=True)
    assert all(split.edge.provenance == "predicted" for split in plan)


def test_wire_and_total_are_sums(plan):
    split = plan[0]
    assert 64 * 16 * 16 < split.wire_bytes < 64 * 16 * 16 + 200
    assert split.wire_ms == pytest.approx(split.wire_bytes * 8 / 10e3 + 5)
    assert split.total_ms.value == pytest.approx(split.edge.latency_ms.value + split.wire_ms + split.cloud_ms)
    assert [s.privacy for s in plan] == [None, 0.4, None] and split.fitting_width == 1.0


def test_fewer_bits_make_a_smaller_wire():
    (eight,) = plan_splits(NETWORK, NANO, MODE, Link(10.0), cuts=["layer2.1"])
    (four,) = plan_splits(NETWORK, NANO, MODE, Link(10.0), cuts=["layer2.1"], bits=4)
    assert four.wire_bytes < 0.6 * eight.wire_bytes and eight.cloud_ms is None


def test_a_broken_limit_names_the_width_that_fits(plan):
    dense = plan[2].edge
    limits = EdgeLimits(mb=0.6 * dense.memory_mb.value)
    (found,) = plan_splits(NETWORK, NANO, MODE, Link(10.0), cuts=["layer3.1"], limits=limits)
    assert found.over == ("mb",) and 0.1 < found.fitting_width < 1 and 0.2 < found.removed < 0.95
    (hopeless,) = plan_splits(NETWORK, NANO, MODE, Link(10.0), cuts=["layer3.1"], limits=EdgeLimits(ms=1e-4))
    assert hopeless.fitting_width is None and hopeless.removed is None


def test_the_plot_shows_time_memory_privacy_and_what_would_have_to_go(plan, tmp_path):
    plot_splits(plan, EdgeLimits(), tmp_path / "plan.svg")
    drawn = (tmp_path / "plan.svg").read_text()
    texts = ("layer3.1", "memory (predicted)", "privacy, as given", "cloud", "wire and round trip")
    assert all(f"<!-- {text} -->" in drawn for text in texts) and "hatched" not in drawn
    limits = EdgeLimits(ms=0.9 * plan[2].edge.latency_ms.value, mb=0.6 * plan[2].edge.memory_mb.value)
    found = plan_splits(NETWORK, NANO, MODE, Link(10.0), cuts=CUTS, limits=limits)
    plot_splits(found, limits, tmp_path / "limited.svg")
    drawn = (tmp_path / "limited.svg").read_text()
    assert f"<!-- {kept(found[2])} -->" in drawn and "hatched: breaks a limit" in drawn
    assert f"<!-- limit, {limits.mb:g} MB -->" in drawn and "privacy" not in drawn


def test_refusals():
    with pytest.raises(SettingsError, match="positive bandwidth"):
        Link(0.0)
    with pytest.raises(ModelError):
        plan_splits(NETWORK, NANO, MODE, Link(1.0), cuts=["layer9"])


def test_command(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"layer1.0": 0.6}))
    command = ["split", "resnet18", "--device", "orin-nano-8gb", "--size", "32x64", "--json"]
    shown = CliRunner().invoke(app, [*command, "--privacy", str(tmp_path / "p.json")])
    rows = json.loads(shown.stdout[shown.stdout.index("[\n") :])
    assert len(rows) == 9 and rows[1]["privacy"] == 0.6 and rows[0]["edge"]["provenance"] == "predicted"
    odd = CliRunner().invoke(app, [*command[:-2], "big"])
    assert isinstance(odd.exception, SettingsError)
