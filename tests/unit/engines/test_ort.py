import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.engines import (
    BuildSettings,
    EngineBuildError,
    EngineInputError,
    EngineMismatchError,
    RunSettings,
    Sidecar,
    build_engine,
    inspect_onnx,
    open_engine,
)
from toolkit.errors import EngineError


@pytest.fixture
def built(tiny_path, tmp_path):
    return build_engine(tiny_path, tmp_path / "edge.engine", BuildSettings())


def test_build_writes_an_engine_and_its_sidecar(built, tiny_path):
    assert built.path.read_bytes() == tiny_path.read_bytes()
    sidecar = Sidecar.load(built.path)
    assert sidecar == built.sidecar
    assert (sidecar.engine, sidecar.wire_output) == ("onnxruntime", "codes")
    assert sidecar.engine_bytes == built.path.stat().st_size
    assert sidecar.inputs[0] == {"name": "picture", "dtype": "float32", "shape": [-1, 3, 16, 16]}
    assert not list(built.path.parent.glob("*.part"))


def test_run_and_bind_give_the_same_codes(built, pictures):
    engine = open_engine(built.path)
    codes = engine.run({"picture": pictures})["wire"]
    assert (codes.dtype, codes.shape) == (np.int8, (4, 8, 8, 8))
    assert 0 <= codes.min() < codes.max() <= 127
    binding = engine.bind({"picture": pictures})
    for _ in range(3):
        binding.run()
    assert np.array_equal(binding.outputs()["wire"], codes)
    one_by_one = np.concatenate([engine.run({"picture": pictures[i : i + 1]})["wire"] for i in range(4)])
    assert np.array_equal(one_by_one, codes)


def test_two_engines_and_two_opens_agree(built, pictures):
    first, second = open_engine(built.path), open_engine(built.path, RunSettings(arena="off", threads=2))
    assert np.array_equal(first.run({"picture": pictures})["wire"], second.run({"picture": pictures})["wire"])


def test_describe_says_what_runs(built):
    found = open_engine(built.path, RunSettings(threads=2)).describe()
    assert {key: found[key] for key in ("engine", "device", "threads", "precision")} == {
        "engine": "onnxruntime",
        "device": "CPU",
        "threads": 2,
        "precision": "fp32",
    }
    assert found["onnx_sha256"] == built.sidecar.onnx_sha256


def test_wrong_inputs_are_named(built, pictures):
    engine = open_engine(built.path)
    nan = pictures.copy()
    nan[1, 2, 3, 4] = np.nan
    for inputs, match in (
        ({}, "takes"),
        ({"image": pictures}, "takes"),
        ({"picture": pictures.astype(np.float64)}, "must be float32, not float64"),
        ({"picture": pictures[:, :, :8]}, "must have shape"),
        ({"picture": pictures[0]}, "must have shape"),
        ({"picture": pictures[:0]}, "must have shape"),
        ({"picture": pictures[:, :, :, ::-1]}, "not contiguous"),
        ({"picture": nan}, "holds NaN"),
        ({"picture": pictures.tolist()}, "numpy array"),
    ):
        with pytest.raises(EngineInputError, match=match):
            engine.run(inputs)


def test_infinities_of_both_signs_are_not_nan(built, pictures):
    values = pictures.copy()
    values[0, 0, 0, :2] = np.inf, -np.inf
    assert open_engine(built.path).run({"picture": values})["wire"].shape == (4, 8, 8, 8)


def test_a_closed_engine_does_not_run(built, pictures):
    engine = open_engine(built.path)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"picture": pictures})


