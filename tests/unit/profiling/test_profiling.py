import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.engines import (
    BuildSettings,
    EngineBuildError,
    EngineInputError,
    EngineMismatchError,
    build_engine,
    open_engine,
)
from toolkit.profiling import ProfileSettings, artifact_bytes, compare, layer_profile, measure_memory, profile
from toolkit.profiling.statistics import ProfilingError

QUICK = ProfileSettings(warmup_s=0.02, warmup_limit_s=0.5, duration_s=0.3, rounds=30, bootstrap=200)


def network(depth: int, channels: int = 16) -> bytes:
    """``depth`` convolutions with ReLU, named like modules."""
    rng = np.random.default_rng(0)
    nodes, constants, last, width = [], [], "picture", 3
    for index in range(depth):
        weight = rng.normal(0, 0.1, (channels, width, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{index}"))
        name, pads = f"net.{index}", [1, 1, 1, 1]
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], f"{name}.conv/Conv", pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"{name}.relu/Relu:0"], f"{name}.relu/Relu"))
        last, width = f"net.{index}.relu/Relu:0", channels
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("picture", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [value(last, TensorProto.FLOAT, ["batch", channels, 32, 32])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def built(tmp_path):
    paths = {}
    for name, depth in (("shallow", 2), ("deep", 8)):
        source = tmp_path / f"{name}.onnx"
        source.write_bytes(network(depth))
        paths[name] = build_engine(source, tmp_path / f"{name}.engine", BuildSettings()).path
    return paths


@pytest.fixture
def inputs():
    return {"picture": np.ones((2, 3, 32, 32), np.float32)}


def test_variants_are_measured_side_by_side(built, inputs):
    engines = {name: open_engine(path) for name, path in built.items()}
    found = profile(engines, inputs, QUICK)
    assert set(found) == {"shallow", "deep"}
    for one in found.values():
        assert one.rounds_ms.shape == found["deep"].rounds_ms.shape
        assert len(one.rounds_ms) >= QUICK.min_rounds
        assert 0 < one.p50 <= one.p90 <= one.p95 <= one.p99 <= one.max
        assert (one.device, one.batch) == ("CPU", 2)
        assert "CPU, 1 threads, batch 2, without transfers" in one.protocol
    assert compare(found["deep"], found["shallow"]).verdict == "slower"


def test_the_median_is_that_of_a_bare_loop(built, inputs):
    engine = open_engine(built["deep"])
    binding = engine.bind(inputs)

    class Bare:
        """The same session in a loop of its own, in the same interleaved run."""

        def bind(self, inputs):
            return binding

        def describe(self):
            return engine.describe()

    found = profile({"ours": engine, "bare": Bare()}, inputs, QUICK)
    assert compare(found["ours"], found["bare"]).value == pytest.approx(1, abs=0.1)


def test_no_sample_is_dropped(inputs):
    class Slow:
        """Every third run takes ten times as long."""

        calls = 0

        def bind(self, inputs):
            return self

        def run(self):
            self.calls += 1
            time.sleep(0.003 if self.calls % 3 == 0 else 0.0003)

        def describe(self):
            return {"device": "CPU", "machine": "m"}

    settings = QUICK.model_copy(update={"burst": 3, "rounds": 10, "warmup_limit_s": 0.05})
    found = profile({"slow": Slow()}, inputs, settings)["slow"]
    assert found.rounds_ms.shape == (10, 3)
    assert found.max >= 3
    assert (found.samples_ms >= 3).sum() >= 6


def test_an_unsteady_engine_is_marked(inputs):
    class Growing:
        pause = 1e-4

        def bind(self, inputs):
            return self

        def run(self):
            self.pause *= 1.03
            time.sleep(min(self.pause, 0.004))

        def describe(self):
            return {"device": "CPU", "machine": "m"}

    settings = ProfileSettings(
        warmup_s=0, warmup_limit_s=0.03, rounds=1, min_rounds=1, burst=1, steady_within=0.001
    )
    found = profile({"g": Growing()}, inputs, settings)["g"]
    assert not found.settled
    assert found.protocol.endswith("not steady")


def test_whole_calls_can_be_timed_and_inputs_given_by_key(built, inputs):
    engines = {name: open_engine(path) for name, path in built.items()}
    settings = QUICK.model_copy(update={"path": "run", "rounds": 10})
    found = profile(engines, dict.fromkeys(engines, inputs), settings)
    assert "with checks and transfers" in found["deep"].protocol
    with pytest.raises(ProfilingError, match="no inputs for deep"):
        profile(engines, {"shallow": inputs}, settings)
    with pytest.raises(ProfilingError, match="no engine"):
        profile({}, inputs)
    with pytest.raises(EngineInputError):
        profile(engines, {"picture": np.zeros((1, 3, 8, 8), np.float32)})


def test_layers_carry_the_names_of_their_modules(inputs):
    found = layer_profile(network(3), inputs, runs=5)
    convolutions = [layer.module for layer in found if "Conv" in layer.operator]
    assert convolutions == ["net.0.conv", "net.1.conv", "net.2.conv"]
    assert sum(layer.share for layer in found) == pytest.approx(1)
    assert all(layer.median_ms >= 0 for layer in found)
    with pytest.raises(EngineBuildError):
        layer_profile(b"junk", inputs)


def test_memory_grows_with_the_batch_and_is_above_the_baseline(built):
    small, large = (measure_memory(built["deep"], batch=batch) for batch in (1, 256))
    assert small.baseline_bytes > 10 << 20
    assert 0 < small.peak_bytes < large.peak_bytes
    # 256 pictures hold at least an input and an output of 16 x 32 x 32 floats.
    assert large.peak_bytes - small.peak_bytes > 255 * 16 * 32 * 32 * 4
    assert small.device_bytes is None


def test_memory_of_a_broken_engine_is_an_error(built):
    built["deep"].write_bytes(b"junk")
    with pytest.raises(ProfilingError, match="bytes, not"):
        measure_memory(built["deep"])
    with pytest.raises(EngineMismatchError, match="no sidecar"):
        measure_memory(built["deep"].with_name("none"))


def test_sizes(built):
    assert artifact_bytes([built["deep"]]) == {"deep.engine": built["deep"].stat().st_size}
    with pytest.raises(ProfilingError, match="cannot read"):
        artifact_bytes([built["deep"].with_name("none")])
