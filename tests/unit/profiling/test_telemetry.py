"""Clocks, throttling, energy: read from stand-in files and a stand-in NVML, and what is made of them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from toolkit.engines.layers import EngineGraph, EngineLayer
from toolkit.profiling import ProfileSettings, name_layers, open_telemetry, profile
from toolkit.profiling.energy import measure_energy, unified_memory
from toolkit.profiling.statistics import ProfilingError
from toolkit.profiling.telemetry import CpuTelemetry, JetsonTelemetry, Reading, summarize

NVML = """
static unsigned long long asked;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) { *out = &asked; return index ? 6 : 0; }
int nvmlDeviceGetClockInfo(void *d, int kind, unsigned *out) {
  *out = kind == 1 ? 1980 : 2619;
  return kind == 1 || kind == 2 ? 0 : 2;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *out) { *out = 0x25; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *out) {
  *out = asked;
  asked += 50000;
  return 0;
}
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_a_steady_clock_has_not_moved_and_one_that_did_is_marked():
    steady = [Reading(t, {"sm": 1000 + t}) for t in range(5)]
    report = summarize("nvml", steady)
    assert report.mhz == {"sm": (1000, 1002, 1004)}
    assert not report.moved
    assert summarize("nvml", [*steady, Reading(6, {"sm": 900})]).moved
    assert summarize("nvml", [Reading(0, {}, ("thermal",))]).moved
    assert summarize("nvml", []) is None
    grown = [Reading(0, {}, (), {"throttle event": 3}), Reading(1, {}, (), {"throttle event": 4})]
    assert summarize("jetson", grown).throttled == ("throttle event",)
    stolen = [
        Reading(0, {}, (), {"stolen by the hypervisor": 3}),
        Reading(10, {}, (), {"stolen by the hypervisor": 3.1}),
    ]
    assert not summarize("cpu", stolen).moved


def test_a_cpu_is_read_from_its_files(tmp_path):
    write(tmp_path, "proc/cpuinfo", "model name : x\ncpu MHz\t\t: 2100.5\ncpu MHz\t\t: 3000.0\n")
    write(tmp_path, "proc/stat", "cpu  1 2 3 4 5 6 7 200 9 0\n")
    telemetry = CpuTelemetry(tmp_path)
    assert telemetry.read().mhz == {"cpu": 3000.0}
    for core, value in (("cpu0", 1500000), ("cpu1", 1800000)):
        write(tmp_path, f"sys/devices/system/cpu/{core}/cpufreq/scaling_cur_freq", f"{value}\n")
        write(tmp_path, f"sys/devices/system/cpu/{core}/thermal_throttle/core_throttle_count", "2\n")
    reading = telemetry.read()
    assert reading.mhz == {"cpu": 1800.0}
    assert reading.counters["thermal throttling"] == 4
    nothing = CpuTelemetry(tmp_path / "none").read()
    assert (nothing.mhz, nothing.counters) == ({}, {})


def test_a_jetson_is_read_from_sysfs_and_absent_is_not_zero(tmp_path):
    assert JetsonTelemetry(tmp_path).read().mhz == {}
    node = "sys/class/devfreq/17000000.gpu"
    write(tmp_path, f"{node}/cur_freq", "1020000000\n")
    write(tmp_path, f"{node}/device/of_node/name", "gpu")
    assert JetsonTelemetry(tmp_path).read().mhz == {"gpu": 1020.0}
    assert not unified_memory(tmp_path)
    write(tmp_path, "etc/nv_tegra_release", "# R36")
    assert unified_memory(tmp_path)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc builds the stand-in NVML")
def test_a_gpu_is_read_through_nvml(tmp_path):
    source = tmp_path / "nvml.c"
    source.write_text(NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", str(source), "-o", str(library)], check=True)
    script = """
from toolkit.profiling.telemetry import open_telemetry
from toolkit.profiling.energy import measure_energy
telemetry = open_telemetry("H100")
reading = telemetry.read()
print(dict(reading.mhz), reading.throttled, telemetry.watts())
found = measure_energy(lambda: None, telemetry, 0.01)
print(found.source, round(found.joules * found.runs, 6), found.metrics({"variant": "v"}, 2)[0].name)
print(open_telemetry("H100", 1))
"""
    paths = {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, env={**os.environ, **paths}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "{'sm': 1980.0, 'memory': 2619.0} ('power cap', 'thermal') None",
        "nvml 50.0 energy.per_picture",
        "None",
    ], done.stderr


def test_a_cpu_tells_of_no_energy():
    telemetry = open_telemetry("CPU")
    assert telemetry.name == "cpu"
    assert measure_energy(lambda: None, telemetry, 0.01) is None


class Gpu:
    """An engine that answers as a GPU's does."""

    def __init__(self):
        self.captured = False
        self.order = []

    def bind(self, inputs):
        return self

    def capture(self):
        self.captured = True

    def run(self):
        time.sleep(1e-4)

    def phases_ms(self):
        return {"h2d": 0.1, "compute": 0.5, "d2h": 0.1, "latency": 0.7, "enqueue": 0.05, "end_to_end": 0.9}

    def describe(self):
        return {"device": "Some GPU", "machine": "m"}


def test_runs_are_taken_apart_and_launched_as_a_graph():
    quick = ProfileSettings(warmup_s=0, warmup_limit_s=0.01, duration_s=0.1, rounds=5, min_rounds=5, bootstrap=100)
    inputs = {"picture": np.ones((2, 3, 4, 4), np.float32)}
    engine = Gpu()
    found = profile({"g": engine}, inputs, quick)["g"]
    assert not engine.captured
    assert "CUDA graph" not in found.protocol
    assert {name: values.shape for name, values in found.phases_ms.items()}["compute"] == (5,)
    metrics = {metric.name: metric.value for metric in found.metrics()}
    assert metrics["latency.phase.compute"] == 0.5
    assert "clock.moved" not in metrics  # nothing tells of this GPU
    found = profile({"g": engine}, inputs, quick.model_copy(update={"graph": "on"}))["g"]
    assert engine.captured
    assert "without transfers, CUDA graph, interleaved" in found.protocol


def test_every_variant_is_first_equally_often():
    order = []

    class Named(Gpu):
        phases_ms = None
        capture = None

        def __init__(self, name):
            super().__init__()
            self.name = name

        def run(self):
            order.append(self.name)

    quick = ProfileSettings(
        warmup_s=0, warmup_limit_s=0, rounds=4, min_rounds=4, burst=1, bootstrap=100, energy_s=0
    )
    inputs = {"picture": np.ones((1, 3, 4, 4), np.float32)}
    profile({name: Named(name) for name in "ab"}, inputs, quick)
    assert "".join(order[-16:]) == "aabb" + "bbaa" + "aabb" + "bbaa"


def test_layers_of_tensorrt_get_the_names_of_modules():
    layers = (EngineLayer("fused#1", "CaskConvolution", nodes=("net.a/Conv", "net.b/Relu"), weights="int8"),)
    graph = EngineGraph(layers, (), (), "tensorrt10")
    found = name_layers(graph, {"fused#1": [1.0, 3.0, 2.0], "Reformatting CopyNode": [1.0]})
    assert [(one.module, one.operator, one.median_ms) for one in found] == [
        ("net.a + net.b", "CaskConvolution int8", 2.0),
        ("", "", 1.0),
    ]
    assert sum(one.share for one in found) == pytest.approx(1)
    with pytest.raises(ProfilingError, match="reported no layer"):
        name_layers(graph, {})
