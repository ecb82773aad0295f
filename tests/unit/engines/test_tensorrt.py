"""The TensorRT builder, for real: TensorRT-RTX parses and builds without a GPU."""

import multiprocessing
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.engines import (
    BuildSettings,
    EngineBuildError,
    EngineMismatchError,
    ModelRefusedError,
    NoDeviceError,
    build_engine,
    form_for,
    open_engine,
    probe,
)
from toolkit.engines.driver import Gpu, driver_problem
from toolkit.engines.sidecar import Sidecar
from toolkit.engines.trt_binding import round_to_codes
from toolkit.engines.trt_run import check_place
from toolkit.errors import EngineError, MissingExtraError

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
RTX = BuildSettings(engine="tensorrt_rtx", wire_step=0.02)
no_gpu = pytest.mark.skipif(driver_problem() is None, reason="there is a GPU here")


def test_an_edge_half_builds_with_int8_codes(tiny_path, tmp_path):
    changes = {"max_batch": 4, "typical_batch": 2, "workspace_mb": 64, "optimization_level": 2}
    settings = RTX.model_copy(update={**changes, "tactics": "no_external"})
    built = build_engine(tiny_path, tmp_path / "edge.plan", settings)
    sidecar = Sidecar.load(built.path)
    assert (sidecar.typing, sidecar.wire_output, sidecar.ignored) == ("strong", "codes", ())
    assert sidecar.inputs[0] == {
        "name": "picture",
        "dtype": "float32",
        "shape": [-1, 3, 16, 16],
        "largest": [4, 3, 16, 16],
    }
    assert sidecar.outputs[0]["dtype"] == "int8"
    assert built.path.stat().st_size == sidecar.engine_bytes > 1000
    assert sidecar.options["optimization_level"] == 2


def test_the_float_form_of_the_wire_builds(tiny_path, tmp_path):
    built = build_engine(tiny_path, tmp_path / "edge.plan", RTX.model_copy(update={"wire_output": "float"}))
    assert built.sidecar.wire_output == "float"
    assert built.sidecar.outputs[0]["dtype"] == "float32"
    without = RTX.model_copy(update={"wire_output": "float", "wire_step": None})
    with pytest.raises(EngineBuildError, match="wire_step"):
        build_engine(tiny_path, tmp_path / "edge.plan", without)


def test_floats_are_rounded_to_the_codes_they_stand_for():
    codes = np.arange(-128, 128, dtype=np.int8)
    step = float(np.float32(0.0371))
    assert np.array_equal(round_to_codes(codes.astype(np.float32) * np.float32(step), step), codes)
    with pytest.raises(EngineError, match="wire_step"):
        round_to_codes(np.zeros(1, np.float32), None)


@no_gpu
def test_running_without_a_gpu_is_refused_in_words(tiny_path, tmp_path):
    built = build_engine(tiny_path, tmp_path / "edge.plan", RTX)
    with pytest.raises(NoDeviceError, match="a GPU is needed to run a TensorRT engine: no NVIDIA driver"):
        open_engine(built.path)


def test_a_truncated_plan_is_refused_before_the_driver_is_asked(tiny_path, tmp_path):
    built = build_engine(tiny_path, tmp_path / "edge.plan", RTX)
    built.path.write_bytes(built.path.read_bytes()[:-100])
    with pytest.raises(EngineMismatchError, match="bytes, not"):
        open_engine(built.path)


@pytest.mark.parametrize(
    ("version", "capability", "sms", "match"),
    [("8.6.1", "8.7", 8, "TensorRT"), ("8.5.2", "9.0", 8, "capability"), ("8.5.2", "8.7", 4, "SMs")],
)
def test_plans_from_elsewhere_are_refused(version, capability, sms, match):
    sidecar = Sidecar(
        engine="tensorrt", version="8.5.2", precision="int8", onnx_sha256="0" * 64, engine_sha256="0" * 64,
        engine_bytes=1, device="Orin", compute_capability="8.7", sm_count=8, machine="", options={}, inputs=(),
        outputs=(), build_s=1.0,
    )  # fmt: skip
    check_place(sidecar, "8.5.2", Gpu(0, "Orin", "8.7", 8, 1, "11.4"))
    with pytest.raises(EngineMismatchError, match=match):
        check_place(sidecar, version, Gpu(0, "Orin", capability, sms, 1, "11.4"))


