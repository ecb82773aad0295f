"""The stages in order: what is finished is skipped, what was killed goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from toolkit.errors import SettingsError
from toolkit.runs import RunFolder
from toolkit.settings import RunSettings
from toolkit.stages import all_stages
from toolkit.stages.base import METRICS, Context, Stage

logger = logging.getLogger(__name__)


def stages_for(settings: RunSettings, until: str | None = None) -> list[Stage]:
    """The stages that a run with these settings has, up to and including ``until``.

    Raises:
        SettingsError: the run has no such stage.
    """
    stages = [stage for stage in all_stages() if stage.applies(settings)]
    names = [stage.name for stage in stages]
    if until is None:
        return stages
    if until not in names:
        raise SettingsError(f"this run has no stage {until!r}; it has {', '.join(names)}")
    return stages[: names.index(until) + 1]


def unfinished(settings: RunSettings, run: RunFolder, until: str | None = None) -> list[str]:
    """Names of the stages that a call will run, told from the manifest alone; files are not looked into."""
    made: dict[str, str] = {}
    names: list[str] = []
    for stage in stages_for(settings, until):
        record = run.manifest.stages.get(stage.name)
        inputs = {name: made[name] for name in stage.inputs if name in made}
        fresh = record is not None and (run.root / stage.name).is_dir() and not set(stage.inputs) & set(names)
        if record is not None and fresh and record.key == stage.key(settings, inputs):
            made[stage.name] = record.digest()
        else:
            names.append(stage.name)
    return names


def run_pipeline(
    settings: RunSettings, run: RunFolder, until: str | None = None, before: Callable[[str], None] | None = None
) -> None:
    """Run every stage that is not finished under the present settings, code and inputs.

    Args:
        settings: of the run.
        run: its folder.
        until: the last stage; None runs all.
        before: called with the name of a stage when its folder is there and it is about to run.
    """
    stages = stages_for(settings, until)
    with run.locked():
        for name in run.drop_missing():
            logger.info("%s: its folder is gone, made again", name)
        run.save()
        todo = unfinished(settings, run, until)
        for stage in stages:
            if stage.name in todo:
                stage.examine(settings)
        made: dict[str, str] = {}
        for number, stage in enumerate(stages, start=1):
            inputs = {name: made[name] for name in stage.inputs if name in made}
            _run_stage(stage, settings, run, inputs, f"[{number}/{len(stages)}] {stage.name}", before)
            made[stage.name] = run.manifest.stages[stage.name].digest()


def _run_stage(
    stage: Stage,
    settings: RunSettings,
    run: RunFolder,
    inputs: dict[str, str],
    title: str,
    before: Callable[[str], None] | None = None,
) -> None:
    key = stage.key(settings, inputs)
    if run.is_done(stage.name, key):
        logger.info("%s: unchanged, skipped", title)
        return
    logger.info("%s: %s", title, stage.describe(settings))
    started = time.monotonic()
    context = Context(settings, run, run.begin(stage.name, key))
    try:
        if before is not None:
            before(stage.name)
        stage.run(context)
    except Exception as error:
        run.abandon(stage.name)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(context.folder)  # a write does not know its file's name
        raise
    if len(context.metrics):
        (context.folder / METRICS).write_text(context.metrics.to_json(), encoding="utf-8")
    seconds = time.monotonic() - started
    run.finish(
        stage.name,
        key,
        code_version=stage.version,
        inputs=inputs,
        seconds=seconds,
        summary=context.summary,
    )
    facts = ", ".join(f"{name} {value}" for name, value in context.summary.items())
    logger.info("%s: done in %.0f s%s", title, seconds, f" ({facts})" if facts else "")
