"""Several transmissions of one scene within the attack stage: what noise that changes between them still hides."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.runs import CHECKPOINTS
from toolkit.stages.attackers import Encode, attack_row, halves, tools_of
from toolkit.stages.base import Context
from toolkit.stages.build import deployed_variant, noise_of, open_encoder
from toolkit.stages.data import RunData
from toolkit.stages.export import wire_of
from toolkit.variants import Variant

if TYPE_CHECKING:
    from toolkit.privacy.attacks.tools import Network
    from toolkit.privacy.result import AttackResult
    from toolkit.wire import WireFormat

logger = logging.getLogger(__name__)
FILE = "frames.json"
SAMPLE, BATCH = 16, 64
UNCHANGED = "every transmission of a picture has the same codes: more frames change nothing"


@dataclass(frozen=True)
class Sender:
    """A wire that is seen more than once.

    Attributes:
        name: of its folder.
        prefix: of its metrics.
        variant: key.
        send: pictures to codes; noise and dropout are drawn anew at every call.
        fmt: of the wire.
        halves: edge and cloud half, as far as there are any.
        noise: of one frame, see ``Tools``.
    """

    name: str
    prefix: str
    variant: str
    send: Encode
    fmt: WireFormat
    halves: tuple[Network | None, Network | None]
    noise: float = 0.0


def measure_deployed(context: Context, data: RunData, splits: Any, one: AttackResult, reference: Any) -> None:
    """``privacy.frames.N.*`` of the deployed variant, or the statement that more frames change nothing."""
    if not context.settings.attack.frames:
        return
    key = deployed_variant(context)
    network = Variant.from_key(key).network
    fmt = wire_of(context, network)
    with open_encoder(context, key, "frames") as encoder:
        noise = noise_of(context, key) * fmt.step
        sender = Sender(key, "privacy.", key, encoder, fmt, halves(context, network), noise)
        measure_frames(context, data, splits, sender, one, reference)


def measure_frames(
    context: Context, data: RunData, splits: Any, sender: Sender, one: AttackResult, reference: Any
) -> None:
    """Attack N frames of every scene, averaged and decoded jointly; the stronger of the two is reported.

    Args:
        context: of the attack stage.
        data: of the run.
        splits: rows, as for the wire.
        sender: the wire.
        one: what the attackers reach from one frame.
        reference: scores of the strongest attack on the dense reference.
    """
    from toolkit.privacy.attacks.frames import always_alike
    from toolkit.privacy.multiframe import frame_metrics

    pictures = np.asarray(data.pictures[data.test[:SAMPLE]])
    if always_alike(sender.send, pictures):
        logger.info("%s: %s", sender.name, UNCHANGED)
        context.write_json(f"{sender.name}/{FILE}", {"same_codes": True, "note": UNCHANGED})
        return
    body: dict[str, Any] = {"same_codes": False, "frames": {}}
    for count in context.settings.attack.frames:
        results = {"": one} if count == 1 else _attack(context, data, splits, sender, count, one)
        metrics = frame_metrics(f"{sender.prefix}frames.{count}.", count, results, context.machine, reference)
        body["frames"][str(count)] = {metric.name: metric.value for metric in metrics}
        for metric in metrics:
            context.metrics.add(metric)
    context.write_json(f"{sender.name}/{FILE}", body)


def _attack(
    context: Context, data: RunData, splits: Any, sender: Sender, count: int, one: AttackResult
) -> dict[str, AttackResult]:
    from toolkit.privacy.attacks.frames import ways_to_join
    from toolkit.privacy.codes import encode_once
    from toolkit.privacy.suite import attack_data

    found = {}
    for way, (encode, form) in ways_to_join(sender.send, count, sender.fmt).items():
        folder = context.folder / CHECKPOINTS / f"{sender.name}-{count}-{way}"
        codes = encode_once(data.pictures, encode, folder / "codes.npy", BATCH)
        source = attack_data(codes, data.pictures, splits, form, data.identities, encode)
        # Stacked codes are no feature of the network: its halves say nothing about them.
        averaged = way == "averaged"
        known = sender.halves if averaged else (None, None)
        noise = sender.noise / math.sqrt(count) if averaged else sender.noise
        tools = tools_of(context, data, known, encode, form, folder, noise)
        found[way] = attack_row(context, source, tools, folder, sender.variant, one.anchors)
        found[way].save(context.folder / sender.name / f"frames-{count}-{way}")
    return found
