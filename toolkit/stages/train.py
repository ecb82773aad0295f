"""Stage ``train``: the dense network, the wire's step, and the same network under PATROL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.preprocess import Preprocess, to_input
from toolkit.runs import CHECKPOINTS, file_sha256
from toolkit.settings import RunSettings
from toolkit.stages.base import Context, Stage
from toolkit.stages.data import RunData
from toolkit.stages.validation import held_out, validation
from toolkit.wire.codes import WireFormat, choose_step

if TYPE_CHECKING:
    from toolkit.models.network import ReidNet
    from toolkit.patrol.data import TrainingData
    from toolkit.patrol.settings import DefenceSettings, PatrolSettings
    from toolkit.stages.entry import Entered
    from toolkit.surgery import PlanSettings

WIRE = "wire.json"
STEP_PICTURES = 512


class TrainStage(Stage):
    """Dense pre-training (or a user's checkpoint), the wire's step, joint PATROL training."""

    name = "train"
    version = 1
    sections = ("picture", "enter", "model", "wire", "train", "patrol", "slim.plan")
    ignored = ("wire.noise",)
    inputs = ("data",)

    def applies(self, settings: RunSettings) -> bool:
        return settings.enter.kind != "onnx"

    def examine(self, settings: RunSettings) -> None:
        """A budget that no mask can meet is refused before the dense network is trained."""
        if settings.enter.kind != "train" or settings.patrol.masks is None:
            return
        import torch

        from toolkit.models.architecture import Architecture
        from toolkit.models.network import build_network
        from toolkit.patrol.budgets import new_masks
        from toolkit.patrol.training import make_steering
        from toolkit.planning.edge import read_edge_layers
        from toolkit.planning.staircase import with_predicted_step

        size = settings.picture.height, settings.picture.width
        net, example = (
            build_network(Architecture(identities=2, **settings.model.model_dump())),
            torch.zeros(1, 3, *size),
        )
        masks = aligned(settings.patrol, with_predicted_step(settings.slim.plan, net, example)).masks
        assert masks is not None
        make_steering(net, new_masks(net, example, masks), size, masks, 1, read_edge_layers)

    def describe(self, settings: RunSettings) -> str:
        entered = settings.enter.kind == "checkpoint"
        return f"take {settings.enter.path}, choose the wire's step" if entered else self.help

    def files(self, settings: RunSettings) -> dict[str, str]:
        path = settings.enter.path
        if settings.enter.kind != "checkpoint" or path is None:
            return {}
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return {file.name: file_sha256(file) for file in files if file.is_file()}

    def run(self, context: Context) -> None:
        from toolkit.models.checkpoint import save_checkpoint
        from toolkit.patrol.distributed import from_first

        data = RunData.load(context)
        preprocess = Preprocess.load(context.run.folder("data"))
        identities = data.train_identities()
        curves: dict[str, Any] = {}
        entered = self._dense(context, data, preprocess, curves)
        dense, folder = entered.net, context.folder / "dense"
        save_checkpoint(folder, dense, preprocess, masks=entered.masks, plan=entered.plan, identities=identities)
        fmt = from_first(wire_format(dense, data, context.settings.wire.bits))
        (context.folder / WIRE).write_text(fmt.to_json(), encoding="utf-8")
        if context.settings.enter.kind == "train":
            masks = self._patrol(context, dense, data, fmt, curves)
            save_checkpoint(context.folder / "patrol", dense, preprocess, masks=masks, identities=identities)
        keep_curves(context, curves)
        context.summary.update(wire=f"{fmt.channels}x{fmt.height}x{fmt.width}", bits=fmt.bits, step=fmt.step)

    def _dense(self, context: Context, data: RunData, preprocess: Preprocess, curves: dict[str, Any]) -> Entered:
        """The dense network, or what the run enters with."""
        from toolkit.models.architecture import Architecture
        from toolkit.models.network import build_network
        from toolkit.patrol.training import train_dense
        from toolkit.stages.entry import Entered, enter_checkpoint

        settings = context.settings
        architecture = Architecture(
            identities=len(data.train_identities()),
            mean=preprocess.mean,
            std=preprocess.std,
            **settings.model.model_dump(),
        )
        if settings.enter.kind == "checkpoint":
            return enter_checkpoint(settings, architecture)
        net = build_network(architecture, settings.seed)
        schedule = settings.train.model_copy(update={"seed": settings.seed})
        held = held_out(data, settings)
        folder = context.folder / CHECKPOINTS / "dense"
        history = train_dense(net, training_data(data, held), schedule, folder, validation(data, held))
        curves["dense"] = history.curves
        return Entered(net)

    def _patrol(
        self, context: Context, net: ReidNet, data: RunData, fmt: WireFormat, curves: dict[str, Any]
    ) -> dict[str, Any]:
        import torch

        from toolkit.patrol.budgets import new_masks
        from toolkit.patrol.training import train_patrol
        from toolkit.planning.edge import read_edge_layers
        from toolkit.planning.staircase import with_predicted_step

        example = torch.zeros(1, 3, *data.pictures.shape[1:3])
        rounding = with_predicted_step(context.settings.slim.plan, net, example)
        settings = aligned(seeded(context.settings.patrol, context.settings.seed + 1), rounding)
        masks = new_masks(net, example, settings.masks)
        folder = context.folder / CHECKPOINTS / "patrol"
        held = held_out(data, context.settings)
        pictures = defended_data(data, settings, Preprocess.load(context.run.folder("data")), held)
        validate = validation(data, held)
        history = train_patrol(net, masks, pictures, fmt, settings, folder, validate, read_edge_layers)
        curves["patrol"] = history.curves
        return {name: value.detach().clone() for name, value in masks.values().items()}


def keep_curves(context: Context, curves: dict[str, Any]) -> None:
    """An artifact; and for TensorBoard in the run's own folder (events hold times: they are no artifacts)."""
    from toolkit.patrol.board import FOLDER, write_curves
    from toolkit.patrol.distributed import rank

    context.write_json("curves.json", curves)
    if rank():
        return  # rank 0 of several processes writes them
    for phase, found in curves.items():
        write_curves(found, context.run.root / FOLDER / phase)


def seeded(settings: Any, seed: int) -> Any:
    """Settings of a training phase under the run's seed."""
    return settings.model_copy(update={"train": settings.train.model_copy(update={"seed": seed})})


def aligned(settings: PatrolSettings, plan: PlanSettings) -> PatrolSettings:
    """The budget is charged on channels as the plan will align them."""
    if settings.masks is None:
        return settings
    masks = settings.masks.model_copy(update={"align": max(settings.masks.align, plan.multiple())})
    return settings.model_copy(update={"masks": masks})


def training_data(data: RunData, held: frozenset[str] = frozenset()) -> TrainingData:
    """The training split as arrays, without the identities that are held out for validation."""
    from toolkit.patrol.data import TrainingData

    rows = data.rows["train"]
    kept = np.array([data.identities[row] not in held for row in rows])
    return TrainingData(
        pictures=np.ascontiguousarray(data.pictures[rows[kept]]),
        labels=data.numbers(data.identities, rows)[kept],
        cameras=data.numbers(data.cameras, rows)[kept],
    )


def defended_data(
    data: RunData, settings: DefenceSettings, preprocess: Preprocess, held: frozenset[str] = frozenset()
) -> TrainingData:
    """The training split, with counterfactual pictures where the Lipschitz term asks for them.

    Raises:
        DataError: it asks for them and the pictures are not of the synthetic fleet, which alone can render them.
    """
    pictures = training_data(data, held)
    lipschitz = settings.lipschitz
    if lipschitz is None or lipschitz.perturbation != "counterfactual" or not data.synthetic:
        return pictures  # training refuses real pictures with a counterfactual term
    from toolkit.datasets.fleet.counterfactual import counterfactuals
    from toolkit.patrol.distributed import first_alone

    paths = [data.paths[row] for row in data.rows["train"] if data.identities[row] not in held]
    with first_alone():
        return replace(pictures, counterfactuals=counterfactuals(data.root, paths, preprocess))


def wire_format(net: ReidNet, data: RunData, bits: int) -> WireFormat:
    """The wire of the cut, its step chosen on training pictures of the calibration split."""
    import torch

    rows = data.rows["calibration"][:STEP_PICTURES]
    net.eval()
    with torch.no_grad():
        batches = [
            net.edge(torch.from_numpy(to_input(data.pictures[rows[start : start + 64]]))).numpy()
            for start in range(0, len(rows), 64)
        ]
    features = np.concatenate(batches)
    signed = bool((features < 0).any())
    _, channels, height, width = features.shape
    return WireFormat(channels, height, width, bits, choose_step(features, bits, signed), signed)
