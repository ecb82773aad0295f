"""What the attackers of the attack stage may hold of the run: differentiable halves, and pairs to pre-train on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.preprocess import Preprocess
from toolkit.runs import CHECKPOINTS
from toolkit.stages.base import Context
from toolkit.stages.data import RunData
from toolkit.stages.export import load_network

if TYPE_CHECKING:
    from toolkit.privacy.anchors import Anchors
    from toolkit.privacy.attacks.tools import Network, Tools
    from toolkit.privacy.pairs import Pairs
    from toolkit.privacy.result import AttackResult
    from toolkit.privacy.settings import AttackSettings
    from toolkit.privacy.suite import AttackData
    from toolkit.wire import WireFormat

logger = logging.getLogger(__name__)
Encode = Callable[[NDArray[np.uint8]], NDArray[Any]]


def halves(context: Context, network: str) -> tuple[Network | None, Network | None]:
    """The differentiable halves, for attackers who know the weights; a user's ONNX file has none."""
    if context.settings.enter.kind == "onnx":
        return None, None
    net, _ = load_network(context, network)
    net.eval().requires_grad_(False)
    return net.edge, net.cloud


def tools_of(
    context: Context,
    data: RunData,
    known: tuple[Network | None, Network | None],
    encode: Encode,
    fmt: WireFormat | None,
    folder: Path,
    noise: float = 0.0,
) -> Tools:
    """What an adversary of the worst case holds.

    Args:
        context: of the attack stage.
        data: of the run.
        known: edge and cloud half, as far as there are any.
        encode: pictures to what is sent.
        fmt: its format; None for floats.
        folder: of the attackers' checkpoints.
        noise: see ``Tools``.
    """
    from toolkit.privacy.attacks.tools import Tools

    return Tools(*known, fmt, data.identities, _synthetic(context, encode, fmt, folder), noise)


def _synthetic(context: Context, encode: Encode, fmt: WireFormat | None, folder: Path) -> Pairs | None:
    """Pairs of the synthetic fleet for attackers that pre-train; None where none are wanted."""
    count = context.settings.attack.synthetic
    if not count:
        return None
    from toolkit.privacy.synthetic import synthetic_pairs

    preprocess = Preprocess.load(context.run.folder("data"))
    shared = context.folder / CHECKPOINTS / "synthetic.npy"
    folder.mkdir(parents=True, exist_ok=True)
    return synthetic_pairs(count, preprocess, encode, fmt, folder, shared, context.settings.seed)


def attack_row(
    context: Context,
    source: AttackData,
    tools: Tools,
    folder: Path,
    variant: str,
    anchors: Anchors,
    prefix: str = "",
) -> AttackResult:
    """The run's attackers on something else than a variant's wire; those that do not apply are named.

    Args:
        context: of the attack stage.
        source: codes and pictures of the row.
        tools: of the adversary.
        folder: for checkpoints.
        variant: whose row it is.
        anchors: of the run.
        prefix: of the metrics over the run's seeds; empty for the first seed alone.
    """
    from toolkit.privacy.suite import attack_variant

    settings = context.settings.attack.model_copy(update={"seed": context.settings.seed})
    fitting, left_out = settings.fitting(tools)
    for label, why in left_out:
        logger.info("%s on %s: %s", label, folder.name, why)
    found = attack_variant(source, fitting, folder, variant, anchors, tools)
    if prefix:
        repeat_seeds(context, source, tools, (fitting, folder), found, prefix)
    return replace(found, left_out=left_out)


def repeat_seeds(
    context: Context,
    source: AttackData,
    tools: Tools,
    suite: tuple[AttackSettings, Path],
    first: AttackResult,
    prefix: str = "privacy.",
) -> None:
    """The same attackers with the run's other seeds: how much the number depends on their training.

    Args:
        context: of the attack stage; gets ``PREFIXseeds.*`` where the settings ask for more than one seed.
        source: codes and pictures that were attacked.
        tools: of the adversary.
        suite: settings of the attackers, and the folder of their checkpoints, whose name the results get.
        first: of the first seed.
        prefix: of the metrics.
    """
    from toolkit.privacy.seeds import seed_metrics
    from toolkit.privacy.suite import attack_variant

    settings, folder = suite
    results = [first]
    for number in range(1, settings.seeds):
        own = folder / f"seed-{number}"
        results.append(attack_variant(source, settings.reseeded(number), own, first.variant, first.anchors, tools))
        results[-1].save(context.folder / folder.name / f"seed-{number}")
    if len(results) > 1:
        for metric in seed_metrics(results, context.machine, prefix):
            context.metrics.add(metric)
