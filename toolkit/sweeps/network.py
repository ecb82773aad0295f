"""The network of one job: dense pre-training that jobs share, joint training or scores, slimming, fine-tuning."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from targets.jetson.catalogue import device_of
from targets.jetson.predictor import predict
from toolkit.models.architecture import Architecture
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.models.network import ReidNet, build_network
from toolkit.patrol.budgets import new_masks, slacks
from toolkit.patrol.cost import edge_cost, share_of_split
from toolkit.patrol.settings import PatrolSettings
from toolkit.patrol.training import finetune, train_dense, train_patrol
from toolkit.planning.edge import read_edge_layers
from toolkit.preprocess import Preprocess
from toolkit.settings import RunSettings
from toolkit.stages.data import RunData
from toolkit.stages.slim import loss_on
from toolkit.stages.train import aligned, defended_data, seeded, training_data, wire_format
from toolkit.stages.validation import held_out, validation
from toolkit.surgery import Plan, apply_plan, cost
from toolkit.surgery.request import make_plan
from toolkit.sweeps.settings import Job
from toolkit.wire.codes import WireFormat


@dataclass(frozen=True)
class Made:
    """A job's network.

    Attributes:
        net: slim where channels were removed.
        fmt: its wire.
        plan: what was removed.
        curves: of its phases.
        edge: cost of the edge half: macs, parameters, activation_bytes, the budget in macs where there is one, and
            ``latency_ms`` with ``latency_low_ms`` and ``latency_high_ms`` where a device is named.
    """

    net: ReidNet
    fmt: WireFormat
    plan: Plan | None
    curves: dict[str, Any]
    edge: dict[str, float]


def make_dense(settings: RunSettings, data: RunData, preprocess: Preprocess, folder: Path) -> tuple[ReidNet, Any]:
    """The dense network of a seed, and its curves."""
    architecture = Architecture(
        identities=len(data.train_identities()),
        mean=preprocess.mean,
        std=preprocess.std,
        **settings.model.model_dump(),
    )
    net = build_network(architecture, settings.seed)
    schedule = settings.train.model_copy(update={"seed": settings.seed})
    held = held_out(data, settings)
    return net, train_dense(net, training_data(data, held), schedule, folder, validation(data, held)).curves


def make_network(job: Job, dense: ReidNet, data: RunData, preprocess: Preprocess, folder: Path) -> Made:
    """Train one job's network, beginning with the dense one.

    Args:
        job: what to do.
        dense: of the job's seed, cut anywhere.
        data: the sweep's pictures.
        preprocess: theirs.
        folder: for states; a killed call goes on from there.

    Raises:
        TrainingError: no mask can meet the budget, or the loss became NaN or infinite.
    """
    teacher = copy.deepcopy(dense) if job.settings.slim.finetune.distill else None  # training is in place
    net = recut(dense, job.settings.model.cut)
    example = torch.zeros(1, 3, *data.pictures.shape[1:3])
    fmt = wire_format(net, data, job.settings.wire.bits)
    share = _share(job, net, example)
    budget = {} if share is None else {"budget": share * cost(net, example, half="edge").macs}
    curves: dict[str, Any] = {}
    plan: Plan | None = None
    if job.prune != "none":
        net, plan, curves = _pruned(job, net, data, preprocess, fmt, example, share, folder)
        fmt = replace(fmt, channels=len(plan.wire.kept)) if plan.wire else fmt
    settings = seeded(job.settings.slim.finetune, job.settings.seed + 2)
    if settings.train.epochs:
        held = held_out(data, job.settings, finetuning=True)
        pictures = defended_data(data, settings, preprocess, held)
        history = finetune(net, pictures, fmt, settings, folder / "finetune", validation(data, held), teacher)
        curves["finetune"] = history.curves
    edge = _device_cost(net, example, job.wire) | budget
    if job.device is not None and job.wire == "feature":
        edge |= predicted_latency(net, (example.shape[2], example.shape[3]), job.device)
    return Made(net.eval(), fmt, plan, curves, edge)


def _device_cost(net: ReidNet, example: torch.Tensor, wire: str) -> dict[str, float]:
    """What runs on the device: the edge half, or all but the training classifier where the embedding is sent."""
    found = cost(net, example, half="edge" if wire == "feature" else "all")
    head = 0 if wire == "feature" else net.classifier.weight.numel()
    written = 0 if wire == "feature" else 4 * net.classifier.out_features
    return {
        "macs": found.macs - head,
        "parameters": found.parameters - head,
        "activation_bytes": found.activation_bytes - written,
    }


def predicted_latency(net: ReidNet, picture_size: tuple[int, int], device: str) -> dict[str, float]:
    """Of the edge half in FP16 on a Jetson, without transfers: predicted, with its 90 % interval."""
    module, mode = device_of(device)
    found = predict(read_edge_layers(net, picture_size).graph, module, mode, "fp16").latency_ms
    return {"latency_ms": found.value, "latency_low_ms": found.low, "latency_high_ms": found.high}


def recut(net: ReidNet, cut: str) -> ReidNet:
    """The same weights, cut elsewhere."""
    if net.architecture.cut == cut:
        return net
    other = build_network(replace(net.architecture, cut=cut))
    other.load_state_dict(net.state_dict())
    return other


def _share(job: Job, net: ReidNet, example: torch.Tensor) -> float | None:
    """Part of the dense edge half's MACs that may stay."""
    if job.budget is None or isinstance(job.budget, int | float):
        return None if job.budget is None else float(job.budget)
    masks = MaskSet(find_groups(net, example))
    return share_of_split(net, edge_cost(net, masks, (example.shape[2], example.shape[3]), "macs", 1), job.budget)


