"""Latency against a baseline run: both engines built here, now, and measured in one interleaved run.

Two sessions on one machine differ by more than most changes of a model do, so a stored number is no reference for
a time. What is stored is the network: it is built again beside today's, and rounds of both alternate.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.checks.compare import MEDIANS
from toolkit.checks.limits import BASELINE, Limits
from toolkit.checks.select import RATIO, against, matches
from toolkit.engines import build_engine, open_engine
from toolkit.engines.base import Engine
from toolkit.engines.edge_inputs import edge_inputs
from toolkit.engines.settings import BuildSettings, RunSettings
from toolkit.engines.sidecar import Sidecar
from toolkit.errors import ArtifactError
from toolkit.metrics import Metric, MetricSet
from toolkit.preprocess import to_input
from toolkit.profiling import ProfileSettings, compare, profile
from toolkit.runs import RunFolder
from toolkit.variants import Variant

logger = logging.getLogger(__name__)
VARIANTS = "variants.json"
MEDIAN = "latency.p50"


def timed_against_baseline(limits: Limits, keys: Iterable[str]) -> tuple[str, ...]:
    """Variants whose median latency some limit compares with the baseline."""
    wanted = [
        limit.variant
        for limit in limits.limits
        if limit.relative_to == BASELINE and limit.metric in MEDIANS and not limit.separate_sessions
    ]
    return tuple(key for key in keys if any(matches(key, pattern) for pattern in wanted))


def running_variants(run: RunFolder) -> tuple[str, ...]:
    """Variants of a run whose engines ran on its machine.

    Raises:
        ArtifactError: the run has no finished build stage.
    """
    body = json.loads(run.path("build", VARIANTS).read_text(encoding="utf-8"))
    return tuple(row["key"] for row in body["variants"] if row["runs"])


@dataclass(frozen=True)
class Remeasured:
    """Medians of one interleaved run on this machine, and their ratio.

    Attributes:
        run, baseline: ``latency.p50`` of the variant.
        ratio: ``latency.ratio`` with protocol ``against:baseline``.
    """

    run: Metric
    baseline: Metric
    ratio: Metric


def measure_against(
    run: RunFolder,
    baseline: RunFolder,
    keys: Iterable[str],
    machine: str,
    settings: ProfileSettings | None = None,
) -> list[Remeasured]:
    """Time a run's engines against the baseline's, both built anew on this machine, in turns.

    Args:
        run: the run to be judged.
        baseline: the run it is compared with.
        keys: variants to time; those that the baseline does not have are left out, so that the limit fails.
        machine: this machine, in words.
        settings: of the measurement; the run's own when None.

    Raises:
        ArtifactError: a file of a run is missing or was changed, or the pictures differ in size.
        EngineError: an engine cannot be built or run here.
    """
    options = settings or ProfileSettings.model_validate(run.manifest.settings.get("profile", {}))
    there = running_variants(baseline)
    found = []
    for key in keys:
        if key in there:
            logger.info("building %s and the baseline's again, and timing them in turns", key)
            found.append(_measure(run, baseline, key, machine, options))
    return found


def substitute(
    metrics: MetricSet, baseline: MetricSet, fresh: Iterable[Remeasured], machine: str
) -> tuple[MetricSet, MetricSet]:
    """Both sets with what was measured anew; the run's own medians stay when it was measured elsewhere."""
    for item in fresh:
        own = [*metrics.find(MEDIAN, item.run.variant)]
        if all(metric.machine == machine for metric in own):
            metrics = _replaced(metrics, item.run)
        metrics = _replaced(metrics, item.ratio)
        baseline = _replaced(baseline, item.baseline)
    return metrics, baseline


def _replaced(metrics: MetricSet, fresh: Metric) -> MetricSet:
    """``fresh`` in place of measured numbers of its name and variant; of a ratio also of its protocol."""
    kept = [metric for metric in metrics if not _supersedes(fresh, metric)]
    return MetricSet([*kept, fresh])


def _supersedes(fresh: Metric, old: Metric) -> bool:
    same = (fresh.name, fresh.variant, fresh.provenance) == (old.name, old.variant, old.provenance)
    return same and (fresh.name != RATIO or fresh.protocol == old.protocol)


def _measure(run: RunFolder, baseline: RunFolder, key: str, machine: str, options: ProfileSettings) -> Remeasured:
    picture = _picture(run)
    if _picture(baseline).shape != picture.shape:
        raise ArtifactError(
            f"{baseline.root} and {run.root} take pictures of different sizes; make a baseline of this size"
        )
    with tempfile.TemporaryDirectory(prefix="patrol-check-") as scratch, ExitStack() as stack:
        engines: Mapping[str, Engine] = {
            name: stack.enter_context(_Closing(_built(source, key, Path(scratch) / name)))
            for name, source in (("run", run), (BASELINE, baseline))
        }
        inputs = {name: edge_inputs(engine, to_input(picture)) for name, engine in engines.items()}
        profiles = profile(engines, inputs, options)
    medians = {
        name: next(metric for metric in item.metrics() if metric.name == MEDIAN).model_copy(
            update={"variant": key, "machine": machine}
        )
        for name, item in profiles.items()
    }
    ratio = compare(profiles["run"], profiles[BASELINE])
    return Remeasured(
        medians["run"],
        medians[BASELINE],
        Metric(
            name=RATIO,
            value=ratio.value,
            n=len(profiles["run"].rounds_ms),
            interval=ratio.interval,
            variant=key,
            machine=machine,
            protocol=against(BASELINE),
        ),
    )


class _Closing:
    """An engine that is closed at the end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __enter__(self) -> Engine:
        return self.engine

    def __exit__(self, *error: object) -> None:
        self.engine.close()


def _built(run: RunFolder, key: str, folder: Path) -> Engine:
    """The variant's engine, built again from the network that its sidecar names."""
    folder.mkdir()
    variant = Variant.from_key(key)
    name = "edge.onnx" if variant.engine == "onnxruntime" else "edge.engine"
    sidecar = Sidecar.load(run.folder("build", key) / name)
    options: dict[str, Any] = {**sidecar.options, "timing_cache": None}
    built = build_engine(_network(run, sidecar.onnx_sha256), folder / name, BuildSettings.model_validate(options))
    return open_engine(built.path, RunSettings(threads=built.sidecar.options["threads"]))


def _network(run: RunFolder, digest: str) -> Path:
    """The ONNX file of a run with that sha256, whatever stage wrote it."""
    for stage in ("export", "quantize", "build"):
        record = run.manifest.stages.get(stage)
        for name, artifact in record.artifacts.items() if record else ():
            if name.endswith(".onnx") and artifact.sha256 == digest:
                return run.path(stage, *name.split("/"))
    raise ArtifactError(f"{run.root} holds no ONNX file with sha256 {digest[:12]}...; run its build stage again")


def _picture(run: RunFolder) -> np.ndarray:
    pictures = np.load(run.path("data", "pictures.npy"), mmap_mode="r", allow_pickle=False)
    return np.asarray(pictures[:1])
