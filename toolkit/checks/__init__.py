"""The gate: limits on a run's metrics, and verdicts that fail closed."""

from toolkit.checks.baseline import update_baseline
from toolkit.checks.check import check
from toolkit.checks.junit import write_junit
from toolkit.checks.limits import Limit, Limits, load_limits, parse_limits
from toolkit.checks.select import against
from toolkit.checks.verdict import Verdict, all_hold

__all__ = [
    "Limit",
    "Limits",
    "Verdict",
    "against",
    "all_hold",
    "check",
    "load_limits",
    "parse_limits",
    "update_baseline",
    "write_junit",
]
