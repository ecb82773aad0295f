"""Errors of everything that concerns a target device. Those raised on the device travel with its folder."""

from __future__ import annotations

from targets.jetson.device.errors import (
    BundleError,
    DetectionError,
    DeviceBuildError,
    TargetError,
    TelemetryError,
)


class CatalogueError(TargetError):
    """A module, a power mode or a release that the catalogue does not know, or a figure it does not have."""

    code = "PT500"


class PredictionError(TargetError):
    """Layers, a device or a precision that no prediction can be made for."""

    code = "PT600"


class DeployError(TargetError):
    """A device could not be reached or a step on it failed."""

    code = "PT700"


__all__ = [
    "BundleError",
    "CatalogueError",
    "DeployError",
    "DetectionError",
    "DeviceBuildError",
    "PredictionError",
    "TargetError",
    "TelemetryError",
]
