"""From FP32 half and pictures to the forms: what they contain, how they agree, that nothing depends on chance."""

import functools
from collections import Counter

import numpy as np
import onnx
import pydantic
import pytest
from onnx import numpy_helper

from calibration import CalibrationSettings, acceptance, coverage, lint, quantize, refusals
from calibration.cache import format_cache
from calibration.scales import half_scale
from calibration.session import open_session, run_all
from tests.unit.calibration.networks import (
    batch,
    branching,
    dense_layers,
    instance,
    inverted,
    pooled_wire,
    residual,
    transposed,
)

NETWORKS = {
    "residual": residual,
    "inverted": inverted,
    "branching": branching,
    "pooled_wire": pooled_wire,
    "instance": instance,
    "transposed": transposed,
    "dense_layers": dense_layers,
}
FAST = CalibrationSettings(method="mse", weight_method="minmax", threads=1)


@functools.cache
def quantized(name: str):
    return quantize(NETWORKS[name](), [batch(16)], CalibrationSettings(threads=1))


def operators(model: onnx.ModelProto) -> Counter:
    return Counter(node.op_type for node in model.graph.node)


def constants(model: onnx.ModelProto) -> dict:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def float_weights(model):
    """Names of the FP32 weights that form A quantizes."""
    values = constants(model)
    return [
        node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in values
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_is_accepted(name):
    pytest.importorskip("tensorrt_rtx")
    rows = acceptance(quantized(name).forms)
    assert not refusals(rows), refusals(rows)
    judged = {(row.form, row.judge) for row in rows if row.verdict == "accepted"}
    for form in ("a", "b", "fp16"):
        assert {(form, "onnx checker"), (form, "onnxruntime"), (form, "tensorrt-rtx")} <= judged
    assert ("a", "tensorrt 8 rules") in judged
    assert ("cpu", "onnxruntime") in judged


@pytest.mark.parametrize("name", NETWORKS)
def test_forms_stay_near_the_float_network(name):
    result = quantized(name)
    for form in ("a", "b", "cpu"):
        assert result.fidelity[form].sqnr_db > 28
        assert result.fidelity[form].cosine > 0.999
    assert result.fidelity["fp16"].sqnr_db > result.fidelity["fp16"].fp32_sqnr_db - 0.5
    assert result.agreement["fp16/fp32"].within_one > 0.999


@pytest.mark.parametrize("name", ["branching", "pooled_wire"])
def test_without_additions_the_cpu_form_differs_by_rounding_alone(name):
    agreement = quantized(name).agreement["a/cpu"]
    assert agreement.equal > 0.97
    assert agreement.within_one > 0.9999


@pytest.mark.parametrize("name", NETWORKS)
def test_forms_agree_with_each_other_more_than_with_the_float_network(name):
    agreement = quantized(name).agreement
    for pair in ("a/b", "a/cpu"):
        assert agreement[pair].within_one >= agreement["a/fp32"].within_one - 0.04
        assert agreement[pair].largest <= 12


@pytest.mark.parametrize("name", ["residual", "inverted", "branching", "pooled_wire"])
def test_onnxruntime_runs_the_cpu_form_on_integers(name, tmp_path):
    import onnxruntime

    result = quantized(name)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        result.forms["cpu"].SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    seen = operators(onnx.load(tmp_path / "optimized.onnx"))
    assert seen["QLinearConv"] == len(result.plan.int8_layers)
    assert seen["QLinearAdd"] == len(result.plan.joins)
    assert seen["QLinearConcat"] == operators(result.prepared.model)["Concat"]
    assert not {"Conv", "FusedConv", "Add", "Relu", "Concat", "MaxPool"} & (set(seen) - {"MaxPool"})


def test_form_a_is_tensorrt_8s():
    model = quantized("residual").forms["a"]
    assert model.opset_import[0].version == 17
    assert model.ir_version == 8
    assert not lint(model, "tensorrt8")
    assert not [f for f in lint(model, "efficiency") if f.severity == "error" or f.rule != "misaligned-channels"]
    values = constants(model)
    assert {values[name].dtype for name in float_weights(model)} == {np.dtype(np.float32)}
    assert values["stem/Conv.weight.scale"].shape == (32,)
    assert all(
        value.dtype == np.int8 and not value.any() for name, value in values.items() if "zero_point" in name
    )


def test_nothing_stands_between_convolution_and_relu():
    model = quantized("residual").forms["a"]
    readers = {node.input[0]: node.op_type for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert readers[node.output[0]] in ("Relu", "Add", "QuantizeLinear")
            assert node.input[2] not in {other.output[0] for other in model.graph.node}


def test_a_transposed_convolution_has_its_channels_on_axis_1():
    result = quantized("transposed")
    assert result.prepared.folded == 1
    assert result.scales.weights["up/ConvTranspose"].shape == (48,)
    axes = {
        node.name: node.attribute[0].i
        for node in result.forms["a"].graph.node
        if node.op_type == "DequantizeLinear" and node.attribute
    }
    assert axes == {
        "stem/Conv.weight.dequantize": 0,
        "up/ConvTranspose.weight.dequantize": 1,
        "last/Conv.weight.dequantize": 0,
    }


def test_dense_layers_have_their_channels_where_the_operator_says():
    layers = {layer.operator: layer for layer in quantized("dense_layers").plan.layers}
    assert (layers["Gemm"].axis, layers["MatMul"].axis) == (0, 1)
    scales = quantized("dense_layers").scales.weights
    assert scales["gemm/Gemm"].shape == (48,)
    assert scales["product/MatMul"].shape == (24,)


def test_form_b_is_strongly_typed():
    model = quantized("residual").forms["b"]
    assert model.opset_import[0].version == 19
    assert model.ir_version == 9
    assert not lint(model, "strongly_typed")
    full = {name for name, value in constants(model).items() if value.dtype == np.float32}
    assert full == {"mean.full", "std.full", "normalized.scale.full"}
    assert {value.dtype for value in constants(model).values()} == {np.dtype(t) for t in ("f4", "f2", "i1")}


def test_all_forms_hold_the_same_scales_and_codes():
    forms = quantized("residual").forms
    a, b, cpu = (constants(forms[name]) for name in ("a", "b", "cpu"))
    for tensor in ("normalized", "stem.out", "block1.mid", "block2.down"):
        name = f"{tensor}.scale"
        assert a[name] == b[name] == cpu[name]
    for name in float_weights(forms["a"]):
        [quantizer] = [node for node in forms["a"].graph.node if name in node.input]
        scale = a[quantizer.input[1]].reshape(-1, 1, 1, 1)
        codes = np.clip(np.rint(a[name] / scale), -128, 127)  # as QuantizeLinear saturates
        np.testing.assert_array_equal(b[quantizer.output[0]], codes)
        np.testing.assert_array_equal(cpu[quantizer.output[0]], codes)


@pytest.mark.parametrize("step", [0.0625, 0.0712345])
def test_the_wires_step_is_never_changed(step):
    result = quantize(residual(step=step), [batch(8)], FAST)
    for name, model in result.forms.items():
        last = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][-1]
        value = constants(model)[last.input[1]]
        assert float(value) == float(np.float32(step)), name
        assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
        codes = run_all(open_session(model, 1), batch(2, 5), 2)
        assert codes.dtype == np.int8
        assert codes.min() >= 0
    casts = [node for node in result.forms["b"].graph.node if node.op_type == "Cast"]
    assert len(casts) == (0 if step == 0.0625 else 1)


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_codes_stay_within_the_wires_bits(bits):
    result = quantize(residual(bits=bits, step=4.0 / 2**bits), [batch(8)], FAST)
    high = 127 if bits == 8 else 2**bits - 1
    for model in result.forms.values():
        codes = run_all(open_session(model, 1), batch(4, 1), 4)
        assert codes.min() >= 0
        assert codes.max() == high


def test_a_clip_that_does_nothing_is_dropped_and_one_that_works_is_kept():
    assert not operators(quantized("residual").forms["a"])["Clip"]
    narrow = quantize(residual(bits=4, step=0.25), [batch(8)], FAST).forms["a"]
    assert operators(narrow)["Clip"] == 1
    assert operators(narrow)["Relu"] == operators(quantized("residual").forms["a"])["Relu"] - 1


def test_same_input_same_bytes_whatever_the_batches():
    x = batch(12)
    first = quantize(residual(), [x], FAST)
    second = quantize(residual(), [x[:5], x[5:6], x[6:]], FAST)
    assert first.observations.data_hash == second.observations.data_hash
    assert first.cache == second.cache
    for name, model in first.forms.items():
        assert model.SerializeToString() == second.forms[name].SerializeToString()


def test_decisions_say_what_was_chosen_and_why():
    result = quantized("residual")
    activations = [d for d in result.decisions if d.kind == "activation"]
    assert [d.tensor for d in activations] == [point.tensor for point in result.plan.points]
    for decision in activations:
        assert decision.method in decision.candidates
        if decision.wire_error:  # empty where no other method's error is near enough to be tried
            least = min(decision.wire_error.values())
            assert decision.wire_error[decision.method] <= (1.1 if decision.method == "mse" else 1.0) * least
        assert decision.scale == pytest.approx(decision.threshold / 127, rel=2e-3)
    assert sum(len(decision.wire_error) > 1 for decision in activations) >= len(activations) // 2
    assert {d.tensor for d in result.decisions if d.kind == "weight"} == {
        la.node for la in result.plan.int8_layers
    }


def test_auto_is_not_worse_than_minmax():
    x = [batch(16)]
    plain = quantize(residual(), x, CalibrationSettings("minmax", "minmax", bias_correction=False, threads=1))
    assert quantized("residual").fidelity["a"].sqnr_db > plain.fidelity["a"].sqnr_db - 0.1


def test_the_report_is_json():
    import json

    report = json.loads(json.dumps(quantized("residual").report()))
    assert report["pictures"] == 16
    assert report["agreement"]["a/cpu"]["codes"] == 8 * 64 * 16
    assert coverage(quantized("residual").forms["a"]).share == 1.0


def test_the_cache_covers_every_tensor_of_the_unquantized_network():
    result = quantized("residual")
    scales = result.cache.scales
    made = {out for node in result.prepared.model.graph.node for out in node.output} - {"wire"}
    assert set(scales) == made | {"picture"}
    assert scales["stem"] == scales["stem.out"] == scales["pool"] == result.scales.activations["stem.out"]
    assert scales["block2.out"] == scales["block2.add"] == result.prepared.wire.step
    assert format_cache(result.cache).startswith("TRT-")


def test_the_key_depends_on_model_pictures_preprocessing_and_method():
    keys = {
        quantize(model, [x], settings).cache.key
        for model, x, settings in [
            (residual(), batch(4), FAST),
            (residual(1), batch(4), FAST),
            (residual(), batch(4, 1), FAST),
            (residual(), batch(4), CalibrationSettings("mse", "minmax", preprocess_hash="x", threads=1)),
            (residual(), batch(4), CalibrationSettings("minmax", "minmax", threads=1)),
        ]
    }
    assert len(keys) == 5


def test_layers_can_be_kept_float_without_reading_pictures_again():
    result = quantized("residual")
    kept = result.keeping_float(["block1.a/Conv"])
    assert coverage(kept.forms["a"]).int8_macs < coverage(result.forms["a"]).int8_macs
    assert kept.observations is result.observations
    assert kept.cache.key == result.cache.key


def test_settings_embed_in_pydantic():
    class Outer(pydantic.BaseModel):
        calibration: CalibrationSettings = CalibrationSettings()

    assert Outer(calibration={"method": "mse"}).calibration.method == "mse"
    for wrong in ({"methd": "mse"}, {"method": "best"}):
        with pytest.raises(pydantic.ValidationError):
            Outer(calibration=wrong)


@pytest.mark.parametrize("scale", [1e-12, 6.1e-5, 0.0078431, 0.5, 3.14159])
def test_half_scale_is_exact_in_fp16_and_not_smaller(scale):
    found = half_scale(scale)
    assert float(np.float16(found)) == float(found) >= scale
    assert float(found) <= max(scale * 1.001, 6.2e-5)
