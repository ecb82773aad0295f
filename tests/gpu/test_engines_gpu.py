"""Real engines on a real GPU. Skipped, with the reason, where there is none."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from toolkit.engines import (
    BuildSettings,
    EngineBuildError,
    EngineInputError,
    EngineMismatchError,
    NoDeviceError,
    RunSettings,
    build_engine,
    driver_calls,
    form_for,
    open_engine,
)
from toolkit.engines.cuda import Cuda
from toolkit.engines.driver import driver_problem, list_gpus
from toolkit.engines.emulation import CALLS
from toolkit.engines.layers import layers_path, lint_layers, read_graph
from toolkit.engines.sidecar import sha256, sidecar_path
from toolkit.errors import EngineError, MissingExtraError
from toolkit.profiling import ProfileSettings, engine_layers, profile

pytestmark = pytest.mark.gpu
# Share of codes equal to ONNX Runtime's, and the largest difference in codes, for each precision.
BOUNDS = {"fp32": (0.99, 1), "fp16": (0.90, 2), "int8": (0.85, 3)}


def settings(kind, step, **changes):
    return BuildSettings(engine=kind, tactics="no_external", max_batch=16, wire_step=step, **changes)


@pytest.fixture(scope="module")
def built(tensorrt, models, known, tmp_path_factory):
    """One engine for each precision that this TensorRT builds."""
    folder = tmp_path_factory.mktemp("engines")
    sources = {
        "fp32": "float",
        "fp16": "float" if form_for(tensorrt) == "a" else "fp16",
        "int8": form_for(tensorrt),
    }
    engines = {}
    for precision, name in sources.items():
        if (models / f"{name}.onnx").is_file():
            options = settings(tensorrt, known(name)["step"], precision=precision)
            engines[precision] = build_engine(models / f"{name}.onnx", folder / f"{precision}.plan", options), name
    return engines


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_codes_agree_with_onnx_runtime(built, known, precision, record_property):
    if precision not in built:
        pytest.skip(f"no {precision} model was prepared")
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


@pytest.mark.parametrize("library", ["driver", "cuda-python", "pycuda"])
def test_every_cuda_library_gives_the_same_codes(built, known, library):
    pictures = known("float")["picture"]
    try:
        engine = open_engine(built["fp32"][0].path, RunSettings(cuda=library))
    except MissingExtraError as error:
        pytest.skip(str(error))
    try:
        codes = engine.run({"picture": pictures})["wire"]
        binding = engine.bind({"picture": pictures})
        binding.run()
        assert binding.gpu_time_ms() > 0
    finally:
        engine.close()
    engine = open_engine(built["fp32"][0].path, RunSettings(cuda="driver"))
    try:
        assert np.array_equal(codes, engine.run({"picture": pictures})["wire"])
    finally:
        engine.close()


def test_a_cuda_graph_gives_the_same_codes(built, known):
    pictures = known("float")["picture"]
    engine = open_engine(built["fp32"][0].path)
    try:
        plain = engine.run({"picture": pictures})["wire"]
        binding = engine.bind({"picture": pictures})
        binding.capture()
        for _ in range(3):
            binding.run()
        assert np.array_equal(binding.outputs()["wire"], plain)
        phases = binding.phases_ms()
        assert phases["latency"] == pytest.approx(phases["h2d"] + phases["compute"] + phases["d2h"])
        assert all(value > 0 for value in phases.values())
        assert engine.run({"picture": pictures[:1]})["wire"].shape[0] == 1  # another shape: no longer the graph
    finally:
        engine.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_layers_and_their_times_carry_module_names(built, known, precision, record_property):
    if precision not in built:
        pytest.skip(f"no {precision} model was prepared")
    path = built[precision][0].path
    if not layers_path(path).is_file():
        pytest.fail("the build left no layers beside the engine")
    graph = read_graph(path)
    engine = open_engine(path)
    try:
        times = engine_layers(engine, {"picture": known("float")["picture"]})
    finally:
        engine.close()
    modules = {part for one in times for part in one.module.split(" + ")}
    record_property("layers", len(graph.layers))
    record_property("modules", sorted(modules))
    record_property("findings", [finding.to_dict() for finding in lint_layers(graph)])
    assert sum(one.share for one in times) == pytest.approx(1)
    assert any(module.startswith("backbone.layer") for module in modules)
    assert graph.detailed


def test_profiling_says_what_the_clocks_did(built, known):
    engine = open_engine(built["fp32"][0].path)
    try:
        settings = ProfileSettings(duration_s=1.0, energy_s=0.5, graph="on")
        found = profile({"fp32": engine}, {"picture": known("float")["picture"]}, settings)["fp32"]
    finally:
        engine.close()
    assert set(found.phases_ms) == {"enqueue", "h2d", "compute", "d2h", "latency", "end_to_end"}
    assert found.clocks is None or found.clocks.mhz
    assert found.energy is None or found.energy.joules > 0


def test_an_emulated_engine_runs_in_its_partition(tensorrt, models, known, tmp_path):
    if not driver_calls.has(*CALLS):
        pytest.skip("the driver has no green contexts (CUDA 12.4 and later)")
    options = settings(tensorrt, known("float")["step"], precision="fp16", emulate="orin-nano-8gb")
    built = build_engine(models / "float.onnx", tmp_path / "e.plan", options)
    assert built.sidecar.emulated["sms"] >= 8
    assert built.sidecar.inputs[0]["largest"][0] == 8
    engine = open_engine(built.path)
    try:
        pictures = known("float")["picture"][:8]
        codes = engine.run({"picture": pictures})["wire"]
        difference = np.abs(codes.astype(int) - known("float")["wire"][:8].astype(int))
        assert (difference <= BOUNDS["fp16"][1]).all()
        found = profile({"e": engine}, {"picture": pictures}, ProfileSettings(duration_s=0.5, energy_s=0))["e"]
        assert {metric.provenance for metric in found.metrics()} == {"emulated"}
    finally:
        engine.close()


def test_a_full_gpu_is_an_error_and_not_a_crash(built, known):
    cuda = Cuda(choice="driver")
    try:
        free = cuda.binding.memory_info()[0]
        with pytest.raises(EngineError, match="MiB left"):
            cuda.allocate(free + (1 << 30))
        held = [cuda.allocate(max(free - (192 << 20), 1))]
        while True:
            try:
                held.append(cuda.allocate(8 << 20))
            except EngineError:
                break
        with pytest.raises(EngineError):
            open_engine(built["fp32"][0].path).run({"picture": known("float")["picture"]})
    finally:
        cuda.close()
    engine = open_engine(built["fp32"][0].path)
    engine.run({"picture": known("float")["picture"]})
    engine.close()


def test_too_little_workspace_builds_or_says_so(tensorrt, models, known, tmp_path):
    options = settings(tensorrt, known("float")["step"], precision="fp32", workspace_mb=1)
    try:
        assert build_engine(models / "float.onnx", tmp_path / "a.plan", options).path.is_file()
    except EngineBuildError as error:
        assert "workspace" in str(error)


def test_refittable_and_stripped_plans(tensorrt, models, known, tmp_path):
    source = models / "float.onnx"
    options = settings(tensorrt, known("float")["step"], precision="fp32")
    plain = build_engine(source, tmp_path / "plain.plan", options)
    refittable = build_engine(source, tmp_path / "r.plan", options.model_copy(update={"weights": "refittable"}))
    try:
        stripped = build_engine(source, tmp_path / "s.plan", options.model_copy(update={"weights": "stripped"}))
    except EngineBuildError as error:
        assert "cannot leave weights out" in str(error)
        with pytest.raises(EngineError, match="takes no weights from ONNX files"):
            open_engine(refittable.path, RunSettings(weights_from=str(source)))
        return
    assert stripped.sidecar.engine_bytes < plain.sidecar.engine_bytes / 2
    reference = known("float")
    for built in (refittable, stripped):
        engine = open_engine(built.path, RunSettings(weights_from=str(source)))
        try:
            codes = engine.run({"picture": reference["picture"]})["wire"]
        finally:
            engine.close()
        assert (codes == reference["wire"]).mean() >= BOUNDS["fp32"][0]


def test_a_device_that_is_taken_away_is_named(built):
    path = str(built["fp32"][0].path)
    script = f"from pathlib import Path; from toolkit.engines import open_engine; open_engine(Path({path!r}))"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert NoDeviceError.__name__ in done.stderr


@pytest.mark.skipif(driver_problem() is None, reason="this machine has a driver; the refusal is for those without")
def test_without_a_driver_nothing_crashes():
    script = "from toolkit.engines.driver import require_device; require_device('to test')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert NoDeviceError.__name__ in done.stderr
