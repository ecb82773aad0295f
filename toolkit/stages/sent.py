"""The networks that send: the final one's forms, with private noise inside where the run has it.

Calibration, parity and sensitivity work on the network without noise; what is built, timed, bundled and predicted
is read through :func:`sent_network`, so that all of them mean the same file.

Noise belongs to the deployed network. The reference stays as it is: the dense network, and, in a run with one
network alone, its FP32 engine. Without a noise-free reference a suite of attackers that fails could not be told
from one that is too weak. The whole network's row stays as it is too: it tells what the task gives away in any
case.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ModelError
from toolkit.runs import RunFolder
from toolkit.settings import RunSettings
from toolkit.stages.export import EDGE, WHOLE, networks_of, wire_of
from toolkit.variants import Precision

if TYPE_CHECKING:
    from toolkit.stages.base import Context

logger = logging.getLogger(__name__)
FOLDER, STAGE = "private", "build"
JUDGED = ("a", "b", "cpu")
FORMS = ("a", "b", "cpu", "fp16")


def file_of(form: str) -> str:
    """File name of a form; ``float`` is the exported one."""
    return f"edge.{form}.onnx"


def plain_network(run: RunFolder, network: str, form: str) -> Path:
    """A network in a form, without noise."""
    return run.path("export", network, EDGE) if form == "float" else run.path("quantize", file_of(form))


def sent_network(run: RunFolder, network: str, form: str, noise: float) -> Path:
    """The final network in a form, as it is deployed.

    Args:
        run: with its stage ``build`` finished, where there is noise.
        network: the final one's name.
        form: ``float``, ``a``, ``b``, ``cpu``, ``fp16``.
        noise: of the run, in steps.

    Raises:
        ArtifactError: a stage that is not finished, or a file that was changed.
    """
    return run.path(STAGE, FOLDER, file_of(form)) if noise else plain_network(run, network, form)


def has_noise(network: str, precision: Precision, networks: list[str], final: str) -> bool:
    """Whether a variant sends noise in a run that has it."""
    alone = [name for name in networks if name != WHOLE] == [final]
    return network == final and not (alone and precision == "fp32")


def write_private(context: Context) -> None:
    """Every form of the final network with the run's noise inside, and what the judges say of them.

    Raises:
        ModelError: a judge refuses a form.
    """
    import onnx

    from calibration import acceptance, refusals
    from toolkit.export.private_noise import attach_private_noise

    _, final = networks_of(context)
    fmt, noise = wire_of(context, final), context.settings.wire.noise
    folder = context.folder / FOLDER
    folder.mkdir(exist_ok=True)
    made = {}
    for form in ("float", *FORMS):
        if form == "fp16" and not context.run.has("quantize", file_of(form)):
            continue
        plain = onnx.load(str(plain_network(context.run, final, form)))
        made[form] = attach_private_noise(plain, fmt, noise)
        (folder / file_of(form)).write_bytes(made[form].SerializeToString(deterministic=True))
    judged = acceptance({form: made[form] for form in JUDGED})
    context.write_json(f"{FOLDER}/acceptance.json", [asdict(row) for row in judged])
    if refused := refusals(judged):
        raise ModelError(
            f"form {refused[0].form} with noise is refused by {refused[0].judge}: {refused[0].detail}"
        )


def warn_of_training(settings: RunSettings) -> None:
    """Say so when the network was trained with other noise than it will send."""
    if settings.enter.kind == "onnx":
        return
    last = settings.slim.finetune if settings.slim.finetune.train.epochs else settings.patrol
    section = "slim.finetune" if last is settings.slim.finetune else "patrol"
    if last.noise != settings.wire.noise:
        logger.warning(
            "%s.noise is %g and wire.noise %g steps: the network is trained with other noise than it sends",
            section,
            last.noise,
            settings.wire.noise,
        )
