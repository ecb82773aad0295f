from __future__ import annotations

import json
import re
from pathlib import Path

from tests.unit.command_line import patrol_edge
from tests.unit.commands.conftest import INT8, MakeRun, metrics_of
from toolkit.commands.paired import paired_intervals
from toolkit.runs import RunFolder


def test_page_markdown_and_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("before", metrics=metrics_of(0.95, 1.0), ap=[0.95] * 4)
    runs = make_run("after", metrics=metrics_of(0.60, 0.5), ap=[0.6] * 4).parent
    page = tmp_path / "pages" / "compare.html"
    outcome = patrol_edge("report", "--compare", "before", "after", "--runs", runs, "--output", page)
    assert outcome.code == 0, outcome.err
    assert "after against before: 2 of 3 numbers differ" in " ".join(outcome.out.split())
    text = page.read_text()
    assert re.search(r"<h2>.*Worse in B: 1; better: 1</h2>", text)
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "after against before" in page.with_suffix(".md").read_text()


def test_json_has_every_number(make_run: MakeRun, tmp_path: Path) -> None:
    a = make_run("a", metrics=metrics_of(0.95), ap=[0.95] * 4)
    b = make_run("b", metrics=metrics_of(0.6), ap=[0.6] * 4)
    page = tmp_path / "compare.html"
    outcome = patrol_edge("report", "--compare", a, b, "--output", page, "--json")
    rows = {(row["name"], row["variant"]): row for row in json.loads(outcome.out)}
    assert rows["reid.map", INT8]["outcome"] == "worse"
    assert rows["reid.map", INT8]["a"]["value"] == 0.95
    assert rows["latency.p50", INT8]["outcome"] == "same"


def test_same_test_pictures_are_compared_in_pairs(make_run: MakeRun) -> None:
    """A difference that every query shares is certain, however far the queries lie apart."""
    a = RunFolder.read(make_run("a", ap=[1.0, 0.5, 0.6, 0.9]))
    b = RunFolder.read(make_run("b", ap=[0.9, 0.4, 0.5, 0.8]))
    low, high = paired_intervals(a, b)["reid.map", INT8, "veri"]
    assert (round(low, 6), round(high, 6)) == (-0.1, -0.1)
    assert paired_intervals(a, None) == {}


def test_other_test_pictures_are_not_paired(make_run: MakeRun) -> None:
    a, root = RunFolder.read(make_run("a")), make_run("b")
    other = RunFolder.read(root)
    folder = other.begin("data", "another test")
    body = json.loads((root / "data" / "index.json").read_text())
    body["paths"][0] = "other.jpg"
    (folder / "index.json").write_text(json.dumps(body))
    other.finish("data", "another test", code_version=1, inputs={}, seconds=0.0, summary={})
    assert paired_intervals(a, other) == {}


def test_names_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    file = tmp_path / "<b>x&y.json"
    file.write_text(metrics_of(0.5).to_json())
    page = tmp_path / "compare.html"
    assert patrol_edge("report", "--compare", make_run("a"), file, "--output", page).code == 0
    assert "<b>" not in page.read_text()
    assert "&lt;b&gt;x&amp;y" in page.read_text()


def test_wrong_use_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    root = make_run("a")
    assert "needs a configuration, or --compare" in patrol_edge("report").err
    assert "no configuration" in patrol_edge("report", "x.yaml", "--compare", root, root).err
    assert "no run folder" in patrol_edge("report", "--compare", root, tmp_path / "nothing").err
    unfinished = RunFolder.open(tmp_path / "runs" / "begun", name="begun", settings={}, environment={})
    unfinished.save()
    assert "has no metrics yet" in patrol_edge("report", "--compare", root, unfinished.root).err
