"""Standing in for a Jetson: planning from the catalogue, and the partition itself against the stand-in driver."""

import importlib.util
from dataclasses import replace

import pytest

from tests.unit.engines.test_driver import needs_gcc, run, standin  # noqa: F401 (the fixture)
from toolkit.engines import BuildSettings, EngineMismatchError, NoDeviceError, build_engine
from toolkit.engines.driver import Gpu, driver_problem
from toolkit.engines.emulation import Emulation, partition_size, plan_emulation
from toolkit.engines.sidecar import Sidecar
from toolkit.engines.trt_refit import check_weights
from toolkit.errors import EngineError
from toolkit.profiling.statistics import Profile

H100 = Gpu(0, "H100", "9.0", 132, 80 << 30, "12.4")


@pytest.mark.parametrize(
    ("wanted", "capability", "sms"),
    [(8, "9.0", 8), (4, "9.0", 8), (14, "9.0", 16), (8, "12.0", 8), (3, "8.6", 4), (6, "8.0", 6), (7, "8.0", 8),
     (1, "7.5", 2), (3, "7.5", 4), (3, "6.1", 3)],
)  # fmt: skip
def test_partitions_have_the_sizes_that_cuda_makes(wanted, capability, sms):
    assert partition_size(wanted, capability) == sms


def test_a_module_is_planned_from_the_catalogue():
    found = plan_emulation("orin-nano-8gb", H100)
    assert (found.sms, found.wanted_sms, found.of_sms, found.max_batch) == (8, 8, 132, 8)
    assert found.workspace_mb == 8 * 10**9 // 2 >> 20
    assert found.label == "emulating orin-nano-8gb (15W) on 8 of 132 SMs"
    smaller = plan_emulation("orin-nano-8gb:7W", H100)
    assert smaller.label == "emulating orin-nano-8gb (7W) on 8 of 132 SMs, the module has 4"
    assert Emulation.from_dict(found.to_dict()) == found
    assert plan_emulation("agx-orin-64gb:MAXN", H100).max_batch == 16


def test_what_cannot_be_emulated_is_said():
    with pytest.raises(EngineError, match="cannot emulate orin-nano-9gb"):
        plan_emulation("orin-nano-9gb", H100)
    with pytest.raises(EngineError, match="has no power mode 99W"):
        plan_emulation("orin-nano-8gb:99W", H100)
    with pytest.raises(EngineError, match="it takes 8 SMs"):
        plan_emulation("orin-nano-8gb", replace(H100, sm_count=4))
    with pytest.raises(EngineError, match="has less memory"):
        plan_emulation("agx-orin-64gb", replace(H100, memory_bytes=16 << 30))


@pytest.mark.skipif(driver_problem() is None, reason="there is a GPU here")
def test_without_a_gpu_nothing_is_emulated(tiny_path, tmp_path):
    with pytest.raises(NoDeviceError, match="a GPU is needed to emulate orin-nano-8gb"):
        build_engine(tiny_path, tmp_path / "e", BuildSettings(engine="tensorrt_rtx", emulate="orin-nano-8gb"))
    built = build_engine(tiny_path, tmp_path / "e", BuildSettings(emulate="orin-nano-8gb"))
    assert built.sidecar.ignored == ("emulate",)
    assert built.sidecar.emulated is None


def test_numbers_of_an_emulation_are_called_that():
    import numpy as np

    samples = np.ones((10, 5))
    shared = {"batch": 1, "warmup_runs": 1, "settled": True, "device": "H100", "protocol": "p", "bootstrap": 100}
    label = plan_emulation("orin-nano-8gb", H100).label
    found = Profile("k", samples, machine=f"{H100.title}, {label}", engine={"emulated": label}, **shared)
    assert {metric.provenance for metric in found.metrics()} == {"emulated"}
    assert {metric.provenance for metric in Profile("k", samples, machine="m", **shared).metrics()} == {"measured"}


@needs_gcc
def test_a_partition_is_made_entered_and_left(standin):  # noqa: F811
    script = """
import ctypes
from toolkit.engines.emulation import GreenContext
from toolkit.errors import EngineError
library = ctypes.CDLL("libcuda.so.1")
with GreenContext(0, 4) as partition:
    print(partition.sms, library.standin_partitions(), library.standin_contexts(), partition.new_stream() != 0)
print(library.standin_partitions(), library.standin_contexts())
import os
os.environ["STANDIN_NO_PARTITION"] = "1"
ctypes.CDLL(None).setenv(b"STANDIN_NO_PARTITION", b"1", 1)
try:
    GreenContext(0, 4).__enter__()
except EngineError as error:
    print(error)
print(library.standin_partitions(), library.standin_contexts())
"""
    done = run(script, standin)
    assert done.stdout.splitlines() == [
        "4 1 2 True",
        "0 0",
        "CUDA call cuDevSmResourceSplitByCount failed: CUDA_ERROR_NOT_SUPPORTED",
        "0 0",
    ], done.stderr


@needs_gcc
@pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None, reason="cuda-python is not installed (extra tensorrt)"
)
def test_buffers_and_streams_live_in_the_partition(standin):  # noqa: F811
    script = """
import ctypes
from toolkit.engines.cuda import Cuda
library = ctypes.CDLL("libcuda.so.1")
cuda = Cuda(0, "cuda-python", 4)
cuda.allocate(10)
cuda.binding.new_stream()
print(library.standin_partitions())
cuda.close()
print(library.standin_partitions(), library.standin_contexts(), library.standin_buffers())
"""
    done = run(script, standin)
    assert done.stdout.splitlines() == ["1", "0 0 0"], done.stderr


@needs_gcc
def test_a_run_is_captured_once_and_launched_often(standin):  # noqa: F811
    script = """
import ctypes
from toolkit.engines.cuda_graph import CudaGraph
library = ctypes.CDLL("libcuda.so.1")
stream = ctypes.c_void_p()
library.cuStreamCreate(ctypes.byref(stream), 1)
graph = CudaGraph(stream.value, library.standin_work)
for _ in range(3):
    graph.launch()
print(library.standin_recorded(), library.standin_launched())
graph.close()
graph.close()
library.cuStreamDestroy_v2(stream)
print(library.standin_buffers())
"""
    done = run(script, standin)
    assert done.stdout.splitlines() == ["1 3", "0"], done.stderr


def test_weights_are_checked_before_tensorrt_is_asked(tiny_path, tmp_path):
    base = Sidecar(
        engine="tensorrt", version="10.3.0", precision="fp16", onnx_sha256="0" * 64, engine_sha256="0" * 64,
        engine_bytes=1, machine="", options={}, inputs=(), outputs=(), build_s=1.0,
    )  # fmt: skip
    check_weights(base, None)
    with pytest.raises(EngineMismatchError, match="weights: refittable"):
        check_weights(base, str(tiny_path))
    stripped = base.model_copy(update={"weights": "stripped"})
    with pytest.raises(EngineMismatchError, match="built without weights; name its ONNX file"):
        check_weights(stripped, None)
    with pytest.raises(EngineMismatchError, match="is not the model"):
        check_weights(stripped, str(tiny_path))
    with pytest.raises(EngineMismatchError, match="cannot read the weights"):
        check_weights(stripped, str(tmp_path / "none"))
    check_weights(base.model_copy(update={"weights": "refittable"}), str(tiny_path))
