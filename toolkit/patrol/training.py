"""The three phases: dense pre-training, joint PATROL training, fine-tuning of the slim network."""

from __future__ import annotations

import copy
import hashlib
import logging
from pathlib import Path

import torch

from toolkit.errors import DataError, SettingsError
from toolkit.models.masks import MaskSet
from toolkit.models.network import ReidNet
from toolkit.patrol.adversary import Adversary
from toolkit.patrol.budgets import mask_budget
from toolkit.patrol.data import Batches, TrainingData
from toolkit.patrol.distillation import check_teacher
from toolkit.patrol.history import History
from toolkit.patrol.latency import ReadLayers, latency_cost
from toolkit.patrol.linear import LinearAdversary
from toolkit.patrol.memory import channels_last
from toolkit.patrol.objective import Objective
from toolkit.patrol.schedule import make_optimizer
from toolkit.patrol.settings import DefenceSettings, LatencyBudget, MaskSettings, PatrolSettings, TrainSettings
from toolkit.patrol.similarity import ReconstructionError
from toolkit.patrol.sparsity import MaskTraining, ProximalMasks, Steering
from toolkit.patrol.state import fingerprint_of
from toolkit.patrol.trainer import Phase, Validate, run_phase
from toolkit.wire import WireFormat

logger = logging.getLogger(__name__)
ANCHOR_PICTURES = 512
ANCHOR_EPOCH = 999_983  # the augmentation's epoch number of the anchors' batches, far from any real one


def train_dense(
    net: ReidNet, data: TrainingData, settings: TrainSettings, folder: Path, validate: Validate | None = None
) -> History:
    """Train the whole network on the task alone, in place.

    Args:
        net: its classifier has one output per label.
        data: pictures and labels.
        settings: the schedule.
        folder: for states and the log; a killed call with the same arguments goes on from there, bit for bit.
        validate: larger is better; called after every epoch with the network in evaluation mode.

    Raises:
        DataError: labels that do not fit the network.
        TrainingError: the loss became NaN or infinite; the last good state is kept.
        ArtifactError: ``folder`` cannot be written, is damaged, or belongs to another training.
    """
    settings_only = DefenceSettings(train=settings, lipschitz=None, adversary=None)
    return _run("dense training", net, None, data, None, settings_only, folder, validate)


def train_patrol(
    net: ReidNet,
    masks: MaskSet,
    data: TrainingData,
    fmt: WireFormat,
    settings: PatrolSettings,
    folder: Path,
    validate: Validate | None = None,
    read_layers: ReadLayers | None = None,
) -> History:
    """Joint PATROL training of network and masks, in place: task, sparsity, Lipschitz and adversarial terms.

    Start it from a dense pre-trained network. The masks are attached for the time of the training; afterwards they
    hold the result (exact zeros where channels go) and are detached, ready for the surgery.

    Args:
        net: dense, pre-trained.
        masks: of ``net``'s edge half.
        data: pictures and labels.
        fmt: the wire, its step chosen before and constant from now on.
        settings: all terms; one that is None is off.
        folder, validate: as in :func:`train_dense`; validation counts once the budget is met.
        read_layers: ``toolkit.planning.edge.read_edge_layers``; a latency budget needs it.

    Raises:
        TrainingError: no mask can meet the budget, or the loss became NaN or infinite.
        DataError, ArtifactError, SettingsError: wrong data, folder or settings.
    """
    teacher = copy.deepcopy(net) if settings.distill is not None else None
    masks.attach(net)
    try:
        return _run("PATROL training", net, masks, data, fmt, settings, folder, validate, read_layers, teacher)
    finally:
        masks.detach()


def finetune(
    net: ReidNet,
    data: TrainingData,
    fmt: WireFormat | None,
    settings: DefenceSettings,
    folder: Path,
    validate: Validate | None = None,
    teacher: ReidNet | None = None,
) -> History:
    """Train a (slim) network further, in place, with the adversary and the Lipschitz term still on where set.

    Args:
        net: slim or dense.
        data: pictures and labels.
        fmt: the wire; None trains without the wire's quantizer, and then there can be no adversary's view of it.
        settings: a :class:`PatrolSettings` is taken too, its masks are ignored.
        folder, validate: as in :func:`train_dense`.
        teacher: the dense network, which ``distill`` needs; it is copied, not changed.

    Raises:
        SettingsError: ``distill`` without a teacher, and as in :func:`train_patrol`.
    """
    if settings.distill is not None and teacher is None:
        raise SettingsError("distill needs the dense network; give finetune(teacher=...) or leave distill out")
    taught = copy.deepcopy(teacher) if settings.distill is not None else None
    return _run("fine-tuning", net, None, data, fmt, settings, folder, validate, teacher=taught)


