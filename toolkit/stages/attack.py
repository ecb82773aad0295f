"""Stage ``attack``: what an adversary who sees the wire gets back, retrained for every variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from toolkit.runs import CHECKPOINTS
from toolkit.stages.attackers import halves, repeat_seeds, tools_of
from toolkit.stages.base import Context, Stage
from toolkit.stages.bounds import measure_bounds
from toolkit.stages.build import codes_of, deployed_variant, noise_of, open_encoder, running_variants
from toolkit.stages.certificates import Scenes, certify_variant, counterfactual_scenes
from toolkit.stages.data import RunData
from toolkit.stages.export import wire_of
from toolkit.stages.frames import measure_deployed
from toolkit.stages.leaks import LeakStudy, readable_attacker
from toolkit.stages.references import measure_references
from toolkit.variants import Variant

if TYPE_CHECKING:
    from toolkit.privacy.anchors import Anchors
    from toolkit.privacy.result import AttackResult


class AttackStage(Stage):
    """The same attackers with the same budget on the codes of every variant that runs here."""

    name = "attack"
    version = 4
    sections = ("attack",)
    inputs = ("data", "export", "build")

    def run(self, context: Context) -> None:
        data = RunData.load(context)
        scenes = counterfactual_scenes(context)
        study = _study(context, data)
        results: dict[str, AttackResult] = {}
        anchors: Anchors | None = None
        for key in running_variants(context):
            results[key] = self._attack(context, data, key, anchors, scenes, study)
            anchors = anchors or results[key].anchors
        reference = next(iter(results.values())).worst().ssim
        for result in results.values():
            for metric in result.metrics(context.machine, reference):
                context.metrics.add(metric)
        measure_references(context, data, AttackRows(data), results, reference, scenes)
        measure_deployed(context, data, AttackRows(data), results[deployed_variant(context)], reference)
        measure_bounds(context, data)
        worst = results[deployed_variant(context)]
        context.summary.update(
            attackers=len(worst.attackers), ssim=round(worst.ssim.value, 3), trusted=worst.trusted
        )
        if worst.measurable(reference)[0]:
            context.summary.update(normalized=round(worst.normalized_ssim.value, 3), r2=round(worst.r2.value, 3))

    def _attack(
        self,
        context: Context,
        data: RunData,
        key: str,
        anchors: Anchors | None,
        scenes: Scenes,
        study: LeakStudy | None,
    ) -> AttackResult:
        from toolkit.privacy.suite import attack_data, attack_variant, finished_attack

        network = Variant.from_key(key).network
        fmt, checkpoints = wire_of(context, network), context.folder / CHECKPOINTS / key
        settings = context.settings.attack.model_copy(update={"seed": context.settings.seed})
        with open_encoder(context, key) as encoder:
            noise = noise_of(context, key) * fmt.step
            tools = tools_of(context, data, halves(context, network), encoder, fmt, checkpoints, noise)
            source = attack_data(
                codes_of(context, key), data.pictures, AttackRows(data), fmt, data.identities, encoder
            )
            result = attack_variant(source, settings, checkpoints, key, anchors, tools)
            result.save(context.folder / key)
            repeat_seeds(context, source, tools, (settings, checkpoints), result)
            label, studied = readable_attacker(result), key in _studied(context)
            wanted = label is not None and (any(scenes.values()) or (study is not None and studied))
            attack = finished_attack(label, source, settings, checkpoints, tools) if label and wanted else None
            certify_variant(context, key, scenes, encoder, attack, fmt)
            if study and studied:
                study.measure(key, result, source, attack)
        return result


def _study(context: Context, data: RunData) -> LeakStudy | None:
    """The recognisers; None where leaks are left out."""
    if context.settings.attack.leaks is None:
        return None
    rows = AttackRows(data)
    owned = np.union1d(rows.attacker_train, rows.attacker_validation)
    return LeakStudy(context, data, owned, np.union1d(rows.query, rows.gallery).astype(np.int64))


def _studied(context: Context) -> list[str]:
    """The variants whose leaks are read: all, or the dense reference and the deployed one."""
    keys, options = running_variants(context), context.settings.attack.leaks
    return keys if options and options.variants == "all" else [keys[0], deployed_variant(context)]


class AttackRows:
    """The splits as rows of pictures and codes."""

    def __init__(self, data: RunData) -> None:
        rows = {name: [int(row) for row in np.asarray(values)] for name, values in data.rows.items()}
        self.attacker_train, self.attacker_validation = rows["attacker_train"], rows["attacker_validation"]
        # In VeRi's protocol every query is a copy of a gallery picture: no picture is scored twice.
        self.query = [] if data.protocol == "veri" else rows["query"]
        self.gallery = rows["gallery"]
