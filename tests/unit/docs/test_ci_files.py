"""The ready-made CI files parse, and every command in them exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.unit.docs.blocks import DOCS, ROOT
from tests.unit.docs.test_pages import _check
from toolkit.checks import load_limits
from toolkit.settings import load_settings

FILES = ("github.yml", "gitlab.yml", "Jenkinsfile")


def _lines(path: Path) -> Iterator[str]:
    if path.suffix != ".yml":
        for one, two in re.findall(r"sh (?:'([^']+)'|\"([^\"]+)\")", path.read_text()):
            yield one or two
        return
    body = yaml.safe_load(path.read_text())
    if "jobs" in body:
        for step in body["jobs"]["gate"]["steps"]:
            yield from step.get("run", "").splitlines()
    else:
        yield from body["edge"]["script"]


@pytest.mark.parametrize("name", FILES)
def test_commands_exist(name: str) -> None:
    lines = [line for line in _lines(DOCS / "ci" / name) if not line.startswith("test ")]
    for line in lines:
        words = shlex.split(line)
        _check([words[0].removeprefix(".venv/bin/"), *words[1:]])
    text = "\n".join(lines)
    for must in ("make test", "tests/gpu", "patrol-edge check", "--baseline", "conformance", "--junit"):
        assert must in text, must


@pytest.mark.parametrize("name", FILES)
def test_report_is_kept_also_when_the_gate_fails(name: str) -> None:
    text = (DOCS / "ci" / name).read_text()
    assert "runs/demo/report" in text
    assert "always" in text


def test_limits_and_configuration_of_the_examples_are_valid() -> None:
    limits = load_limits(DOCS / "ci" / "limits.yaml")
    assert len(limits.limits) >= 6
    assert load_settings(ROOT / "configs" / "demo.yaml").name == "demo"


def test_the_limits_judge_a_run(tmp_path: Path) -> None:
    """On made-up numbers of a good run every limit of the example holds."""
    from tests.unit.docs.conftest import INT8, example_metrics
    from toolkit.checks import all_hold, check
    from toolkit.metrics import Metric, MetricSet

    entropy = Metric(name="wire.bytes_entropy", value=900, unit="bytes", n=100, variant=INT8, split="test")
    metrics = MetricSet([*example_metrics(), entropy])
    verdicts = check(metrics, load_limits(DOCS / "ci" / "limits.yaml"), metrics)
    assert all_hold(verdicts), [verdict.why for verdict in verdicts if not verdict.ok]
