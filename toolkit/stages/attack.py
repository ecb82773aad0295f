"""Stage ``attack``: what an adversary who sees the wire gets back, retrained for every variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.runs import CHECKPOINTS
from toolkit.stages.base import Context, Stage
from toolkit.stages.build import codes_of, deployed_variant, open_encoder, running_variants
from toolkit.stages.data import RunData
from toolkit.stages.export import load_network, wire_of
from toolkit.variants import Variant

if TYPE_CHECKING:
    from toolkit.privacy.attacks.tools import Network


class AttackStage(Stage):
    """The same attackers with the same budget on the codes of every variant that runs here."""

    name = "attack"
    version = 2
    sections = ("attack",)
    inputs = ("data", "export", "build")

    def run(self, context: Context) -> None:
        from toolkit.privacy.suite import run_attack

        data = RunData.load(context)
        settings = context.settings.attack.model_copy(update={"seed": context.settings.seed})
        splits = _Rows(data)
        results = {}
        anchors = None
        for key in running_variants(context):
            network = Variant.from_key(key).network
            edge, cloud = _halves(context, network)
            with open_encoder(context, key) as encoder:
                result = run_attack(
                    codes_of(context, key),
                    data.pictures,
                    splits,
                    wire_of(context, network),
                    settings,
                    context.folder / CHECKPOINTS / key,
                    variant=key,
                    identities=data.identities,
                    encode=encoder,
                    edge=edge,
                    cloud=cloud,
                    anchors=anchors,
                )
            anchors = anchors or result.anchors
            result.save(context.folder / key)
            results[key] = result
        reference = next(iter(results.values())).worst().ssim
        for result in results.values():
            for metric in result.metrics(context.machine, reference):
                context.metrics.add(metric)
        worst = results[deployed_variant(context)]
        context.summary.update(
            attackers=len(worst.attackers),
            ssim=round(worst.ssim.value, 3),
            normalized=round(worst.normalized_ssim.value, 3),
            r2=round(worst.r2.value, 3),
            trusted=worst.trusted,
        )


def _halves(context: Context, network: str) -> tuple[Network | None, Network | None]:
    """The differentiable halves, for attackers who know the weights; a user's ONNX file has none."""
    if context.settings.enter.kind == "onnx":
        return None, None
    net, _ = load_network(context, network)
    net.eval().requires_grad_(False)
    return net.edge, net.cloud


class _Rows:
    """The splits as rows of pictures and codes."""

    def __init__(self, data: RunData) -> None:
        rows = {name: [int(row) for row in np.asarray(values)] for name, values in data.rows.items()}
        self.attacker_train, self.attacker_validation = rows["attacker_train"], rows["attacker_validation"]
        # In VeRi's protocol every query is a copy of a gallery picture: no picture is scored twice.
        self.query = [] if data.protocol == "veri" else rows["query"]
        self.gallery = rows["gallery"]
