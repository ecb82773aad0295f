"""Entering a run with a checkpoint: somebody else's weights, or a network that this toolkit saved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.errors import ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.checkpoint import load_checkpoint
from toolkit.models.foreign import load_foreign
from toolkit.models.network import ReidNet, build_network
from toolkit.settings import RunSettings
from toolkit.surgery import rebuild, transfer

HEAD = "classifier."
SHOWN = 3


@dataclass(frozen=True)
class Entered:
    """What a run begins with.

    Attributes:
        net: with a classifier for the run's own identities.
        masks: of a checkpoint that has some.
        plan: of a network that is slim already: from the dense one of this run's identities to it.
    """

    net: ReidNet
    masks: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] | None = None


def enter_checkpoint(settings: RunSettings, architecture: Architecture) -> Entered:
    """The network of ``enter.path``.

    Args:
        settings: of the run.
        architecture: what its ``model`` section describes; a folder brings its own, of which only a cut that the
            settings name is changed, and not that of a slim network.

    Raises:
        ModelError: weights are missing or do not fit, or a slim network was made for another cut.
        ArtifactError: the file or folder cannot be read.
    """
    path = settings.enter.path
    assert path is not None
    if path.is_dir():
        return _own(settings, path, architecture)
    net = build_network(architecture, settings.seed)
    report = load_foreign(net, path)
    if not report.complete:
        names = ", ".join(report.missing[:SHOWN])
        more = ", ..." if len(report.missing) > SHOWN else ""
        raise ModelError(
            f"{path} misses {len(report.missing)} weights of a {architecture.backbone} ({names}{more}); choose "
            "the model.backbone that the file was made with, or save its whole state_dict"
        )
    return Entered(net)


def _own(settings: RunSettings, path: Path, wanted: Architecture) -> Entered:
    checkpoint = load_checkpoint(path, rebuild=rebuild)
    given = checkpoint.net.architecture
    if "backbone" in settings.model.model_fields_set and given.backbone != wanted.backbone:
        raise ModelError(f"{path} holds a {given.backbone}, model.backbone is {wanted.backbone}; leave it out")
    cut = wanted.cut if "cut" in settings.model.model_fields_set else given.cut
    net = build_network(replace(given, cut=cut, identities=wanted.identities), settings.seed)
    plan = None
    if checkpoint.plan is not None:
        if net.cut_index != checkpoint.net.cut_index:
            raise ModelError(
                f"{path} holds a network that was slimmed for the cut {given.cut}; leave out model.cut"
            )
        moved, net = transfer(net, checkpoint.plan)
        plan = moved.model_dump(mode="json")
    weights = {name: value for name, value in checkpoint.net.state_dict().items() if not name.startswith(HEAD)}
    own = {name: value for name, value in net.state_dict().items() if name.startswith(HEAD)}
    net.load_state_dict(weights | own)
    return Entered(net, checkpoint.masks, plan)
