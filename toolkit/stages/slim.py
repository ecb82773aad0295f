"""Stage ``slim``: masks to a plan, plan to a smaller network, fine-tuning with the adversary still on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toolkit.preprocess import Preprocess, to_input
from toolkit.runs import CHECKPOINTS
from toolkit.settings import RunSettings
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.train import WIRE, seeded, training_data
from toolkit.wire.codes import WireFormat

if TYPE_CHECKING:
    from toolkit.models.masks import MaskSet
    from toolkit.models.network import ReidNet
    from toolkit.surgery import Plan

COST = "cost.json"
CHECK_PICTURES = 16


class SlimStage(Stage):
    """The plan covers both halves; its result equals the masked network, or says by how much it does not."""

    name = "slim"
    version = 1
    sections = ("enter", "slim")
    inputs = ("data", "train")

    def applies(self, settings: RunSettings) -> bool:
        return settings.enter.kind != "onnx"

    def run(self, context: Context) -> None:
        from toolkit.models.checkpoint import load_checkpoint, save_checkpoint
        from toolkit.patrol.training import finetune
        from toolkit.surgery import apply_plan

        data = RunData.load(context)
        trained = context.settings.enter.kind == "train"
        checkpoint = load_checkpoint(context.run.folder("train", "patrol" if trained else "dense"))
        net = checkpoint.net
        masks, plan = self._plan(context, net, checkpoint.masks)
        slim = apply_plan(net, masks, plan)
        self._compare(context, data, net, masks, slim)
        self._cost(context, data, net, slim, plan)
        fmt = _sliced(WireFormat.from_json(context.run.path("train", WIRE).read_text(encoding="utf-8")), plan)
        settings = seeded(context.settings.slim.finetune, context.settings.seed + 2)
        history = finetune(slim, training_data(data), fmt, settings, context.folder / CHECKPOINTS / "finetune")
        context.write_json("curves.json", {"finetune": history.curves})
        plan.save(context.folder / "plan.json")
        (context.folder / WIRE).write_text(fmt.to_json(), encoding="utf-8")
        preprocess = Preprocess.load(context.run.folder("data"))
        save_checkpoint(
            context.folder / "net",
            slim,
            preprocess,
            plan=plan.model_dump(mode="json"),
            identities=data.train_identities(),
        )
        context.summary["wire"] = f"{fmt.channels}x{fmt.height}x{fmt.width}"

    def _plan(self, context: Context, net: ReidNet, values: dict[str, Any]) -> tuple[MaskSet | None, Plan]:
        import torch

        from toolkit.models.groups import find_groups
        from toolkit.models.masks import MaskSet
        from toolkit.surgery import plan_from_masks, plan_from_scores

        settings = context.settings
        example = torch.zeros(1, 3, settings.picture.height, settings.picture.width)
        if not values:
            return None, plan_from_scores(net, settings.slim.scores, settings.slim.plan, example)
        masks = MaskSet(find_groups(net, example))
        masks.set_(values)
        return masks, plan_from_masks(net, masks, settings.slim.plan, example)

    def _compare(
        self, context: Context, data: RunData, net: ReidNet, masks: MaskSet | None, slim: ReidNet
    ) -> None:
        import torch

        from toolkit.surgery import deviation

        if masks is None:
            return
        inputs = torch.from_numpy(to_input(data.pictures[data.rows["calibration"][:CHECK_PICTURES]]))
        masks.attach(net)
        found = deviation(net.eval(), slim.eval(), inputs)
        masks.detach()
        context.write_json("deviation.json", {"absolute": found.absolute, "relative": found.relative})
        context.measure("slim.deviation", found.relative, n=len(inputs), variant="slim", protocol="masked network")
        context.summary["deviation"] = f"{found.relative:.1e}"

    def _cost(self, context: Context, data: RunData, net: ReidNet, slim: ReidNet, plan: Plan) -> None:
        import torch

        from toolkit.surgery import cost

        example = torch.zeros(1, 3, *data.pictures.shape[1:3])
        costs = {name: cost(item, example, half="edge") for name, item in (("dense", net), ("slim", slim))}
        context.write_json(
            COST,
            {
                name: {
                    "parameters": item.parameters,
                    "macs": item.macs,
                    "activation_bytes": item.activation_bytes,
                }
                for name, item in costs.items()
            },
        )
        after = {layer.layer: layer.channels for layer in costs["slim"].per_layer}
        rows = [
            {"layer": layer.layer, "before": layer.channels, "after": after.get(layer.layer, 0)}
            for layer in costs["dense"].per_layer
        ]
        context.write_json("layers.json", [{**row, "why": _why(row, plan)} for row in rows])
        context.summary["macs"] = f"{costs['slim'].macs / costs['dense'].macs:.2f} of dense"


def _why(row: dict[str, Any], plan: Plan) -> str:
    if row["after"] == 0:
        return "block removed"
    if row["after"] == row["before"]:
        return plan.frozen.get(row["layer"], "kept")
    return f"{plan.source}, aligned to {plan.align}"


def _sliced(fmt: WireFormat, plan: Plan) -> WireFormat:
    """The wire with the channels that stay; step and bits never change."""
    return replace(fmt, channels=len(plan.wire.kept)) if plan.wire else fmt
