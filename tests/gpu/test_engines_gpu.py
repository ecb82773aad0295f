"""Real engines on a real GPU. Skipped, with the reason, where there is none."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.gpu.common import BOUNDS, settings
from toolkit.engines import EngineInputError, EngineMismatchError, NoDeviceError, build_engine, open_engine
from toolkit.engines.cuda import Cuda
from toolkit.engines.driver import driver_problem, list_gpus
from toolkit.engines.sidecar import sha256, sidecar_path
from toolkit.errors import EngineError

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_codes_agree_with_onnx_runtime(built, known, precision, record_property):
    if isinstance(built[precision], str):
        pytest.fail(f"not built: {built[precision]}")
    engine_file, name = built[precision]
    reference = known(name)
    engine = open_engine(engine_file.path)
    try:
        codes = engine.run({"picture": reference["picture"]})["wire"]
    finally:
        engine.close()
    difference = np.abs(codes.astype(np.int16) - reference["wire"].astype(np.int16))
    agreement, largest = BOUNDS[precision]
    equal = float((difference == 0).mean())
    record_property("equal", equal)
    record_property("largest", int(difference.max()))
    record_property("wire_output", engine_file.sidecar.wire_output)
    assert codes.dtype == np.int8
    assert equal >= agreement
    assert difference.max() <= largest


def test_the_sidecar_names_this_gpu(built):
    sidecar = built["fp32"][0].sidecar
    if sidecar.engine == "tensorrt":
        gpu = list_gpus()[0]
        assert (sidecar.compute_capability, sidecar.sm_count) == (gpu.compute_capability, gpu.sm_count)


def test_runs_repeat_and_batches_do_not_matter(built, known):
    pictures = known("float")["picture"]
    engine = open_engine(built["fp32"][0].path)
    try:
        first = engine.run({"picture": pictures})["wire"]
        assert np.array_equal(first, engine.run({"picture": pictures})["wire"])
        single = engine.run({"picture": pictures[:1]})["wire"]
        assert np.abs(single.astype(int) - first[:1].astype(int)).max() <= 1
        binding = engine.bind({"picture": pictures})
        binding.run()
        assert np.array_equal(binding.outputs()["wire"], first)
    finally:
        engine.close()


def test_two_engines_in_one_process(built, known):
    pictures = known("float")["picture"]
    first, second = (open_engine(built["fp32"][0].path) for _ in range(2))
    try:
        one, two = (engine.run({"picture": pictures})["wire"] for engine in (first, second))
        assert np.array_equal(one, two)
        first.close()
        assert np.array_equal(second.run({"picture": pictures})["wire"], two)
    finally:
        first.close()
        second.close()


def test_one_engine_in_each_of_two_threads_and_none_across(built, known):
    pictures = known("float")["picture"]
    results, errors = [], []

    def own():
        engine = open_engine(built["fp32"][0].path)
        results.append(engine.run({"picture": pictures})["wire"])
        engine.close()

    threads = [threading.Thread(target=own) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert np.array_equal(*results)
    engine = open_engine(built["fp32"][0].path)

    def foreign():
        try:
            engine.run({"picture": pictures})
        except EngineError as error:
            errors.append(str(error))

    thread = threading.Thread(target=foreign)
    thread.start()
    thread.join()
    engine.close()
    assert "in the thread that opened it" in errors[0]


def test_wrong_inputs_and_closed_engines_are_refused(built, known):
    pictures = known("float")["picture"]
    engine = open_engine(built["fp32"][0].path)
    too_many = np.concatenate([pictures] * 2)
    for wrong in (pictures[:, :, :-1].copy(), pictures.astype(np.float64), too_many, pictures[..., ::-1]):
        with pytest.raises(EngineInputError):
            engine.run({"picture": wrong})
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"picture": pictures})


def test_a_corrupt_plan_and_another_version_are_refused(built, tmp_path):
    source = built["fp32"][0].path
    copy = tmp_path / "copy.plan"
    copy.write_bytes(source.read_bytes()[:-64])
    text = sidecar_path(source).read_text(encoding="utf-8")
    sidecar_path(copy).write_text(text, encoding="utf-8")
    with pytest.raises(EngineMismatchError, match="bytes, not"):
        open_engine(copy)
    copy.write_bytes(source.read_bytes())
    # Bytes that the sidecar vouches for, but that are no plan: TensorRT must refuse them without a crash.
    damaged = bytearray(source.read_bytes())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    copy.write_bytes(bytes(damaged))
    vouched = text.replace(sha256(source.read_bytes()), sha256(bytes(damaged)))
    sidecar_path(copy).write_text(vouched, encoding="utf-8")
    script = f"from pathlib import Path; from toolkit.engines import open_engine; open_engine(Path({str(copy)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"the process ended with {done.returncode}"
    assert "cannot load copy.plan" in done.stderr
    copy.write_bytes(source.read_bytes())
    version = built["fp32"][0].sidecar.version
    sidecar_path(copy).write_text(text.replace(f'"{version}"', '"8.0.0.0"'), encoding="utf-8")
    with pytest.raises(EngineMismatchError, match=r"TensorRT 8\.0\.0\.0"):
        open_engine(copy)
    capability = built["fp32"][0].sidecar.compute_capability
    if capability is not None:
        sidecar_path(copy).write_text(text.replace(f'"{capability}"', '"8.7"'), encoding="utf-8")
        with pytest.raises(EngineMismatchError, match=r"compute capability 8\.7"):
            open_engine(copy)


def test_twenty_engines_leave_memory_flat(built, known):
    pictures = known("float")["picture"]
    free = []
    for number in range(20):
        engine = open_engine(built["fp32"][0].path)
        engine.run({"picture": pictures})
        engine.close()
        if number in (4, 19):
            cuda = Cuda()
            free.append(cuda.binding.memory_info()[0])
            cuda.close()
    assert free[0] - free[1] < 32 << 20


def test_gpu_time_is_within_the_wall_time_of_a_run(built, known):
    import time

    engine = open_engine(built["fp32"][0].path)
    try:
        binding = engine.bind({"picture": known("float")["picture"]})
        for _ in range(20):
            binding.run()
        started = time.perf_counter()
        for _ in range(50):
            binding.run()
        wall = (time.perf_counter() - started) / 50 * 1000
        compute = sorted(binding.gpu_time_ms() for _ in range(50))[25]
        assert 0 < compute <= wall * 1.1
    finally:
        engine.close()


def test_a_warm_timing_cache_is_faster(tensorrt, models, known, tmp_path):
    if tensorrt == "tensorrt_rtx":
        pytest.skip("TensorRT-RTX has no timing cache")
    options = settings(
        tensorrt, known("float")["step"], precision="fp16", timing_cache=str(tmp_path / "timing.bin")
    )
    times = [build_engine(models / "float.onnx", tmp_path / "a.plan", options).sidecar.build_s for _ in range(2)]
    assert times[1] < times[0]


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a driver; the refusal is for those without")
def test_without_a_driver_nothing_crashes():
    script = "from toolkit.engines.driver import require_device; require_device('to test')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert NoDeviceError.__name__ in done.stderr
