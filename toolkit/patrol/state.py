"""Training states on disk: everything that a killed phase needs to go on bit for bit.

A state is a folder ``state-000012`` with ``state.safetensors`` and ``state.json`` (epoch, fingerprint of what is
trained, sha256 of the tensors). It is written under a temporary name and renamed, so it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from toolkit.errors import ArtifactError

SCHEMA_VERSION = 1
TENSORS, FACTS = "state.safetensors", "state.json"
KEPT_STATES = 2


@dataclass(frozen=True)
class State:
    """A training state.

    Attributes:
        epoch: epochs that are complete; the next one to run.
        tensors: flat names -> tensors.
        facts: JSON values.
    """

    epoch: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)


def save_state(folder: Path, state: State, fingerprint: str, name: str | None = None) -> Path:
    """Write ``state`` and forget all but the newest two.

    Args:
        folder: of the phase.
        state: what to write.
        fingerprint: of settings, data and architecture; a resume with another one is refused.
        name: folder name; ``state-<epoch>`` without one. Named states are kept until overwritten.

    Raises:
        ArtifactError: it cannot be written; the last state stays.
    """
    final = folder / (name or f"state-{state.epoch:06d}")
    temporary = folder / f".{final.name}.next"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.tensors.items()}
        save_file(tensors, temporary / TENSORS)
        body = {
            "schema": SCHEMA_VERSION,
            "epoch": state.epoch,
            "fingerprint": fingerprint,
            "sha256": _sha256(temporary / TENSORS),
            "facts": state.facts,
        }
        (temporary / FACTS).write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        for path in (temporary / TENSORS, temporary / FACTS):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ArtifactError(f"cannot write {final}: {error}; free space and run the same command again") from error
    if name is None:
        drop_states(folder, KEPT_STATES)
    return final


def drop_states(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` states."""
    for old in _states(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def load_latest(folder: Path, fingerprint: str) -> State | None:
    """The newest state of ``folder``, None when there is none.

    Raises:
        ArtifactError: it is changed or truncated, or belongs to other settings, data or architecture.
    """
    states = _states(folder)
    return load_state(states[-1], fingerprint) if states else None


def load_state(path: Path, fingerprint: str) -> State:
    """Read one state folder (errors as :func:`load_latest`)."""
    try:
        body = json.loads((path / FACTS).read_text(encoding="utf-8"))
        if body["schema"] != SCHEMA_VERSION:
            raise ArtifactError(
                f"{path}: schema {body['schema']}, expected {SCHEMA_VERSION}; remove {path.parent}"
            )
        if body["fingerprint"] != fingerprint:
            raise ArtifactError(
                f"{path} belongs to other settings, pictures or another network; remove {path.parent} or train "
                "into another folder"
            )
        if _sha256(path / TENSORS) != body["sha256"]:
            raise ArtifactError(
                f"{path / TENSORS} is changed or truncated; remove {path} to resume from before it"
            )
        return State(int(body["epoch"]), load_file(path / TENSORS), body["facts"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(
            f"{path} is not a training state ({error}); remove it to resume from before it"
        ) from error


def fingerprint_of(*parts: str | bytes) -> str:
    """sha256 over length-prefixed parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """``state_dict`` under ``prefix/``."""
    return {f"{prefix}/{name}": value for name, value in module.state_dict().items()}


def restore_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy ``prefix/*`` back into ``module``, memory layout kept."""
    start = len(prefix) + 1
    module.load_state_dict({key[start:]: value for key, value in tensors.items() if key.startswith(prefix + "/")})


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory, by the index of the parameter. Rates are a function of the step and not here."""
    flat = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{prefix}/{index}/{key}"] = torch.as_tensor(value)
    return flat


def restore_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took, each moment in its parameter's memory layout."""
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for name, value in tensors.items():
        if not name.startswith(prefix + "/"):
            continue
        index, key = name[len(prefix) + 1 :].split("/", 1)
        parameter = parameters[int(index)]
        like_parameter = value.dim() and value.shape == parameter.shape
        copy = torch.empty_like(parameter if like_parameter else value, dtype=value.dtype)
        optimizer.state[parameter][key] = copy.copy_(value)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-" + "[0-9]" * 6)) if folder.is_dir() else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
