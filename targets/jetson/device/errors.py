"""Errors of what runs on a device, and of everything else that concerns a target: one line, a short code."""

from __future__ import annotations


class TargetError(Exception):
    """Base of every error that targets raise on purpose."""

    code = "PT000"


class DetectionError(TargetError):
    """This machine is not a Jetson, or it does not say which one."""

    code = "PT100"


class TelemetryError(TargetError):
    """A measurement of power, clocks or temperature was not taken, or not taken well enough."""

    code = "PT200"


class BundleError(TargetError):
    """A bundle is incomplete, was changed, or does not belong on this device."""

    code = "PT300"


class DeviceBuildError(TargetError):
    """An engine cannot be built or verified on this device."""

    code = "PT400"
