from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reporting.factory import INT8, make_metrics, make_report, metric
from toolkit.metrics import Metric, MetricSet
from toolkit.reporting import compare_runs, write_markdown
from toolkit.reporting.compare import Difference, to_markdown, to_rows
from toolkit.reporting.markdown import to_summary


def _one(a: Metric | None, b: Metric | None, **more: Any) -> Difference:
    (entry,) = compare_runs(MetricSet([a] if a else []), MetricSet([b] if b else []), **more)
    return entry


def _map(value: float, half: float | None = 0.02, **more: Any) -> Metric:
    return metric("reid.map", value, INT8, interval=None if half is None else (value - half, value + half), **more)


def test_interval_of_two_independent_ones() -> None:
    entry = _one(_map(0.80, 0.03), _map(0.90, 0.04))
    assert entry.difference == pytest.approx(0.1)
    assert entry.interval == pytest.approx((0.05, 0.15))  # 3-4-5
    assert entry.outcome == "better"


def test_small_difference_is_not_shown() -> None:
    entry = _one(_map(0.80), _map(0.81))
    assert entry.outcome == "not shown"
    assert "includes zero" in entry.why


def test_paired_interval_decides_where_it_is_given() -> None:
    key = ("reid.map", INT8, "")
    entry = _one(_map(0.80), _map(0.81), paired={key: (0.004, 0.016)})
    assert (entry.outcome, entry.why, entry.interval) == ("better", "paired over identities", (0.004, 0.016))


def test_without_intervals_nothing_is_claimed() -> None:
    assert _one(_map(0.8, None), _map(0.9, None)).outcome == "not shown"


def test_counts_are_exact() -> None:
    entry = _one(
        metric("edge.parameters", 100, INT8, unit="count"), metric("edge.parameters", 90, INT8, unit="count")
    )
    assert (entry.outcome, entry.why) == ("better", "exact")


def test_another_test_set_is_not_comparable() -> None:
    assert _one(_map(0.8, n=100), _map(0.9, n=200)).outcome == "not comparable"
    assert _one(_map(0.8), _map(0.9, unit="dB")).outcome == "not comparable"


def test_times_of_two_machines_do_not_meet() -> None:
    times = [metric("latency.p50", 1.0, INT8, unit="ms", machine=machine) for machine in ("a", "b")]
    entries = compare_runs(MetricSet(times[:1]), MetricSet(times[1:]))
    assert [entry.outcome for entry in entries] == ["only in A", "only in B"]


def test_run_against_itself_is_the_same() -> None:
    entries = compare_runs(make_metrics(), make_metrics())
    assert {entry.outcome for entry in entries} == {"same"}
    assert len(entries) == len(make_metrics())
    assert f"{len(entries)} of {len(entries)} numbers are the same" in to_markdown(entries)


def test_table_has_signs_and_absences() -> None:
    (lost,) = to_rows([_one(_map(0.8), None)])
    assert lost[3:7] == ("0.800", "not measured", "–", "only in A")
    (worse,) = to_rows([_one(_map(0.9), _map(0.8))])
    assert worse[5].startswith("−0.100 (")
    assert worse[6] == "worse"


def test_markdown_summary(tmp_path: Any) -> None:
    path = write_markdown(make_report(), tmp_path / "a" / "summary.md")
    text = path.read_text(encoding="utf-8")
    assert text == to_summary(make_report())
    assert "**FAILS: 2 of 3 limits do not hold**" in text
    assert "slim INT8 (deployed)" in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert any(line.startswith("| mAP | 0.931 (0.897 to 0.960) |") for line in table)
    assert "predicted, for Jetson Orin Nano" in text
    hostile = to_summary(make_report(title="a | b <img src=x>"))
    assert "## a \\| b &lt;img src=x&gt;" in hostile