def _pruned(
    job: Job,
    net: ReidNet,
    data: RunData,
    preprocess: Preprocess,
    fmt: WireFormat,
    example: torch.Tensor,
    share: float | None,
    folder: Path,
) -> tuple[ReidNet, Plan, dict[str, Any]]:
    """The slim network before fine-tuning, the plan, curves."""
    curves: dict[str, Any] = {}
    values: dict[str, torch.Tensor] = {}
    slim = job.settings.slim
    if job.prune == "masks":
        settings = aligned(
            seeded(_budgeted(job.settings.patrol, job.budget, share), job.settings.seed + 1), slim.plan
        )
        masks = new_masks(net, example, settings.masks)
        held = held_out(data, job.settings)
        pictures = defended_data(data, settings, preprocess, held)
        validate = validation(data, held)
        history = train_patrol(net, masks, pictures, fmt, settings, folder / "patrol", validate, read_edge_layers)
        curves["patrol"] = history.curves
        values = {name: value.detach().clone() for name, value in masks.values().items()}
    scores = slim.scores
    if share is not None:
        scores = scores.model_copy(update={"budget": share, "ratio": None, "half": "edge", "budget_of": "macs"})
    wanted = slim.model_copy(update={"source": job.prune, "scores": scores})
    loss = loss_on(data) if scores.criterion == "taylor" and job.prune == "scores" else None
    plan, found = make_plan(net, values, wanted, slim.plan, example, loss)
    result = apply_plan(net, found, plan, example, slim.plan.borders)
    if job.prune == "masks" and settings.masks is not None:
        for slack in slacks(net, result, settings.masks, example):
            slack.check()
    return result, plan, curves


def _budgeted(settings: PatrolSettings, budget: str | float | None, share: float | None) -> PatrolSettings:
    """The sweep's budget, in MACs unless the method names other costs of the split."""
    if settings.masks is None or share is None:
        return settings
    changes: dict[str, Any] = {"ratio": share, "as_split": None, "budget": "macs"}
    if settings.masks.budgets and isinstance(budget, str):
        changes = {"as_split": budget}
    masks = settings.masks.model_copy(update=changes)
    return settings.model_copy(update={"masks": masks})
