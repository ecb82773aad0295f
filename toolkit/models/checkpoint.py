"""Checkpoints: ``model.safetensors`` and ``model.json`` in a folder. No pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit.errors import ArtifactError, ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.network import ReidNet, build_network

if TYPE_CHECKING:
    from toolkit.preprocess import Preprocess

SCHEMA_VERSION = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
PENDING = WEIGHTS + ".next"
Rebuild = Callable[[Architecture, dict[str, Any]], ReidNet]


@dataclass(frozen=True)
class Checkpoint:
    """A network and what belongs to it.

    Attributes:
        net: on the CPU, in evaluation mode.
        preprocess: how its pictures were made.
        masks: soft mask values per group, empty without masks.
        plan: the plan that made it slim (``plan.json``'s content), None for a dense network.
        identities: names behind the classifier's outputs, may be empty.
        extra: whatever the saver added (JSON values).
    """

    net: ReidNet
    preprocess: Preprocess
    masks: dict[str, Tensor] = field(default_factory=dict)
    plan: dict[str, Any] | None = None
    identities: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    net: ReidNet,
    preprocess: Preprocess,
    *,
    masks: Mapping[str, Tensor] | None = None,
    plan: Mapping[str, Any] | None = None,
    identities: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; a kill at any moment leaves the old one or the new one, never a mixture.

    The weights are first written under a pending name; replacing ``model.json``, which holds their sha256,
    is the moment the new checkpoint counts.

    Args:
        folder: made when absent; an older checkpoint in it is replaced.
        net: any ReidNet; masks must be detached (weights keep their plain names).
        preprocess: its mean and std must be the network's.
        masks: values in [0, 1] per group.
        plan: content of ``plan.json`` for a slim network.
        identities: names behind the classifier's outputs.
        extra: JSON values.

    Raises:
        ModelError: preprocess normalizes differently from the network, or identities do not fit the classifier.
        ArtifactError: the folder cannot be written.
    """
    if tuple(preprocess.mean) != net.architecture.mean or tuple(preprocess.std) != net.architecture.std:
        raise ModelError(
            "preprocess and network disagree on mean and std; build the Architecture with preprocess's"
        )
    if identities and len(identities) != net.architecture.identities:
        raise ModelError(f"{len(identities)} identity names for {net.architecture.identities} classifier outputs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
        save_file(weights, folder / PENDING)
        _sync(folder / PENDING)
        body = {
            "schema": SCHEMA_VERSION,
            "weights_sha256": _sha256(folder / PENDING),
            "architecture": net.architecture.to_dict(),
            "preprocess": preprocess.model_dump(mode="json"),
            "masks": {name: value.detach().cpu().double().tolist() for name, value in (masks or {}).items()},
            "plan": None if plan is None else dict(plan),
            "identities": list(identities),
            "extra": dict(extra or {}),
        }
        _replace_text(folder / DESCRIPTION, json.dumps(body, indent=1, sort_keys=True) + "\n")
        (folder / PENDING).replace(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        _discard_pending(folder)
        raise ArtifactError(f"cannot write the checkpoint {folder}: {error}; check space and rights") from error


def _discard_pending(folder: Path) -> None:
    """Remove what a failed save left behind; the old checkpoint stays."""
    for name in (PENDING, DESCRIPTION + ".next"):
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def load_checkpoint(folder: Path, *, rebuild: Rebuild | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        folder: what :func:`save_checkpoint` wrote.
        rebuild: makes the slim network of an architecture and a plan (``toolkit.surgery.rebuild``); needed for
            a checkpoint that holds a plan.

    Raises:
        ArtifactError: a file is missing, truncated, changed or of another schema.
        ModelError: the weights do not fit the architecture, or a plan needs ``rebuild``.
    """
    from toolkit.preprocess import Preprocess

    body = _read_description(folder)
    weights = _read_weights(folder, body)
    try:
        architecture = Architecture.from_dict(body["architecture"])
        preprocess = Preprocess.model_validate(body["preprocess"])
        plan: dict[str, Any] | None = body["plan"]
        masks = {name: torch.tensor(values) for name, values in body["masks"].items()}
        identities, extra = tuple(body["identities"]), dict(body["extra"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / DESCRIPTION} is not a checkpoint's description: {error!r}") from error
    if plan is None:
        net = build_network(architecture)
    elif rebuild is None:
        raise ModelError(f"{folder} holds a slim network; load it with rebuild=toolkit.surgery.rebuild")
    else:
        net = rebuild(architecture, plan)
    try:
        net.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"the weights in {folder} do not fit their architecture: {reason}") from error
    return Checkpoint(net.eval(), preprocess, masks, plan, identities, extra)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"no checkpoint in {folder}: cannot read {path.name} ({error.strerror})") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is truncated or not JSON ({error}); restore it or train again") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA_VERSION:
        found = body.get("schema") if isinstance(body, dict) else None
        raise ArtifactError(f"{path}: checkpoint schema {found!r}, expected {SCHEMA_VERSION}")
    return body


def _read_weights(folder: Path, body: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors whose sha256 the description holds; the pending file when a save was cut off before its end."""
    expected = body.get("weights_sha256")
    for path in (folder / WEIGHTS, folder / PENDING):
        try:
            if path.exists() and _sha256(path) == expected:
                return load_file(path)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"cannot read {path}: {error}") from error
    state = "is changed or truncated" if (folder / WEIGHTS).exists() else "is missing"
    raise ArtifactError(f"{folder / WEIGHTS} {state}; restore it or train again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".next")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)
