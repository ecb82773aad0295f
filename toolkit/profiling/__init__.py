"""Measure engines side by side: latency, memory, layers. Numbers carry the machine they were taken on."""

from toolkit.profiling.latency import ProfileSettings, profile
from toolkit.profiling.layers import LayerTime, layer_profile
from toolkit.profiling.memory import MemoryReport, artifact_bytes, measure_memory
from toolkit.profiling.statistics import Profile, Ratio, compare, percentile

__all__ = [
    "LayerTime",
    "MemoryReport",
    "Profile",
    "ProfileSettings",
    "Ratio",
    "artifact_bytes",
    "compare",
    "layer_profile",
    "measure_memory",
    "percentile",
    "profile",
]
