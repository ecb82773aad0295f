"""The command line itself: every command's help, stage commands alone, runs, doctor."""

import json
import re
import shutil

import pytest

from tests.unit.command_line import patrol_edge
from tests.unit.pipeline.commands import read_json, write_config
from toolkit.runs import RunFolder
from toolkit.stages import ORDER, SUMMARIES


def plain(text):
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", text))


def test_help_names_every_command():
    outcome = patrol_edge("--help")
    assert outcome.code == 0
    for name in ("run", "runs", "doctor", *ORDER):
        assert re.search(rf"\b{name}\b", outcome.out), name


@pytest.mark.parametrize("command", ["run", *ORDER])
def test_help_of_a_command_names_its_arguments(command):
    outcome = patrol_edge(command, "--help")
    assert outcome.code == 0
    text = plain(outcome.out)
    for word in ("CONFIG", "--runs", "--set", "section.key=value", "configs/"):
        assert word.lower() in text.lower(), text
    if command in SUMMARIES:
        assert SUMMARIES[command][1:30] in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("runs",), ["list", "gc"]),
        (("runs", "list"), ["--runs", "--json"]),
        (("runs", "gc"), ["--keep", "--yes"]),
        (("doctor",), ["--json"]),
    ],
)
def test_help_of_the_other_commands(command, words):
    outcome = patrol_edge(*command, "--help")
    assert outcome.code == 0
    assert all(word in plain(outcome.out) for word in words)


def test_stage_command_runs_what_it_needs_and_says_so(tmp_path, fleet):
    config = write_config(tmp_path, data=fleet)
    outcome = patrol_edge("slim", config, "--runs", tmp_path / "runs")
    assert outcome.code == 0, outcome.log
    assert outcome.out == f"slim: {tmp_path / 'runs' / 'tiny' / 'slim'}\n"
    assert "train" in outcome.lines[0] and "attack" not in outcome.lines[0], "only these stages are announced"
    done = [line.split(" ", 1)[1].split(" done in")[0] for line in outcome.lines if ": done in" in line]
    assert done == ["[1/3] data:", "[2/3] train:", "[3/3] slim:"]
    assert list(RunFolder.read(tmp_path / "runs" / "tiny").manifest.stages) == ["data", "train", "slim"]


@pytest.mark.parametrize("command", ORDER)
def test_stage_command_of_a_finished_stage_does_nothing(repeated, command):
    before = (repeated.runs / "tiny" / "manifest.json").stat().st_size
    outcome = repeated.again(command=command)
    assert outcome.code == 0, outcome.log
    assert outcome.out.splitlines()[0] == f"{command}: {repeated.runs / 'tiny' / command}"
    assert sum("unchanged, skipped" in line for line in outcome.lines) == ORDER.index(command) + 1
    assert (repeated.runs / "tiny" / "manifest.json").stat().st_size == before


def test_check_command_says_its_verdict(copied):
    limits = "check.limits=[{metric: reid.map, variant: dense-*, min: 1.1}]"
    outcome = copied.again("--set", limits, command="check")
    assert outcome.code == 1
    assert "FAILED" in outcome.out


def test_set_overrides_the_file_and_is_recorded(tmp_path, fleet):
    config = write_config(tmp_path, data=fleet)
    texts = ("name=other", "picture.height=48", "data.splits={calibration_pictures: 9}")
    changes = [f"--set={text}" for text in texts]
    outcome = patrol_edge("data", config, "--runs", tmp_path / "runs", *changes)
    assert outcome.code == 0, outcome.log
    run = RunFolder.read(tmp_path / "runs" / "other")
    assert run.manifest.settings["picture"] == {"height": 48, "width": 32, "interpolation": "area"}
    assert len(read_json(run.path("data", "index.json"))["rows"]["calibration"]) == 9


def test_runs_are_listed(copied):
    table = patrol_edge("runs", "list", "--runs", copied.runs)
    assert table.code == 0 and "tiny" in table.out and "evaluate" in table.out
    rows = patrol_edge("runs", "list", "--runs", copied.runs, "--json")
    (row,) = json.loads(rows.out)
    assert row["name"] == "tiny" and row["stages"] == list(ORDER) and row["bytes"] > 1_000_000
    nothing = patrol_edge("runs", "list", "--runs", copied.runs / "nothing", "--json")
    assert nothing.code == 0 and json.loads(nothing.out) == []


def test_old_runs_go_only_when_told(copied):
    older = copied.runs / "older"
    shutil.copytree(copied.runs / "tiny", older)
    text = (older / "manifest.json").read_text().replace('"created": "2', '"created": "1')
    (older / "manifest.json").write_text(text)
    (copied.runs / "tiny" / "train.partial").mkdir()
    (copied.runs / "tiny" / "train.partial" / "half").write_text("x")

    arguments = ("runs", "gc", "--runs", copied.runs, "--keep", "1")
    dry = patrol_edge(*arguments)
    assert dry.code == 0
    assert dry.out.count("would delete") == 2
    assert older.exists() and (copied.runs / "tiny" / "train.partial").exists()

    wet = patrol_edge(*arguments, "--yes")
    assert wet.out.count("deleted") == 2
    assert not older.exists() and not (copied.runs / "tiny" / "train.partial").exists()
    assert copied.again().code == 0
    assert patrol_edge(*arguments, "--yes").out == "nothing to delete\n"


def test_doctor_says_what_is_there_and_what_is_missing():
    findings = json.loads(patrol_edge("doctor", "--json").out)
    assert all(item["state"] in ("ok", "absent", "warning") for item in findings)
    assert all(item["advice"] for item in findings if item["state"] != "ok"), "what is missing comes with advice"
    table = patrol_edge("doctor")
    assert table.code == 0 and all(item["what"].split()[0] in table.out for item in findings)
