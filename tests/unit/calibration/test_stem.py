"""The first layer on blocks of pixels: the same codes, and only where it pays."""

import dataclasses

import numpy as np
import onnx
import pytest

from calibration import CalibrationSettings, quantize
from calibration.cpu_form import form_cpu
from calibration.session import open_session, run_all
from calibration.stem import _side, blocked_stem
from tests.unit.calibration.networks import Net, batch

FAST = CalibrationSettings(threads=1, method="mse", weight_method="mse", forms=("cpu",))


def network(kernel, stride=2, pool=True):
    net = Net(3)
    x = net.relu(net.conv(net.normalize(), "stem", 32, kernel, stride), "stem.out")
    if pool:
        x = net.add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    size = 32 // stride // (2 if pool else 1)
    return net.finish(net.relu(net.conv(x, "last", 32), "last.out"), size, 8, 0.05)


def without_blocks(result, monkeypatch):
    monkeypatch.setattr("calibration.cpu_form.blocked_stem", lambda prepared, plan: None)
    return form_cpu(result.prepared, result.plan, result.scales)


@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("pool", [True, False])
def test_codes_are_unchanged_to_the_last(kernel, pool, monkeypatch):
    result = quantize(network(kernel, pool=pool), [batch(8)], FAST)
    assert blocked_stem(result.prepared, result.plan) is not None
    kinds = [node.op_type for node in result.forms["cpu"].graph.node]
    assert kinds.count("SpaceToDepth") == 1
    pictures = batch(8, seed=4)
    codes = run_all(open_session(result.forms["cpu"], 1), pictures, 8)
    plain = without_blocks(result, monkeypatch)
    assert "SpaceToDepth" not in [node.op_type for node in plain.graph.node]
    np.testing.assert_array_equal(codes, run_all(open_session(plain, 1), pictures, 8))
    assert codes.any()


def test_it_runs_on_integers(tmp_path):
    import onnxruntime

    result = quantize(network(7), [batch(8)], FAST)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    data = result.forms["cpu"].SerializeToString()
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert "Conv" not in kinds


def test_codes_in_front_of_a_maximum_pool_are_bounded_behind_it():
    """The pool has a quarter of the codes, and a maximum of bounded codes is the bounded maximum."""
    cpu = quantize(network(7), [batch(8)], FAST).forms["cpu"]
    clips = [node.input[0] for node in cpu.graph.node if node.op_type == "Clip"]
    assert "pool.codes" in clips
    assert "stem.out.codes" not in clips


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (7, 1)])
def test_where_it_would_not_pay_the_layer_stays(kernel, stride):
    result = quantize(network(kernel, stride, pool=False), [batch(4)], FAST)
    assert blocked_stem(result.prepared, result.plan) is None
    assert "SpaceToDepth" not in [node.op_type for node in result.forms["cpu"].graph.node]


def test_a_picture_that_others_read_too_stays():
    result = quantize(network(7), [batch(4)], FAST)
    [stem, *_] = result.plan.int8_layers
    points = tuple(
        dataclasses.replace(point, uses=(*point.uses, ("other", 0))) if point.tensor == stem.input else point
        for point in result.plan.points
    )
    assert blocked_stem(result.prepared, dataclasses.replace(result.plan, points=points)) is None


@pytest.mark.parametrize("kernel", [5, 6, 7, 11])
@pytest.mark.parametrize("pads", [(3, 3), (2, 2), (0, 0), (3, 2), (2, 3), (5, 1)])
def test_one_side_by_brute_force(kernel, pads):
    """Positions that a row of blocks reads are those that the kernel reads, on every output."""
    size = 24
    found = _side(size, kernel, *pads)
    if found is None:
        return
    shift, blocks, begin, end = found
    out = (size + sum(pads) - kernel) // 2 + 1
    assert size // 2 + begin + end - blocks + 1 == out
    for index in range(out):
        wanted = [2 * index + tap - pads[0] for tap in range(kernel)]
        start = 2 * (index - begin)
        assert [start + shift + tap for tap in range(kernel)] == wanted
        assert shift + kernel <= 2 * blocks


@pytest.mark.parametrize(("size", "kernel"), [(None, 7), (25, 7), (24, 3)])
def test_sides_that_do_not_fit(size, kernel):
    assert _side(size, kernel, 3, 3) is None


def test_the_usual_stem_is_always_blocked():
    assert _side(128, 7, 3, 3) == (1, 4, 2, 1)
