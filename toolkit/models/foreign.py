"""Weights from elsewhere: torchvision-named state dicts in ``.pth`` or ``.safetensors`` files."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from toolkit.errors import ArtifactError, ModelError
from toolkit.models.network import ReidNet

logger = logging.getLogger(__name__)
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
PREFIXES = ("module.", "model.", "backbone.", "base.", "encoder.")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What came of a foreign file.

    Attributes:
        loaded: names in the backbone that got a value.
        ignored: names in the file that the backbone does not have (classifiers, other heads).
        missing: names in the backbone that the file does not have; they kept their values.
    """

    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the whole backbone came from the file."""
        return not self.missing

    def describe(self) -> str:
        """One line for a log."""
        text = f"{len(self.loaded)} tensors loaded"
        for word, names in (("ignored", self.ignored), ("missing", self.missing)):
            if names:
                text += f"; {len(names)} {word} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"
        return text


def load_foreign(net: ReidNet, path: Path) -> LoadReport:
    """Load a backbone's weights from a file that another program wrote.

    Names are torchvision's, also behind prefixes such as ``module.`` or ``backbone.``, also one level down
    under ``state_dict``. Neck and classifier keep their values. BatchNorm's batch counters may be absent (old
    files have none). Nothing is changed when an error is raised.

    Args:
        net: receives the weights.
        path: ``.pth``/``.pt`` (read with ``weights_only=True``) or ``.safetensors``.

    Raises:
        ArtifactError: the file cannot be read, or is truncated.
        ModelError: it holds other objects than tensors, nothing that fits, a tensor of another shape, or NaN.
    """
    tensors = _strip_prefixes(_read(path))
    own = net.backbone.state_dict()
    loaded = [name for name in own if name in tensors]
    if not any(not name.endswith(COUNTER) for name in loaded):
        example = ", ".join(list(tensors)[:3])
        raise ModelError(f"{path} has no weights of a {net.architecture.backbone}; its names are like {example}")
    for name in loaded:
        if tensors[name].is_floating_point() and not torch.isfinite(tensors[name]).all():
            raise ModelError(f"{path}: {name} holds NaN or infinite values; its training went wrong")
        if tensors[name].shape != own[name].shape:
            found, wanted = tuple(tensors[name].shape), tuple(own[name].shape)
            raise ModelError(
                f"{path}: {name} is {found}, a {net.architecture.backbone} (width {net.architecture.width:g}) "
                f"needs {wanted}; choose the backbone that the file was made with"
            )
    net.backbone.load_state_dict({name: tensors[name] for name in loaded}, strict=False)
    report = LoadReport(
        loaded=tuple(loaded),
        ignored=tuple(name for name in tensors if name not in own),
        missing=tuple(name for name in own if name not in tensors and not name.endswith(COUNTER)),
    )
    (logger.info if report.complete else logger.warning)("%s: %s", path, report.describe())
    return report


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ArtifactError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is not a file of weights, or holds Python objects that are not loaded for safety; "
            "save the network's state_dict() alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ArtifactError(f"{path} cannot be read as weights (truncated or foreign): {reason}") from error
    return _tensors_of(content, path)


def _tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a state_dict")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"{path} holds no tensors; save the network's state_dict()")
    return tensors


def _strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stripped: dict[str, Tensor] = {}
    for full, value in tensors.items():
        name = full
        while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
            name = name[len(prefix) :]
        if name in stripped:
            raise ModelError(f"the file has {name} twice behind different prefixes; keep one network in it")
        stripped[name] = value
    return stripped
