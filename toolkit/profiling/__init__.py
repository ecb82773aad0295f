"""Measure engines side by side: latency, memory, layers. Numbers carry the machine they were taken on."""

from toolkit.profiling.energy import Energy
from toolkit.profiling.latency import ProfileSettings, profile
from toolkit.profiling.layers import LayerTime, engine_layers, layer_profile, name_layers
from toolkit.profiling.memory import MemoryReport, artifact_bytes, measure_memory
from toolkit.profiling.statistics import Profile, Ratio, compare, percentile
from toolkit.profiling.telemetry import ClockReport, open_telemetry

__all__ = [
    "ClockReport",
    "Energy",
    "LayerTime",
    "MemoryReport",
    "Profile",
    "ProfileSettings",
    "Ratio",
    "artifact_bytes",
    "compare",
    "engine_layers",
    "layer_profile",
    "measure_memory",
    "name_layers",
    "open_telemetry",
    "percentile",
    "profile",
]
