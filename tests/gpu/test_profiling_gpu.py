"""CUDA libraries, graphs, layers, clocks, emulation, full memory, refitting: on a real GPU."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.gpu.common import BOUNDS, settings
from toolkit.engines import EngineBuildError, NoDeviceError, RunSettings, build_engine, driver_calls, open_engine
from toolkit.engines.cuda import Cuda
from toolkit.engines.emulation import CALLS
from toolkit.engines.layers import layers_path, lint_layers, read_graph
from toolkit.errors import EngineError, MissingExtraError
from toolkit.profiling import ProfileSettings, engine_layers, profile

pytestmark = pytest.mark.gpu


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
    if isinstance(built[precision], str):
        pytest.fail(f"not built: {built[precision]}")
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
