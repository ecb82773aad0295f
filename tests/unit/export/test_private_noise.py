"""Private noise in the graph: every form takes it, zeros change no code, and it is as strong as was asked for."""

import functools
import json
import math

import numpy as np
import onnx
import pytest

from calibration import CalibrationSettings, acceptance, lint, quantize
from calibration.session import open_session
from tests.unit.calibration.networks import batch, inverted, residual
from toolkit.engines.layers import parse_information
from toolkit.engines.settings import BuildSettings
from toolkit.engines.trt_build import build_plan
from toolkit.errors import ModelError
from toolkit.export.private_noise import attach_private_noise
from toolkit.planning.layers import fuse
from toolkit.wire import WireFormat, decode, encode, standard_normal

FORMS = ("a", "b", "cpu", "fp16")
SIGMA = 1.5
NETWORKS = {
    "eight bits": lambda: residual(width=8),
    "four bits": lambda: residual(bits=4, step=0.25, width=8),
    "a step that is no FP16 number": lambda: residual(step=0.0611, width=8),
    "signed": inverted,
}


@functools.cache
def forms(name):
    """The float half and its quantized forms."""
    model = NETWORKS[name]()
    settings = CalibrationSettings(method="minmax", weight_method="minmax", threads=1, forms=FORMS)
    return {"float": model, **quantize(model, [batch(4)], settings).forms}


def format_of(name):
    values = {item.name: onnx.numpy_helper.to_array(item) for item in forms(name)["float"].graph.initializer}
    channels, height, width = (
        side.dim_value for side in forms(name)["float"].graph.output[0].type.tensor_type.shape.dim[1:]
    )
    bits = 4 if name == "four bits" else 8
    return WireFormat(channels, height, width, bits, float(values["wire.step"]), name == "signed")


def run(model, **inputs):
    return open_session(model, 1, integer_kernels=False).run(["wire"], inputs)[0]


@pytest.mark.parametrize("form", ["float", *FORMS])
@pytest.mark.parametrize("name", NETWORKS)
def test_zeros_change_no_code_and_noise_is_added_to_the_engines_own_codes(name, form):
    plain, fmt = forms(name)[form], format_of(name)
    noisy = attach_private_noise(plain, fmt, SIGMA)
    onnx.checker.check_model(noisy, full_check=True)
    pictures = batch(3)
    noise = standard_normal((3, *fmt.shape), np.random.default_rng(0))
    codes = run(plain, picture=pictures)
    assert np.array_equal(run(noisy, picture=pictures, noise=np.zeros_like(noise)), codes)
    sent = run(noisy, picture=pictures, noise=noise)
    sigma = np.float32(SIGMA) * np.float32(fmt.step)
    assert np.array_equal(sent, encode(decode(codes, fmt) + noise * sigma, fmt))
    assert sent.min() >= fmt.low and sent.max() <= fmt.high
    assert (sent != codes).mean() > 0.3
    assert "noise" not in [value.name for value in plain.graph.input], "the model that was given is not changed"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_judge_accepts_every_form(name):
    pytest.importorskip("tensorrt_rtx")
    noisy = {form: attach_private_noise(forms(name)[form], format_of(name), SIGMA) for form in FORMS}
    rows = acceptance(noisy)
    assert {(row.form, row.judge): row.detail for row in rows if row.verdict == "refused"} == {}
    judged = {row.judge for row in rows if row.form == "a" and row.verdict == "accepted"}
    assert judged == {"onnx checker", "onnxruntime", "tensorrt-rtx", "tensorrt 8 rules"}
    assert [row.verdict for row in rows if row.form == "b" and row.judge == "tensorrt-rtx"] == ["accepted"]


@pytest.mark.parametrize("form", ["a", "b"])
def test_the_lint_finds_the_one_more_kernel_and_nothing_else(form):
    plain, fmt = forms("eight bits")[form], format_of("eight bits")
    before = {(item.rule, item.node) for item in lint(plain, form)}
    after = {(item.rule, item.node) for item in lint(attach_private_noise(plain, fmt, SIGMA), form)}
    assert after - before == {("unfused-add", "noise/Add")}
    assert before - after == set()