def _run(
    name: str,
    net: ReidNet,
    masks: MaskSet | None,
    data: TrainingData,
    fmt: WireFormat | None,
    settings: DefenceSettings,
    folder: Path,
    validate: Validate | None,
    read_layers: ReadLayers | None = None,
    teacher: ReidNet | None = None,
) -> History:
    train = settings.train
    feature = _check(net, data, fmt, settings)
    device = pick_device(train.device)
    origin = next(net.parameters()).device
    mask_settings = settings.masks if isinstance(settings, PatrolSettings) else None
    fingerprint = _fingerprint(name, net, masks, data, fmt, settings)
    if teacher is not None and settings.distill is not None:
        check_teacher(net, teacher, settings.distill)
        fingerprint = fingerprint_of(fingerprint, weights_digest(teacher))
        channels_last(teacher.to(device).eval().requires_grad_(False))
    net.to(device)
    channels_last(net)
    if masks is not None:
        masks.to(device)
    mean = tuple(float(value) for value in net.mean.flatten())
    batches = Batches(data, train, (mean[0], mean[1], mean[2]))
    try:
        phase = Phase(
            name=name,
            net=net,
            batches=batches,
            objective=Objective(
                net,
                train,
                fmt,
                lipschitz=settings.lipschitz,
                adversary=make_adversary(feature, batches, settings, device),
                noise=settings.noise,
                dropout=settings.dropout,
                nopeek=settings.nopeek,
                linear=make_linear(feature, batches, settings, device),
                distill=settings.distill,
                teacher=teacher,
                data=data,
                device=device,
            ),
            optimizer=make_optimizer(net, train.learning_rate, train.weight_decay),
            train=train,
            fingerprint=fingerprint,
            masks=make_masks(net, masks, data, mask_settings, train.epochs * batches.steps_per_epoch, read_layers),
            validate=validate,
        )
        return run_phase(phase, folder)
    finally:
        net.to(origin)
        if masks is not None:
            masks.to(origin)


def _check(
    net: ReidNet, data: TrainingData, fmt: WireFormat | None, settings: DefenceSettings
) -> tuple[int, int, int]:
    """The feature's (C, h, w), after checking that network, data, wire and settings fit together."""
    highest = int(data.labels.max())
    if int(data.labels.min()) < 0 or highest >= net.classifier.out_features:
        raise DataError(
            f"labels go up to {highest} but the classifier has {net.classifier.out_features} outputs; number the "
            "training identities 0..K-1 and build the network with identities=K"
        )
    if settings.train.patience and settings.train.epochs == 0:
        raise SettingsError("train.patience needs epochs to wait for; set train.epochs or leave patience at 0")
    lipschitz = settings.lipschitz
    if lipschitz is not None and lipschitz.perturbation == "counterfactual":
        data.input_of(torch.zeros(1, dtype=torch.int64).numpy(), counterfactual=True)
    was_training = net.training
    with torch.no_grad():
        example = torch.zeros(1, 3, *data.picture_size, device=next(net.parameters()).device)
        shape = tuple(net.eval().edge(example).shape[1:])
    net.train(was_training)
    if fmt is not None and (fmt.channels, fmt.height, fmt.width) != shape:
        raise SettingsError(
            f"the wire is {fmt.channels}x{fmt.height}x{fmt.width} but the feature at the cut is "
            f"{'x'.join(map(str, shape))}; make the wire format for this network and picture size"
        )
    return shape[0], shape[1], shape[2]


