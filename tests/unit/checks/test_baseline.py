from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from toolkit.checks import update_baseline
from toolkit.checks.baseline import history
from toolkit.errors import ArtifactError, SettingsError
from toolkit.metrics import Metric, MetricSet

METRICS = MetricSet([Metric(name="reid.map", value=0.9, n=10)])
WHEN = datetime(2026, 11, 23, 10, tzinfo=timezone.utc)


def test_reasons_are_kept_and_the_file_stays_a_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "baseline.json"
    assert history(path) == []
    update_baseline(path, METRICS, "first measurement", WHEN)
    update_baseline(path, METRICS, "a deeper  cut\nwas chosen", WHEN)
    assert [entry["reason"] for entry in history(path)] == ["first measurement", "a deeper cut was chosen"]
    assert history(path)[0]["when"] == "2026-11-23T10:00:00+00:00"
    assert MetricSet.load(path).to_json() == METRICS.to_json()


@pytest.mark.parametrize("reason", ["", "   ", "because"])
def test_a_reason_must_say_something(tmp_path: Path, reason: str) -> None:
    with pytest.raises(SettingsError, match="needs a reason"):
        update_baseline(tmp_path / "baseline.json", METRICS, reason)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_that_is_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ArtifactError):
        update_baseline(path, METRICS, "a good reason indeed")
    assert path.read_text() == "mine"


def test_an_empty_baseline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing"):
        update_baseline(tmp_path / "b.json", MetricSet(), "a good reason indeed")
