"""Backbones by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from toolkit.errors import ModelError
from toolkit.models.backbone import Backbone
from toolkit.models.mobilenet import MobileNetV2
from toolkit.models.resnet import resnet18, resnet34, resnet50, resnet50_ibn_a
from toolkit.models.vgg import Vgg16

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet50_ibn_a": resnet50_ibn_a,
    "mobilenet_v2": MobileNetV2,
    "vgg16_bn": Vgg16,
}


def register_backbone(name: str, factory: Callable[..., Backbone]) -> None:
    """Make a backbone of your own known under a name, for this process.

    Args:
        name: what ``model.backbone`` calls it.
        factory: takes ``last_stride`` and ``width`` as keywords; usually the class itself.

    Raises:
        ModelError: another backbone has that name.
    """
    if BACKBONES.get(name, factory) is not factory:
        raise ModelError(f"there is a backbone {name!r} already; choose another name")
    BACKBONES[name] = factory


def build_backbone(name: str, **arguments: Any) -> Backbone:
    """A backbone with random weights (from torch's global generator).

    Args:
        name: a key of ``BACKBONES``.
        arguments: ``last_stride`` (1 or 2), ``width``, and for ResNets ``zero_init_residual``.

    Raises:
        ModelError: unknown name, unknown argument, or a value out of range.
    """
    if name not in BACKBONES:
        raise ModelError(f"no backbone {name!r}; one of {', '.join(BACKBONES)}")
    try:
        return BACKBONES[name](**arguments)
    except TypeError as error:
        raise ModelError(f"{name} does not take these arguments: {error}") from error


def cut_points(name: str, last_stride: int = 2) -> tuple[str, ...]:
    """Every cut that a backbone has, found on a narrow copy of it; torch's generator is left as it was.

    Raises:
        ModelError: see :func:`build_backbone`.
    """
    with torch.random.fork_rng(devices=[]):
        return build_backbone(name, last_stride=last_stride, width=0.125).cut_points