def test_lint_looks_at_every_input():
    noisy = attach_private_noise(forms("eight bits")["a"], format_of("eight bits"), SIGMA)
    noisy.graph.input[1].type.tensor_type.shape.dim[2].dim_param = "height"
    found = [item for item in lint(noisy, "tensorrt8") if item.rule == "fixed-shape"]
    assert [item.node for item in found] == ["noise"]


def test_the_addition_is_written_in_fp32_without_casts():
    fmt = format_of("eight bits")
    noisy = attach_private_noise(forms("eight bits")["b"], fmt, SIGMA)
    added = noisy.graph.node[len(forms("eight bits")["b"].graph.node) :]
    assert [node.op_type for node in added] == ["DequantizeLinear", "Mul", "Add", "Clip", "QuantizeLinear"]
    values = {item.name: onnx.numpy_helper.to_array(item) for item in noisy.graph.initializer}
    assert {values[f"noise.{name}"].dtype for name in ("step", "sigma", "low", "high")} == {np.dtype(np.float32)}
    assert values["noise.sigma"] == np.float32(SIGMA * fmt.step)


def test_noisy_codes_have_the_deviation_that_was_asked_for():
    fmt = format_of("signed")
    noisy = attach_private_noise(forms("signed")["cpu"], fmt, 2.0)
    picture = batch(1)
    noise = standard_normal((400, *fmt.shape), np.random.default_rng(1))
    codes = run(forms("signed")["cpu"], picture=picture).astype(int)
    sent = run(noisy, picture=np.repeat(picture, 400, 0), noise=noise).astype(int)
    inside = (codes > fmt.low + 10) & (codes < fmt.high - 10)
    added = (sent - codes)[:, inside[0]]
    assert abs(added.mean()) < 0.01
    # rounding to whole steps adds the variance of a uniform number of width 1
    assert added.std() == pytest.approx(math.sqrt(4 + 1 / 12), rel=0.01)


def test_refusals():
    model, fmt = forms("eight bits")["float"], format_of("eight bits")
    for sigma in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="positive standard deviation"):
            attach_private_noise(model, fmt, sigma)
    with pytest.raises(ModelError, match="already"):
        attach_private_noise(attach_private_noise(model, fmt, 1), fmt, 1)
    with pytest.raises(ModelError, match="the wire carries"):
        attach_private_noise(model, WireFormat(fmt.channels, 5, 5, 8, fmt.step, False), 1)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.graph.output[0].name = "codes"
    with pytest.raises(ModelError, match="INT8 output wire, not codes"):
        attach_private_noise(other, fmt, 1)


def test_tensorrt_runs_as_many_kernels_as_without_noise():
    pytest.importorskip("tensorrt_rtx")
    plain, fmt = forms("eight bits")["b"], format_of("eight bits")
    settings = BuildSettings(engine="tensorrt_rtx", precision="int8", wire_step=fmt.step)
    graphs = []
    for model in (plain, attach_private_noise(plain, fmt, SIGMA)):
        plan = build_plan(model.SerializeToString(), settings)
        assert plan.wire_output == "codes"
        graphs.append(parse_information(json.dumps(plan.layers)))
    before, after = graphs
    assert after.inputs == ("picture", "noise")
    assert len(after.layers) == len(before.layers)
    assert [layer.outputs[0].name for layer in after.layers if "noise" in {t.name for t in layer.inputs}] == [
        "wire"
    ]


def test_the_predictor_reads_the_second_input():
    plain, fmt = forms("eight bits")["float"], format_of("eight bits")
    before, after = fuse(plain, "plain"), fuse(attach_private_noise(plain, fmt, SIGMA), "noisy")
    assert len(after.layers) - len(before.layers) in (0, 1)
    assert sum(layer.macs for layer in after.layers) == sum(layer.macs for layer in before.layers)
