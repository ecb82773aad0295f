from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from toolkit.checks import Verdict, write_junit
from toolkit.checks.formats import COLUMNS, rows, summary, to_github, to_markdown, to_sarif
from toolkit.checks.junit import to_junit

GOOD = Verdict("mAP", True, 0.9, ">= 0.8", "0.9 holds >= 0.8", metric="reid.map", variant="slim")
BAD = Verdict(
    "leak <b>|",
    False,
    0.5,
    "<= 0.3",
    "0.5 breaks\n100%: a,b \x00",
    "exceeded",
    "privacy.r2",
    "slim",
    "ridge",
    "dB",
)


def test_junit_counts_and_survives_bad_characters(tmp_path: Path) -> None:
    path = tmp_path / "new" / "junit.xml"
    write_junit([GOOD, BAD], path)
    root = ET.parse(path).getroot()
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("type") == "exceeded"
    assert "\x00" not in (failure.text or "")
    assert suite.findall("testcase")[0].find("failure") is None


def test_junit_of_nothing_is_a_failure() -> None:
    assert ET.fromstring(to_junit([])).get("failures") == "1"


def test_markdown_keeps_hostile_names_in_their_cell() -> None:
    text = to_markdown([GOOD, BAD])
    assert text.startswith("**FAILS: 1 of 2 limits do not hold**")
    assert "leak &lt;b&gt;\\|" in text
    assert all(line.count("|") - line.count("\\|") == 7 for line in text.splitlines()[2:])


def test_rows_have_failures_first_and_units() -> None:
    first, second = rows([GOOD, BAD])
    assert len(first) == len(COLUMNS)
    assert first[0] == "FAIL"
    assert first[3] == "0.5 dB"
    assert second[0] == "pass"


def test_summary_in_words() -> None:
    assert summary([]) == "FAILS: nothing was judged"
    assert summary([GOOD]) == "PASSES: the limit holds"
    assert summary([GOOD, GOOD]) == "PASSES: all 2 limits hold"


def test_github_annotations_are_one_line_each() -> None:
    lines = to_github([GOOD, BAD], "ci/limits.yaml").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "::error file=ci/limits.yaml,title=leak <b>| slim / ridge::0.5 breaks%0A100%25: a,b"
    )
    assert to_github([GOOD]).startswith("::notice ")
    assert to_github([]).startswith("::error ")


def test_sarif_has_a_rule_per_reason() -> None:
    body = json.loads(to_sarif([GOOD, BAD], "limits.yaml"))
    (run,) = body["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["exceeded"]
    assert [result["ruleId"] for result in run["results"]] == ["exceeded"]
    assert body["version"] == "2.1.0"