def test_changed_truncated_and_foreign_engines_are_refused(built):
    data = built.path.read_bytes()
    for changed, match in (
        (data[:-1], "bytes, not"),
        (data[:-1] + bytes([data[-1] ^ 1]), "changed after it was built"),
    ):
        built.path.write_bytes(changed)
        with pytest.raises(EngineMismatchError, match=match):
            open_engine(built.path)
    built.path.write_bytes(data)
    with pytest.raises(EngineMismatchError, match="built from model"):
        open_engine(built.path, RunSettings(onnx_sha256="0" * 64))
    sidecar = built.path.with_name(built.path.name + ".json")
    text = sidecar.read_text()
    sidecar.write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(EngineMismatchError, match="not an engine's sidecar"):
        open_engine(built.path)
    sidecar.unlink()
    with pytest.raises(EngineMismatchError, match="no sidecar"):
        open_engine(built.path)


def test_broken_models_are_refused_and_leave_nothing(tmp_path):
    for name, data, match in (("broken.onnx", b"junk", "refuses"), ("none.onnx", None, "cannot read")):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(EngineBuildError, match=match):
            build_engine(tmp_path / name, tmp_path / "out.engine", BuildSettings())
    assert not list(tmp_path.glob("out*"))


def quantized(relu_between: bool) -> bytes:
    """Q/DQ around a convolution: with the pair also before ReLU, ONNX Runtime runs it on integers."""
    rng = np.random.default_rng(0)
    weights = helper.make_tensor("w", TensorProto.INT8, [8, 8, 3, 3], rng.integers(-9, 9, 576).tolist())
    scales = [helper.make_tensor(name, TensorProto.FLOAT, [], [0.05]) for name in ("s", "t")]
    zero = helper.make_tensor("z", TensorProto.INT8, [], [0])
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["picture", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "t", "z"], ["dw"]),
        node("Conv", ["d", "dw"], ["c"], pads=[1, 1, 1, 1]),
    ]
    last = "c"
    if relu_between:
        nodes.append(node("QuantizeLinear", ["c", "s", "z"], ["cq"]))
        nodes.append(node("DequantizeLinear", ["cq", "s", "z"], ["cd"]))
        last = "cd"
    nodes += [node("Relu", [last], ["r"]), node("QuantizeLinear", ["r", "s", "z"], ["wire"])]
    shape = ["batch", 8, 8, 8]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("wire", TensorProto.INT8, shape)],
        [weights, *scales, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_inspection_tells_integer_kernels_from_float_ones(tiny_onnx):
    integer = inspect_onnx(quantized(relu_between=True))
    assert (integer.integer_convolutions, integer.float_convolutions) == (1, 0)
    assert integer.runs_as_integers
    plain = inspect_onnx(tiny_onnx)
    assert (plain.integer_convolutions, plain.float_convolutions) == (0, 2)
    assert not plain.runs_as_integers
    assert not inspect_onnx(quantized(relu_between=False)).runs_as_integers


def test_opening_and_freeing_engines_keeps_memory_flat(built, pictures):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    sizes = []
    for number in range(100):
        engine = open_engine(built.path)
        engine.run({"picture": pictures})
        engine.close()
        if number in (30, 99):
            sizes.append(resident())
    assert sizes[1] - sizes[0] < 4 << 20


def test_the_arena_limit_holds(built):
    script = f"""
import numpy as np
from pathlib import Path
from toolkit.engines import RunSettings, open_engine
from toolkit.errors import EngineError
path = Path({str(built.path)!r})
engine = open_engine(path, RunSettings(arena_limit_mb=2))
engine.run({{"picture": np.zeros((1, 3, 16, 16), np.float32)}})
for attempt in (
    lambda: engine.run({{"picture": np.zeros((2000, 3, 16, 16), np.float32)}}),
    lambda: open_engine(path, RunSettings(arena_limit_mb=3)),
):
    try:
        attempt()
    except EngineError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "arena_limit_mb" in first
    assert "limits ONNX Runtime's arena to 2 MB already" in second


def test_importing_engines_needs_no_heavy_library():
    script = "import sys, toolkit.engines, toolkit.wire, toolkit.profiling; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stdout))
    assert not loaded & {"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "cuda"}