def graph_of(nodes, inputs, outputs, constants=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value(*entry) for entry in inputs], [value(*entry) for entry in outputs], list(constants)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_what_the_parser_refuses_is_named(tmp_path):
    path = tmp_path / "odd.onnx"
    node = helper.make_node("NoSuchOperator", ["picture"], ["wire"], name="layer9/Odd")
    sides = TensorProto.FLOAT, ["batch", 3, 8, 8]
    path.write_bytes(graph_of([node], [("picture", *sides)], [("wire", *sides)]))
    with pytest.raises(EngineBuildError, match=r"refuses the model: .*layer9/Odd \(NoSuchOperator\)"):
        build_engine(path, tmp_path / "odd.plan", RTX)
    path.write_bytes(b"junk")
    with pytest.raises(EngineBuildError, match="refuses the model"):
        build_engine(path, tmp_path / "odd.plan", RTX)
    assert not list(tmp_path.glob("odd.plan*"))


def test_a_refused_model_is_not_tried_again_in_the_float_form(tmp_path, caplog):
    path = tmp_path / "odd.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(ModelRefusedError):
        build_engine(path, tmp_path / "odd.plan", RTX)
    assert not caplog.records


def test_the_form_follows_from_what_the_library_has():
    assert form_for("tensorrt_rtx") == "b"
    assert form_for("onnxruntime") == "cpu"