def make_adversary(
    feature: tuple[int, int, int], batches: Batches, settings: DefenceSettings, device: torch.device
) -> Adversary | None:
    """The training adversary for a feature (C, h, w), its errors anchored on augmented pictures, which it sees."""
    options = settings.adversary
    if options is None:
        return None
    wanted = -(-ANCHOR_PICTURES // (batches.identities * settings.train.pictures * settings.train.augmentations))
    seen = [batch.pictures for batch, _ in zip(batches.epoch(ANCHOR_EPOCH), range(wanted), strict=False)]
    measure = ReconstructionError(options.loss, torch.cat(seen))
    train, size = settings.train, batches.data.picture_size
    return Adversary(feature, size, options, measure, train.seed, train.precision).to(device)


def make_linear(
    feature: tuple[int, int, int], batches: Batches, settings: DefenceSettings, device: torch.device
) -> LinearAdversary | None:
    """The linear adversary for a feature (C, h, w)."""
    if settings.linear is None:
        return None
    return LinearAdversary(feature, batches.data.picture_size, settings.linear).to(device)


def make_masks(
    net: ReidNet,
    masks: MaskSet | None,
    data: TrainingData,
    settings: MaskSettings | None,
    steps: int,
    read_layers: ReadLayers | None,
) -> MaskTraining | None:
    """The masks of a phase with their budget; None where nothing is pruned.

    Raises:
        TrainingError: no mask can meet the budget.
        SettingsError: a latency budget without ``read_layers``.
    """
    if masks is None or settings is None:
        return None
    pruning = max(1, round(settings.prune_fraction * steps))
    steering = make_steering(net, masks, data.picture_size, settings, pruning, read_layers)
    if steering is not None:
        logger.info("the edge half %s", _said(steering, settings))
    values = {name: mask for name, mask in masks.values().items() if isinstance(mask, torch.nn.Parameter)}
    return MaskTraining(ProximalMasks(values, settings), steering, pruning)


def make_steering(
    net: ReidNet,
    masks: MaskSet,
    picture_size: tuple[int, int],
    settings: MaskSettings,
    steps: int,
    read_layers: ReadLayers | None,
) -> Steering | None:
    """How masks are steered towards their budget within ``steps``; None where there is none.

    Raises:
        TrainingError: no mask can meet the budget; neither weights nor pictures are needed to tell.
        SettingsError: a latency budget without ``read_layers``.
    """
    if settings.latency is not None:
        return _latency_steering(net, masks, picture_size, settings, settings.latency, steps, read_layers)
    if settings.ratio is None and settings.as_split is None:
        return None
    cost, ratio = mask_budget(net, masks, picture_size, settings)
    return Steering(cost, ratio, steps, settings.minimum_channels)


def _said(steering: Steering, settings: MaskSettings) -> str:
    """The budget, for people."""
    budget = settings.latency
    if budget is None:
        return f"may keep {steering.target / steering.cost.full:.3f} of its {' and '.join(settings.bound())}"
    whole = f"is predicted to take up to {steering.cost.full:.3g} ms on {budget.device}"
    return f"{whole}, and may take {budget.max_ms:.3g} ms"


def _latency_steering(
    net: ReidNet,
    masks: MaskSet,
    picture_size: tuple[int, int],
    settings: MaskSettings,
    budget: LatencyBudget,
    steps: int,
    read_layers: ReadLayers | None,
) -> Steering:
    if read_layers is None:
        raise SettingsError(
            "masks.latency needs the edge half's layers; give read_layers=toolkit.planning.edge.read_edge_layers"
        )
    cost = latency_cost(net, masks, picture_size, budget, settings.align, read_layers)
    return Steering(cost, budget.max_ms / cost.full, steps, settings.minimum_channels)


def _fingerprint(
    name: str,
    net: ReidNet,
    masks: MaskSet | None,
    data: TrainingData,
    fmt: WireFormat | None,
    settings: DefenceSettings,
) -> str:
    """Of everything that decides the result, the initial weights included."""
    mask_values = masks.values() if masks is not None else {}
    return fingerprint_of(
        name,
        settings.model_dump_json(),
        data.fingerprint(),
        fmt.to_json() if fmt is not None else "",
        weights_digest(net),
        *[f"{key}:{value.detach().cpu().tolist()}" for key, value in mask_values.items()],
    )


def weights_digest(net: torch.nn.Module) -> str:
    """sha256 of all weights and buffers in order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def pick_device(name: str) -> torch.device:
    """``cpu``, ``cuda`` or ``auto``.

    Raises:
        SettingsError: cuda is asked for and there is none.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SettingsError("train.device is cuda but torch sees no GPU; take device: auto or cpu")
    return torch.device("cuda")
