"""Networks and pictures that calibration must refuse by name, or handle and report."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import numpy_helper

from calibration import CalibrationSettings, acceptance, quantize, refusals
from calibration.errors import ActivationError, HalfRangeError, PictureError
from tests.unit.calibration.networks import Net, batch, replace_constant, residual

FAST = CalibrationSettings(method="mse", weight_method="minmax", threads=1)


def test_nan_weights_are_named_by_tensor_and_picture():
    model = replace_constant(residual(), "block1.a.bias", np.full(32, np.nan, np.float32))
    with pytest.raises(ActivationError, match=r"block1\.(a|mid|b).*NaN"):
        quantize(model, [batch(4)], FAST)


def test_infinite_activations_are_named():
    net = Net()
    x = net.conv("picture", "stem", 16)
    zero = net.const("none", np.float32(0))
    x = net.relu(net.conv(net.add("Div", [net.relu(x, "r"), zero], "divided"), "next", 16), "out")
    with pytest.raises(ActivationError, match="divided"):
        quantize(net.finish(x, 32), [batch(4)], FAST)


@pytest.mark.parametrize(
    "batches",
    [
        [],
        [batch(2)[:, :, :16]],
        [batch(2).astype(np.float64)],
        [np.full((1, 3, 32, 32), np.nan, np.float32)],
        ["x"],
    ],
)
def test_wrong_batches_are_named(batches):
    with pytest.raises(PictureError):
        quantize(residual(), batches, FAST)


def test_an_all_zero_channel_is_handled_and_reported(caplog):
    weight = np.random.default_rng(0).normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32)
    weight[[3, 7]] = 0
    caplog.set_level("INFO")
    result = quantize(replace_constant(residual(), "block1.a.weight", weight), [batch(8)], FAST)
    [decision] = [d for d in result.decisions if d.tensor == "block1.a/Conv"]
    assert "2 of 32 channels are all zero" in decision.note
    assert "all zero" in caplog.text
    assert not refusals(acceptance({"a": result.forms["a"], "cpu": result.forms["cpu"]}))


def test_a_nearly_dead_channel_keeps_its_bias_in_the_cpu_form():
    weight = np.random.default_rng(0).normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32)
    weight[3] *= 1e-9
    bias = np.full(32, 0.1, np.float32)
    bias[3] = 3e4
    model = replace_constant(replace_constant(residual(), "block1.a.weight", weight), "block1.a.bias", bias)
    result = quantize(model, [batch(8)], replace(FAST, bias_correction=False))
    constants = {item.name: numpy_helper.to_array(item) for item in result.forms["cpu"].graph.initializer}
    codes, scale = constants["block1.a/Conv.bias.codes"], constants["block1.a/Conv.bias.scale"]
    np.testing.assert_allclose(codes * scale.astype(np.float64), bias, rtol=1e-2, atol=0.01)


def test_a_dead_tensor_is_handled_and_reported(caplog):
    model = replace_constant(residual(), "block1.a.bias", np.full(32, -1e3, np.float32))
    result = quantize(model, [batch(8)], FAST)
    [decision] = [d for d in result.decisions if d.tensor == "block1.mid"]
    assert decision.method == "constant"
    assert "dead" in decision.note
    assert "dead" in caplog.text
    assert result.fidelity["a"].sqnr_db > 20


def test_a_constant_tensor_is_handled_and_reported(caplog):
    model = replace_constant(residual(), "block1.a.weight", np.zeros((32, 32, 3, 3), np.float32))
    result = quantize(replace_constant(model, "block1.a.bias", np.full(32, 0.5, np.float32)), [batch(8)], FAST)
    [decision] = [d for d in result.decisions if d.tensor == "block1.mid"]
    assert decision.note == "is 0.5 everywhere"
    assert "is 0.5 everywhere" in caplog.text
    assert decision.threshold == pytest.approx(0.5, rel=0.02)
    assert result.fidelity["a"].sqnr_db > 20
    assert not refusals(acceptance({"a": result.forms["a"], "cpu": result.forms["cpu"]}))


def test_values_beyond_fp16_are_named_and_form_a_can_still_be_had():
    model = replace_constant(residual(), "block1.a.bias", np.full(32, 1e5, np.float32))
    with pytest.raises(HalfRangeError, match=r"block\d\.\w+ reaches"):
        quantize(model, [batch(4)], FAST)
    settings = CalibrationSettings("mse", "minmax", forms=("a", "cpu"), threads=1)
    assert set(quantize(model, [batch(4)], settings).forms) == {"a", "cpu"}