def test_a_quantized_bias_is_refused_as_nvidias_parser_does(tmp_path):
    node = helper.make_node
    rng = np.random.default_rng(0)
    constants = [
        helper.make_tensor("w", TensorProto.INT8, [4, 4, 1, 1], rng.integers(-9, 9, 16).tolist()),
        helper.make_tensor("b", TensorProto.INT32, [4], [1, 2, 3, 4]),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("z", TensorProto.INT8, [], [0]),
        helper.make_tensor("zb", TensorProto.INT32, [], [0]),
    ]
    nodes = [
        node("QuantizeLinear", ["picture", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s", "z"], ["dw"]),
        node("DequantizeLinear", ["b", "s", "zb"], ["db"]),
        node("Conv", ["d", "dw", "db"], ["out"], name="conv"),
    ]
    sides = TensorProto.FLOAT, ["batch", 4, 8, 8]
    path = tmp_path / "bias.onnx"
    path.write_bytes(graph_of(nodes, [("picture", *sides)], [("out", *sides)], constants))
    with pytest.raises(EngineBuildError, match=r"DequantizeLinear|INT32|Int32|int32"):
        build_engine(path, tmp_path / "bias.plan", RTX)


def test_dynamic_sizes_are_refused(tiny_onnx, tmp_path):
    model = onnx.load_from_string(tiny_onnx)
    for side in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[side].dim_param = f"side{side}"
    for value in model.graph.output:
        for side in list(value.type.tensor_type.shape.dim)[2:]:
            side.dim_param = "any"
    path = tmp_path / "free.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EngineBuildError, match="only the batch may be dynamic"):
        build_engine(path, tmp_path / "free.plan", RTX)


def test_weak_typing_is_refused_where_it_is_gone(tiny_path, tmp_path):
    with pytest.raises(EngineBuildError, match="only strongly typed networks; use form b"):
        build_engine(tiny_path, tmp_path / "edge.plan", RTX.model_copy(update={"typing": "weak"}))


def test_unknown_settings_are_noted_or_refused(tiny_path, tmp_path):
    some = RTX.model_copy(update={"tactics": ("JIT_CONVOLUTIONS", "CUDNN")})
    assert build_engine(tiny_path, tmp_path / "a.plan", some).sidecar.ignored == ("tactics CUDNN",)
    with pytest.raises(EngineBuildError, match="tactic sources are"):
        build_engine(tiny_path, tmp_path / "b.plan", RTX.model_copy(update={"tactics": ("CUDNN",)}))
    with pytest.raises(EngineBuildError, match="no DLA core 0"):
        build_engine(tiny_path, tmp_path / "b.plan", RTX.model_copy(update={"dla_core": 0}))
    with pytest.raises(ValueError, match="larger than max_batch"):
        BuildSettings(max_batch=1, typical_batch=2)


@pytest.mark.parametrize("engine", ["tensorrt_rtx", "onnxruntime"])
def test_uint8_pictures_and_int8_codes_are_inputs(tmp_path, engine):
    node = helper.make_node
    pictures = [
        node("Cast", ["picture"], ["f"], to=TensorProto.FLOAT),
        node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        node("Relu", ["t"], ["out"]),
    ]
    codes = [node("DequantizeLinear", ["wire", "s", "z"], ["f"]), node("Relu", ["f"], ["out"])]
    scale = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("z", TensorProto.INT8, [], [0]),
    ]
    out = [("out", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    path = tmp_path / "in.onnx"
    settings = BuildSettings(engine=engine)
    path.write_bytes(graph_of(pictures, [("picture", TensorProto.UINT8, ["batch", 8, 8, 3])], out))
    found = build_engine(path, tmp_path / "in.plan", settings).sidecar.inputs[0]
    assert (found["dtype"], found["shape"]) == ("uint8", [-1, 8, 8, 3])
    path.write_bytes(graph_of(codes, [("wire", TensorProto.INT8, ["batch", 3, 8, 8])], out, scale))
    assert build_engine(path, tmp_path / "in.plan", settings).sidecar.inputs[0]["dtype"] == "int8"


@pytest.mark.parametrize(("precision", "match"), [("fp32", "fp16 or int8 alone"), ("int8", "calibration scales")])
def test_what_a_dla_does_not_run_is_refused(precision, match):
    import tensorrt_rtx

    from toolkit.engines.trt_config import _dla

    with_dla = SimpleNamespace(num_DLA_cores=2)
    settings = RTX.model_copy(update={"dla_core": 1, "precision": precision})
    with pytest.raises(EngineBuildError, match=match):
        _dla(tensorrt_rtx, with_dla, None, settings)
    with pytest.raises(EngineBuildError, match="no DLA core 2, there are 2"):
        _dla(tensorrt_rtx, with_dla, None, settings.model_copy(update={"dla_core": 2}))


@no_gpu
def test_what_needs_a_gpu_or_another_library_is_refused_with_the_reason(tiny_path, tmp_path, monkeypatch):
    for weights in ("refittable", "stripped"):
        with pytest.raises(EngineBuildError, match="refittable and stripped plans only where there is a GPU"):
            build_engine(tiny_path, tmp_path / "e.plan", RTX.model_copy(update={"weights": weights}))
    with pytest.raises(EngineBuildError, match="lean runtime"):
        build_engine(tiny_path, tmp_path / "e.plan", RTX.model_copy(update={"portability": "version"}))
    assert build_engine(tiny_path, tmp_path / "e.plan", RTX.model_copy(update={"portability": "hardware"}))
    release = Path("/etc/nv_tegra_release")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self == release or exists(self))
    with pytest.raises(EngineBuildError, match="JetPack does not support version or hardware compatible plans"):
        build_engine(tiny_path, tmp_path / "e.plan", RTX.model_copy(update={"portability": "hardware"}))


def _build(arguments):
    path, out, cache = arguments
    build_engine(path, out, RTX.model_copy(update={"timing_cache": cache}))
    return out.stat().st_size


def test_the_timing_cache_is_shared_under_a_lock(tiny_path, tmp_path):
    cache = tmp_path / "cache" / "timing.bin"
    jobs = [(tiny_path, tmp_path / f"{number}.plan", str(cache)) for number in range(2)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert all(size > 1000 for size in pool.map(_build, jobs))
    assert cache.is_file()
    assert not cache.with_name("timing.bin.part").exists()
    cache.write_bytes(b"damaged")
    assert _build(jobs[0]) > 1000
    assert cache.read_bytes() != b"damaged"


@no_gpu
def test_tensorrt_itself_is_missing_or_asks_for_a_gpu(tiny_path, tmp_path):
    with pytest.raises((MissingExtraError, NoDeviceError), match=r"install it with|a GPU is needed"):
        build_engine(tiny_path, tmp_path / "edge.plan", BuildSettings(engine="tensorrt"))


@no_gpu
def test_probe_says_what_works_here():
    found = {status.engine: status for status in probe()}
    assert found["onnxruntime"].can_run
    assert (found["tensorrt_rtx"].can_build, found["tensorrt_rtx"].can_run) == (True, False)
    assert "no NVIDIA driver" in found["tensorrt_rtx"].note
    assert not found["tensorrt"].can_run


def test_a_library_that_crashes_on_import_is_reported(tmp_path):
    (tmp_path / "tensorrt.py").write_text("import os; os.abort()")
    script = "from toolkit.engines import probe; print([s.note for s in probe() if s.engine == 'tensorrt'][0])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:."},
    )
    assert "installed but not usable" in done.stdout
