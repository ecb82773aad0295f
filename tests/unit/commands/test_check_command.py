from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.unit.command_line import patrol_edge
from tests.unit.commands.conftest import DENSE, INT8, MakeRun, metrics_of
from toolkit.checks.baseline import history
from toolkit.metrics import MetricSet

HOLDS = {"metric": "reid.map", "variant": "slim-int8-*", "min": 0.8}
FAILS = {"metric": "reid.map", "variant": "slim-int8-*", "relative_to": "dense-*", "drop_max": 0.001}


@pytest.fixture
def limits(tmp_path: Path) -> Path:
    path = tmp_path / "limits.yaml"
    path.write_text(json.dumps({"limits": [HOLDS]}))
    return path


def test_newest_run_is_judged_by_its_own_limits(make_run: MakeRun) -> None:
    runs = make_run("only", limits=[HOLDS]).parent
    outcome = patrol_edge("check", "--runs", runs)
    assert outcome.code == 0, outcome.err
    assert "PASSES: the limit holds" in outcome.out


def test_failed_limit_is_exit_code_one_and_comes_first(make_run: MakeRun) -> None:
    root = make_run("only", limits=[HOLDS, FAILS])
    outcome = patrol_edge("check", root, "--github")
    assert outcome.code == 1
    assert "FAILS: 1 of 2 limits" in outcome.out
    assert outcome.out.index("FAIL ") < outcome.out.index("pass ")
    assert "::error " in outcome.out


def test_json_is_only_json(make_run: MakeRun, limits: Path) -> None:
    root = make_run("only")
    outcome = patrol_edge("check", root, "--limits", limits, "--json")
    body = json.loads(outcome.out)
    assert body["holds"] is True
    assert body["verdicts"][0]["variant"] == INT8


def test_every_output_is_written(make_run: MakeRun, limits: Path, tmp_path: Path) -> None:
    names = {"--junit": "out/junit.xml", "--sarif": "out/check.sarif", "--markdown": "out/check.md"}
    arguments = [part for option, name in names.items() for part in (option, tmp_path / name)]
    outcome = patrol_edge("check", make_run("only"), "--limits", limits, *arguments)
    assert outcome.code == 0, outcome.err
    assert ElementTree.parse(tmp_path / "out/junit.xml").getroot().get("tests") == "1"
    assert json.loads((tmp_path / "out/check.sarif").read_text())["version"] == "2.1.0"
    assert "PASSES" in (tmp_path / "out/check.md").read_text()


def test_metrics_file_is_a_baseline_for_all_but_times(make_run: MakeRun, tmp_path: Path) -> None:
    root = make_run("only", metrics=metrics_of(value=0.85))
    baseline = tmp_path / "baseline.json"
    baseline.write_text(metrics_of(value=0.9).to_json())
    file = tmp_path / "limits.yaml"
    relative = {"variant": INT8, "relative_to": "baseline"}
    file.write_text(
        json.dumps(
            {
                "limits": [
                    {"metric": "reid.map", "drop_max": 0.1, **relative},
                    {"metric": "latency.p50", "ratio_max": 2.0, **relative},
                ]
            }
        )
    )
    outcome = patrol_edge("check", root, "--limits", file, "--baseline", baseline, "--json")
    verdicts = {row["metric"]: row for row in json.loads(outcome.out)["verdicts"]}
    assert outcome.code == 1
    assert verdicts["reid.map"]["ok"] is True
    assert verdicts["latency.p50"]["ok"] is False
    assert "profile with the baseline run" in verdicts["latency.p50"]["why"]


@pytest.mark.parametrize(("layers", "holds"), [(3, True), (9, False)])
def test_baseline_run_is_built_again_and_timed_in_turns(
    make_run: MakeRun, tmp_path: Path, layers: int, holds: bool
) -> None:
    """Stored times would say the opposite: the run claims 0.1 ms and its baseline 1 ms, or the other way round."""
    claimed = (5.0, 1.0) if holds else (0.1, 1.0)
    run = make_run("run", layers=layers, metrics=metrics_of(latency=claimed[0]))
    make_run("before", layers=3, metrics=metrics_of(latency=claimed[1]))
    file = tmp_path / "limits.yaml"
    limit = {"metric": "latency.p50", "variant": INT8, "relative_to": "baseline", "ratio_max": 1.5}
    file.write_text(json.dumps({"limits": [limit]}))
    outcome = patrol_edge(
        "check", run.name, "--runs", run.parent, "--limits", file, "--baseline", "before", "--json"
    )
    verdicts = json.loads(outcome.out)["verdicts"]
    assert len(verdicts) == 1, verdicts
    (verdict,) = verdicts
    assert (outcome.code, verdict["ok"]) == ((0, True) if holds else (1, False)), verdict["why"]
    assert "interleaved" in verdict["why"]
    assert (verdict["value"] < 1.5) == holds


def test_changed_network_of_the_baseline_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run, before = make_run("run"), make_run("before")
    damaged = before / "quantize" / "edge.cpu.onnx"
    damaged.write_bytes(damaged.read_bytes() + b"x")
    file = tmp_path / "limits.yaml"
    limit = {"metric": "latency.p50", "variant": INT8, "relative_to": "baseline", "ratio_max": 1.5}
    file.write_text(json.dumps({"limits": [limit]}))
    outcome = patrol_edge("check", run, "--limits", file, "--baseline", before)
    assert outcome.code == 2
    assert "error PE500" in outcome.err


def test_baseline_is_written_with_its_reason(make_run: MakeRun, tmp_path: Path) -> None:
    root, path = make_run("only"), tmp_path / "baseline.json"
    arguments = ("check", root, "--baseline", path, "--update-baseline", "--reason")
    assert patrol_edge(*arguments, "no").code == 2
    assert not path.exists()
    outcome = patrol_edge(*arguments, "first measurement on this host")
    assert outcome.code == 0, outcome.err
    assert MetricSet.load(path).to_json() == metrics_of().to_json()
    assert [entry["reason"] for entry in history(path)] == ["first measurement on this host"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "nothing"), "no run folder, no metrics file and no run in"),
        (("check",), "no finished run in"),
        (("check", "{run}"), "has no limits of its own; name a file with --limits"),
        (("check", "{run}", "--set", "seed=1"), "--set changes a configuration"),
        (("check", "{run}", "--update-baseline", "--reason", "because of that"), "needs --baseline FILE"),
        (("check", "{run}", "--update-baseline", "--baseline", "{run}", "--reason", "because of it"), "is a run"),
        (("check", "{run}", "--limits", "nowhere.yaml"), "cannot read the limits"),
    ],
)
def test_wrong_use_is_one_line(make_run: MakeRun, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    needs_run = any("{run}" in part for part in arguments)
    root = make_run("only") if needs_run else tmp_path / "none"
    outcome = patrol_edge(*(part.format(run=root) for part in arguments), "--runs", tmp_path / "empty")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert words in outcome.err


def test_missing_variant_of_the_baseline_fails_closed(make_run: MakeRun, tmp_path: Path) -> None:
    root = make_run("run")
    bare = tmp_path / "metrics.json"
    bare.write_text(MetricSet([m for m in metrics_of() if m.variant == DENSE]).to_json())
    file = tmp_path / "limits.yaml"
    file.write_text(
        json.dumps(
            {"limits": [{"metric": "reid.map", "variant": INT8, "relative_to": "baseline", "drop_max": 1.0}]}
        )
    )
    outcome = patrol_edge("check", root, "--limits", file, "--baseline", bare, "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["verdicts"][0]["reason"] == "no-baseline"
