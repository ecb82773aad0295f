"""Asking the driver and moving buffers, against a stand-in libcuda, in processes of their own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc builds the stand-in driver")


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libcuda.so.1"
    source = str(HERE / "standin_driver.c")
    command = ["gcc", "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", source, "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return folder


def run(script: str, libraries: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    front = {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(HERE.parents[2])}
    paths = {name: f"{value}:{os.environ.get(name, '')}".rstrip(":") for name, value in front.items()}
    environment = {**os.environ, **paths, **variables}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@needs_gcc
def test_a_gpu_is_described_from_the_driver(standin):
    done = run(
        "from toolkit.engines.driver import require_device; gpu = require_device('to test');"
        "print(gpu.title, gpu.driver, gpu.memory_bytes)",
        standin,
    )
    assert done.stdout.strip() == "Stand-in, 4 SMs, compute capability 8.7 12.4 1073741824", done.stderr


@needs_gcc
def test_the_workspace_is_half_of_the_free_memory_and_no_context_is_left(standin):
    done = run(
        "import ctypes; from toolkit.engines.trt_build import fitting_workspace_mb; print(fitting_workspace_mb(),"
        "ctypes.CDLL('libcuda.so.1').standin_contexts())",
        standin,
    )
    assert done.stdout.strip() == "256 0", done.stderr


@needs_gcc
def test_a_missing_index_and_a_driver_without_gpu_are_named(standin):
    script = "from toolkit.engines.driver import require_device; require_device('to test', {})"
    assert "there is no GPU 3, the machine has 1" in run(script.format(3), standin).stderr
    done = run(script.format(0), standin, STANDIN_NO_GPU="1")
    assert "a GPU is needed to test: the NVIDIA driver found no usable GPU (cuInit returned 100)" in done.stderr


def test_without_a_driver_it_says_so(tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    done = run("from toolkit.engines.driver import driver_problem; print(driver_problem())", tmp_path)
    assert done.stdout.strip() == "no NVIDIA driver (libcuda.so.1 is not there)"


@needs_gcc
@pytest.mark.parametrize("choice", ["driver", "cuda-python"])
def test_buffers_travel_and_nothing_is_left(standin, choice):
    if choice == "cuda-python" and importlib.util.find_spec("cuda") is None:
        pytest.skip("cuda-python is not installed (extra tensorrt)")
    script = """
import ctypes, threading
import numpy as np
from toolkit.engines.cuda import Cuda
from toolkit.errors import EngineError
library = ctypes.CDLL("libcuda.so.1")
cuda = Cuda(0, "CHOICE")
binding = cuda.binding
stream, pointer = binding.new_stream(), cuda.allocate(400)
first, second = (binding.host_buffer(400).view(np.float32) for _ in range(2))
first[:], second[:] = np.arange(100), 0
binding.to_device(pointer, first, stream)
binding.to_host(second, pointer, stream)
binding.synchronize(stream)
print(np.array_equal(first, second), binding.elapsed_ms(binding.new_event(), binding.new_event()))
binding.free_host(second.view(np.uint8))
errors = []
def attempt(call):
    try:
        call()
    except EngineError as error:
        print(error)
attempt(lambda: cuda.allocate(1 << 29))
thread = threading.Thread(target=attempt, args=(lambda: cuda.allocate(1),))
thread.start()
thread.join()
cuda.close()
attempt(lambda: cuda.allocate(1))
print(library.standin_contexts(), library.standin_buffers())
"""
    done = run(script.replace("CHOICE", choice), standin)
    lines = done.stdout.splitlines()
    assert lines[0] == "True 1.5", done.stderr
    assert "no 512 MiB left" in lines[1]
    assert "in the thread that opened it" in lines[2]
    assert "was closed" in lines[3]
    assert lines[4] == "0 0"


def test_a_cuda_library_that_is_asked_for_and_absent_is_named():
    if importlib.util.find_spec("pycuda"):
        pytest.skip("pycuda is installed")
    from toolkit.engines.cuda import Cuda
    from toolkit.errors import MissingExtraError

    with pytest.raises(MissingExtraError, match=r"patrol-edge\[tensorrt\]"):
        Cuda(0, "pycuda")
