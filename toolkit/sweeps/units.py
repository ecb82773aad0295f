"""Making one unit of a sweep."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from toolkit.models.checkpoint import load_checkpoint, save_checkpoint
from toolkit.models.network import ReidNet
from toolkit.pipeline import run_pipeline
from toolkit.preprocess import Preprocess
from toolkit.privacy.anchors import Anchors
from toolkit.runs import CHECKPOINTS, RunFolder
from toolkit.stages.base import Context
from toolkit.stages.data import RunData
from toolkit.stages.train import WIRE, keep_curves, wire_format
from toolkit.sweeps.folders import Sweep, Unit
from toolkit.sweeps.network import make_dense, make_network, recut
from toolkit.sweeps.score import feature_link, job_link, make_anchors, score
from toolkit.sweeps.settings import Job

logger = logging.getLogger(__name__)
VERSION = 1


def make_unit(sweep: Sweep, unit: Unit) -> None:
    """Make a unit whose needs are finished; a killed one goes on where it was.

    Raises:
        ArtifactError: another process works on it.
        PatrolError: it cannot be made.
    """
    run = sweep.run(unit)
    if unit.kind == "data":
        run_pipeline(unit.settings, run, "data")
        return
    with run.locked():
        if sweep.is_done(unit):
            return
        run.save()
        key, started = sweep.key(unit), time.monotonic()
        context = Context(unit.settings, run, run.begin(unit.kind, key))
        try:
            _MAKERS[unit.kind](sweep, unit, context)
        except Exception:
            run.abandon(unit.kind)
            raise
        inputs = {name: sweep.key(sweep.unit(name)) for name in unit.needs}
        seconds = time.monotonic() - started
        run.finish(unit.kind, key, code_version=VERSION, inputs=inputs, seconds=seconds, summary=context.summary)


def sweep_data(sweep: Sweep) -> tuple[RunData, Preprocess]:
    """The pictures that all jobs share."""
    unit = sweep.unit("data")
    run = RunFolder.read(sweep.root / unit.name)
    return RunData.load(Context(unit.settings, run, run.root)), Preprocess.load(run.folder("data"))


def dense_network(sweep: Sweep, name: str) -> ReidNet:
    """The pre-trained network of a unit."""
    run = RunFolder.read(sweep.root / name)
    return load_checkpoint(run.folder("dense", "net")).net


def _make_dense(sweep: Sweep, unit: Unit, context: Context) -> None:
    data, preprocess = sweep_data(sweep)
    net, curves = make_dense(unit.settings, data, preprocess, context.folder / CHECKPOINTS)
    save_checkpoint(context.folder / "net", net, preprocess, identities=data.train_identities())
    keep_curves(context, {"dense": curves})


def _make_anchors(sweep: Sweep, unit: Unit, context: Context) -> None:
    data, _ = sweep_data(sweep)
    net = recut(dense_network(sweep, unit.needs[1]), unit.settings.model.cut)
    link = feature_link(net, wire_format(net, data, unit.settings.wire.bits))
    attack = unit.settings.attack.model_copy(update={"seed": unit.settings.seed})
    anchors = make_anchors(link, data, attack, context.folder / CHECKPOINTS)
    anchors.save(context.folder / "anchors.json")
    context.summary["floor_ssim"] = round(anchors.floor_ssim, 4)


def _make_job(sweep: Sweep, unit: Unit, context: Context) -> None:
    job = unit.job
    assert job is not None
    data, preprocess = sweep_data(sweep)
    work = context.folder / CHECKPOINTS
    made = make_network(job, dense_network(sweep, unit.needs[1]), data, preprocess, work)
    keep_curves(context, made.curves)
    context.write_json("edge.json", made.edge)
    (context.folder / WIRE).write_text(made.fmt.to_json(), encoding="utf-8")
    plan = None if made.plan is None else made.plan.model_dump(mode="json")
    save_checkpoint(context.folder / "net", made.net, preprocess, plan=plan, identities=data.train_identities())
    _score(sweep, job, context, made.net, made.fmt)


def _score(sweep: Sweep, job: Job, context: Context, net: ReidNet, fmt: Any) -> None:
    data, _ = sweep_data(sweep)
    anchors = Anchors.load(sweep.root / "anchors" / "anchors" / "anchors.json")
    link = job_link(job, net, fmt, data)
    attack = job.settings.attack.model_copy(update={"seed": job.settings.seed})
    body = score(link, data, attack, anchors, context, job.id)
    context.summary.update(map=round(body["map"], 4), rank1=round(body["rank1"], 4))
    logger.info("%s: %s", job.id, json.dumps(context.summary))


_MAKERS = {"dense": _make_dense, "anchors": _make_anchors, "job": _make_job}
