"""Stage ``attack``: what an adversary who sees the wire gets back, retrained for every variant."""

from __future__ import annotations

import numpy as np

from toolkit.runs import CHECKPOINTS
from toolkit.stages.base import Context, Stage
from toolkit.stages.build import codes_of, deployed_variant, open_encoder, running_variants
from toolkit.stages.data import RunData
from toolkit.stages.export import wire_of
from toolkit.variants import Variant


class AttackStage(Stage):
    """The same attackers with the same budget on the codes of every variant that runs here."""

    name = "attack"
    version = 1
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
            with open_encoder(context, key) as encoder:
                result = run_attack(
                    codes_of(context, key),
                    data.pictures,
                    splits,
                    wire_of(context, Variant.from_key(key).network),
                    settings,
                    context.folder / CHECKPOINTS / key,
                    variant=key,
                    identities=data.identities,
                    encode=encoder,
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


class _Rows:
    """The splits as rows of pictures and codes."""

    def __init__(self, data: RunData) -> None:
        rows = {name: [int(row) for row in np.asarray(values)] for name, values in data.rows.items()}
        self.attacker_train, self.attacker_validation = rows["attacker_train"], rows["attacker_validation"]
        # In VeRi's protocol every query is a copy of a gallery picture: no picture is scored twice.
        self.query = [] if data.protocol == "veri" else rows["query"]
        self.gallery = rows["gallery"]
