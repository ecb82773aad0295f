"""Stage ``check``: the gate's verdicts as JSON, JUnit and Markdown."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from toolkit.metrics import MetricSet
from toolkit.runs import file_sha256
from toolkit.settings import RunSettings
from toolkit.stages.base import METRICS, Context, Stage


class CheckStage(Stage):
    """Limits on the run's metrics; what was not measured fails."""

    name = "check"
    version = 1
    sections = ("check",)
    inputs = ("report",)

    def files(self, settings: RunSettings) -> dict[str, str]:
        path = settings.check.file
        return {path.name: file_sha256(path)} if path and path.exists() else {}

    def run(self, context: Context) -> None:
        from toolkit.checks.junit import write_junit

        metrics = MetricSet.load(context.run.path("report", METRICS))
        verdicts = judge(context.settings, metrics, context.machine)
        context.write_json("verdicts.json", [asdict(verdict) for verdict in verdicts])
        write_junit(verdicts, context.folder / "junit.xml")
        failed = sum(not verdict.ok for verdict in verdicts)
        context.summary.update(passed=len(verdicts) - failed, failed=failed)


def judge(settings: RunSettings, metrics: MetricSet, machine: str) -> list[Any]:
    """Verdicts of the run's own limits and of its limits file."""
    from toolkit.checks.check import check
    from toolkit.checks.limits import Limits, load_limits

    limits = list(settings.check.limits)
    if settings.check.file is not None:
        limits += load_limits(settings.check.file).limits
    if not limits:
        return []
    return list(check(metrics, Limits(schema=1, limits=tuple(limits)), machine=machine))
