"""Stage ``slim``: masks to a plan, plan to a smaller network, fine-tuning with the adversary still on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toolkit.metrics import Metric
from toolkit.preprocess import Preprocess, to_input
from toolkit.runs import CHECKPOINTS, RunFolder
from toolkit.settings import RunSettings
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.train import WIRE, defended_data, keep_curves, seeded, training_data
from toolkit.stages.validation import held_out, validation
from toolkit.wire.codes import WireFormat

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.models.masks import MaskSet
    from toolkit.models.network import ReidNet
    from toolkit.surgery import Plan, Row

COST = "cost.json"
CHECK_PICTURES = 16
LOSS_PICTURES = 64


class SlimStage(Stage):
    """The plan covers both halves; its result equals the masked network, or says by how much it does not."""

    name = "slim"
    version = 3
    sections = ("enter", "slim")
    inputs = ("data", "train")

    def applies(self, settings: RunSettings) -> bool:
        return settings.enter.kind != "onnx"

    def run(self, context: Context) -> None:
        from toolkit.models.checkpoint import save_checkpoint
        from toolkit.patrol.training import finetune
        from toolkit.surgery import apply_plan, reference_masks

        data = RunData.load(context)
        net, plan, masks, example, earlier = planned(context)
        slim = apply_plan(net, masks, plan, example, context.settings.slim.plan.borders)
        masks = reference_masks(net, plan, masks, example)
        self._compare(context, data, net, masks, slim)
        self._cost(context, data, net, slim, plan)
        self._slack(context, net, slim, plan, example)
        self._latency(context, data, slim)
        fmt = _sliced(WireFormat.from_json(context.run.path("train", WIRE).read_text(encoding="utf-8")), plan)
        settings = seeded(context.settings.slim.finetune, context.settings.seed + 2)
        curves = {}
        if settings.train.epochs:
            folder = context.folder / CHECKPOINTS / "finetune"
            held = held_out(data, context.settings, finetuning=True)
            pictures = defended_data(data, settings, Preprocess.load(context.run.folder("data")), held)
            teacher = _teacher(context) if settings.distill else None
            history = finetune(slim, pictures, fmt, settings, folder, validation(data, held), teacher)
            curves["finetune"] = history.curves
        keep_curves(context, curves)
        whole = plan if earlier is None else _composed(earlier, plan, slim)
        whole.save(context.folder / "plan.json")
        (context.folder / WIRE).write_text(fmt.to_json(), encoding="utf-8")
        preprocess = Preprocess.load(context.run.folder("data"))
        save_checkpoint(
            context.folder / "net",
            slim,
            preprocess,
            plan=whole.model_dump(mode="json"),
            identities=data.train_identities(),
        )
        context.summary["wire"] = f"{fmt.channels}x{fmt.height}x{fmt.width}"

    def _compare(
        self, context: Context, data: RunData, net: ReidNet, masks: MaskSet | None, slim: ReidNet
    ) -> None:
        import torch

        from toolkit.surgery import deviation

        inputs = torch.from_numpy(to_input(data.pictures[data.rows["calibration"][:CHECK_PICTURES]]))
        if masks is not None:
            masks.attach(net)
        found = deviation(net.eval(), slim.eval(), inputs)
        if masks is not None:
            masks.detach()
        context.write_json("deviation.json", {"absolute": found.absolute, "relative": found.relative})
        context.measure("slim.deviation", found.relative, n=len(inputs), variant="slim", protocol="masked network")
        context.summary["deviation"] = f"{found.relative:.1e}"

    def _cost(self, context: Context, data: RunData, net: ReidNet, slim: ReidNet, plan: Plan) -> None:
        import torch

        from toolkit.surgery import cost, plan_table

        example = torch.zeros(1, 3, *data.pictures.shape[1:3])
        reasons = {row.layer: row.why for row in plan_table(net, plan, example)}
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
        context.write_json("layers.json", [{**row, "why": _why(row, plan, reasons)} for row in rows])
        context.summary["macs"] = f"{costs['slim'].macs / costs['dense'].macs:.2f} of dense"

    def _slack(self, context: Context, net: ReidNet, slim: ReidNet, plan: Plan, example: Tensor) -> None:
        """What the budgets of masks or scores leave; a network above one is refused."""
        from toolkit.patrol.budgets import Slack, costs_of, slacks

        found: list[Slack] = []
        masks, scores = context.settings.patrol.masks, context.settings.slim.scores
        if plan.source == "masks" and masks is not None and context.settings.enter.kind == "train":
            found = slacks(net, slim, masks, example)
        elif plan.source == "scores" and scores.budget is not None and scores.half == "edge":
            used, whole = costs_of(slim, example), costs_of(net, example)
            name, share = scores.budget_of, scores.budget
            found = [Slack(name, used[name], share * whole[name], f"{share} of the dense edge half")]
        for slack in found:
            context.measure(f"edge.slack.{slack.name}", slack.share, variant="slim", protocol=slack.whose)
        if found:
            parts = [f"{slack.share:.1%} of {slack.name.replace('_', ' ')}" for slack in found]
            context.summary["slack"] = ", ".join(parts)
        for slack in found if plan.source == "masks" else ():
            slack.check()

    def _latency(self, context: Context, data: RunData, slim: ReidNet) -> None:
        """A latency budget of the masks is checked again on what is left of the network."""
        from toolkit.planning.edge import check_latency

        masks = context.settings.patrol.masks
        if context.settings.enter.kind != "train" or masks is None or masks.latency is None:
            return
        height, width = data.pictures.shape[1:3]
        found = check_latency(slim, (height, width), masks.latency).latency_ms
        device, limit = masks.latency.device, masks.latency.max_ms
        interval = (1 - found.high / limit, 1 - found.low / limit)
        slack = Metric(
            name="edge.slack.latency", value=1 - found.value / limit, interval=interval, n=1, variant="slim",
            provenance="predicted", machine=device, protocol=f"{limit:g} ms, {masks.latency.precision}",
        )  # fmt: skip
        context.metrics.add(slack)
        context.summary["slack"] = f"{interval[0]:.1%} to {interval[1]:.1%} of {limit:g} ms, predicted"
        context.summary["predicted"] = f"up to {found.high:.3g} ms on {masks.latency.device}"


def _teacher(context: Context) -> ReidNet:
    """The dense network of the run, or the one that it entered with."""
    from toolkit.models.checkpoint import load_checkpoint
    from toolkit.surgery import rebuild

    return load_checkpoint(context.run.folder("train", "dense"), rebuild=rebuild).net


def _why(row: dict[str, Any], plan: Plan, reasons: dict[str, str]) -> str:
    if row["after"] == row["before"]:
        return plan.frozen.get(row["layer"], "kept")
    return reasons[row["layer"]]


def _composed(earlier: Plan, plan: Plan, slim: ReidNet) -> Plan:
    """One plan from the dense network, of which the network that entered was cut; it leads to the slim one.

    Raises:
        PlanError: the plans do not fit together.
    """
    from toolkit.surgery import compose, rebuild

    whole = compose(earlier, plan)
    rebuild(slim.architecture, whole)  # compares with the plan's fingerprint
    return whole


def planned(context: Context) -> tuple[ReidNet, Plan, MaskSet | None, Tensor, Plan | None]:
    """The network that this run would slim, the plan, the masks it needs, an example input, and an earlier plan.

    The earlier plan is that of a network that entered slim.
    """
    import torch

    from toolkit.models.checkpoint import load_checkpoint
    from toolkit.planning.staircase import with_predicted_step
    from toolkit.surgery import Plan, make_plan, rebuild

    settings = context.settings
    trained = settings.enter.kind == "train"
    checkpoint = load_checkpoint(context.run.folder("train", "patrol" if trained else "dense"), rebuild=rebuild)
    example = torch.zeros(1, 3, settings.picture.height, settings.picture.width)
    loss = loss_on(RunData.load(context)) if settings.slim.scores.criterion == "taylor" else None
    net = checkpoint.net
    rounding = with_predicted_step(settings.slim.plan, net, example)
    plan, masks = make_plan(net, checkpoint.masks, settings.slim, rounding, example, loss)
    earlier = None if checkpoint.plan is None else Plan.parse(checkpoint.plan)
    return net, plan, masks, example, earlier


def preview(settings: RunSettings, run: RunFolder) -> tuple[tuple[Row, ...], Plan]:
    """What ``slim`` would do to the finished ``train`` stage, layer by layer; nothing is written."""
    from toolkit.surgery import plan_table

    net, plan, _, example, _ = planned(Context(settings, run, run.root))
    return plan_table(net, plan, example), plan


def loss_on(data: RunData) -> Callable[[Any], Tensor]:
    """The task's loss on one batch of the training split, for Taylor scores."""
    import torch

    from toolkit.reid.losses import LossSettings, task_loss

    pictures = training_data(data)
    x = torch.from_numpy(to_input(pictures.pictures[:LOSS_PICTURES]))
    labels = torch.from_numpy(pictures.labels[:LOSS_PICTURES])

    def loss(net: Any) -> Tensor:
        return task_loss(net.heads(net.edge(x)), labels, LossSettings()).total

    return loss


def _sliced(fmt: WireFormat, plan: Plan) -> WireFormat:
    """The wire with the channels that stay; step and bits never change."""
    return replace(fmt, channels=len(plan.wire.kept)) if plan.wire else fmt
