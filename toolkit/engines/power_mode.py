"""The power mode of a Jetson: engines are tuned in one and slower in another."""

from __future__ import annotations

import logging
from pathlib import Path

from targets.errors import TargetError
from targets.jetson.device.detect import detect
from toolkit.engines.sidecar import Sidecar

logger = logging.getLogger(__name__)


def power_mode(root: Path = Path("/")) -> str | None:
    """The mode's name; None on what is no Jetson, or where it cannot be read."""
    if not (root / "etc/nv_tegra_release").exists():
        return None
    try:
        mode = detect(root).mode
    except TargetError:
        return None
    return mode.name if mode is not None else None


def warn_of_mode(sidecar: Sidecar, root: Path = Path("/")) -> None:
    """Say it when the engine was built in another power mode: its kernels were chosen for that one."""
    here = power_mode(root)
    if sidecar.power_mode is not None and here is not None and here != sidecar.power_mode:
        logger.warning(
            "the engine was built in power mode %s, now it is %s; build it again for its best latency",
            sidecar.power_mode,
            here,
        )
