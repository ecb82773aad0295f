"""Entering a run with a checkpoint: somebody else's weights, or a network that this toolkit saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.errors import ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.checkpoint import load_checkpoint
from toolkit.models.foreign import load_foreign
from toolkit.models.network import ReidNet, build_network
from toolkit.settings import RunSettings

HEAD = "classifier."
SHOWN = 3


def enter_checkpoint(settings: RunSettings, architecture: Architecture) -> tuple[ReidNet, dict[str, Any]]:
    """The network of ``enter.path`` with a classifier for this run's identities, and its masks.

    Args:
        settings: of the run.
        architecture: what its ``model`` section describes; a folder brings its own, of which only a cut that the
            settings name is changed.

    Raises:
        ModelError: weights are missing or do not fit, or the network is slim already.
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
    return net, {}


def _own(settings: RunSettings, path: Path, wanted: Architecture) -> tuple[ReidNet, dict[str, Any]]:
    checkpoint = load_checkpoint(path, rebuild=_refuse_slim(path))
    given = checkpoint.net.architecture
    if "backbone" in settings.model.model_fields_set and given.backbone != wanted.backbone:
        raise ModelError(f"{path} holds a {given.backbone}, model.backbone is {wanted.backbone}; leave it out")
    cut = wanted.cut if "cut" in settings.model.model_fields_set else given.cut
    architecture = replace(given, cut=cut, identities=wanted.identities)
    net = build_network(architecture, settings.seed)
    weights = {name: value for name, value in checkpoint.net.state_dict().items() if not name.startswith(HEAD)}
    own = {name: value for name, value in net.state_dict().items() if name.startswith(HEAD)}
    net.load_state_dict(weights | own)
    return net, checkpoint.masks


def _refuse_slim(path: Path) -> Any:
    def rebuild(architecture: Architecture, plan: dict[str, Any]) -> ReidNet:
        raise ModelError(f"{path} holds a network that is slim already; enter with the one it was cut from")

    return rebuild
