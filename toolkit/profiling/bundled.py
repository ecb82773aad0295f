"""Latency of a bundle's engine on this machine, for devices without trtexec."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from targets.jetson.device.bundle import verify
from toolkit.engines.build import open_engine
from toolkit.engines.bundled import vector_inputs
from toolkit.profiling.latency import ProfileSettings, profile
from toolkit.profiling.statistics import Profile, ProfilingError

ROUNDS = 1_000_000
BURST = 10
KEY = "bundle"


@dataclass(frozen=True)
class BundledTimes:
    """What was measured.

    Attributes:
        profile: every sample.
        ended: when sampling ended, in seconds of the monotonic clock, which all processes of a machine share.
    """

    profile: Profile
    ended: float


def time_bundled(root: Path, engine: Path, seconds: float) -> BundledTimes:
    """Time an engine on the bundle's first test vector, inputs and outputs in place.

    Args:
        root: the unpacked bundle; every file of it is checked first.
        engine: built by ``patrol-edge engine``, with its sidecar.
        seconds: time for sampling, after warming up.

    Raises:
        BundleError: the bundle is damaged.
        ProfilingError: it has no test vector.
        EngineMismatchError: the engine is not of this machine, or was changed.
    """
    manifest = verify(root)
    if not manifest.vectors:
        raise ProfilingError("the bundle has no test vector to time the engine on; pack it again")
    inputs = vector_inputs(root, manifest, manifest.vectors[0])
    opened = open_engine(engine)
    try:
        settings = ProfileSettings(duration_s=seconds, rounds=ROUNDS, burst=BURST)
        found = profile({KEY: opened}, inputs, settings)[KEY]
        return BundledTimes(found, time.monotonic())
    finally:
        opened.close()
