"""The stored baseline of a gate: metrics with the reason of every change."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from toolkit.errors import ArtifactError, SettingsError
from toolkit.metrics import MetricSet

MIN_REASON = 10


def update_baseline(path: Path, metrics: MetricSet, reason: str, when: datetime | None = None) -> None:
    """Replace the metrics of a baseline file and record why; earlier reasons are kept.

    The file stays a ``metrics.json`` that :class:`~toolkit.metrics.MetricSet` reads.

    Args:
        path: the file; it need not exist yet.
        metrics: what the gate compares with from now on.
        reason: why the old numbers no longer hold, for whoever reads the history.
        when: the time that is recorded; now when None.

    Raises:
        SettingsError: the reason is missing or says nothing.
        ArtifactError: there are no metrics, or the present file is not a baseline.
    """
    reason = " ".join(reason.split())
    if len(reason) < MIN_REASON:
        raise SettingsError(f"a new baseline needs a reason of at least {MIN_REASON} characters, not {reason!r}")
    if len(metrics) == 0:
        raise ArtifactError("a baseline without a single metric would compare with nothing")
    body: dict[str, Any] = json.loads(metrics.to_json())
    moment = when or datetime.now(timezone.utc)
    body["history"] = [*history(path), {"when": moment.isoformat(timespec="seconds"), "reason": reason}]
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ArtifactError(f"cannot write the baseline {path}: {error.strerror}") from error


def history(path: Path) -> list[dict[str, str]]:
    """The recorded reasons, oldest first; none for a file that is not there yet.

    Raises:
        ArtifactError: the file is there and is not a metrics file.
    """
    if not path.exists():
        return []
    MetricSet.load(path)
    entries = json.loads(path.read_text(encoding="utf-8")).get("history", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ArtifactError(f"the history in {path} is not a list of entries")
    return entries
