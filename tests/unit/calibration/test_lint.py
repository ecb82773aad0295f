"""Lint finds what TensorRT 8.x refuses and what makes INT8 slow, in networks broken one way at a time."""

import functools

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration import CalibrationSettings, acceptance, coverage, lint, quantize
from tests.unit.calibration.networks import batch, branching, replace_constant, residual

SETTINGS = CalibrationSettings("mse", "minmax", forms=("a", "b", "cpu"), threads=1)


@functools.cache
def forms(name: str = "residual"):
    return quantize({"residual": residual, "branching": branching}[name](), [batch(6)], SETTINGS).forms


def form_a(name: str = "residual") -> onnx.ModelProto:
    return onnx.ModelProto.FromString(forms(name)["a"].SerializeToString())


def node_named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def rules(model: onnx.ModelProto, which="tensorrt8") -> set[str]:
    return {finding.rule for finding in lint(model, which)}


def test_a_good_network_has_no_findings():
    assert rules(form_a()) == set()
    assert rules(form_a(), "efficiency") == set()
    assert rules(form_a("branching"), "efficiency") == set()
    assert coverage(form_a()).share == 1.0


def test_form_b_breaks_the_rules_of_8():
    assert {"opset", "ir-version", "stored-codes", "fp32-scale", "fp32-tensors"} <= rules(forms()["b"])


def test_the_cpu_form_breaks_them_too():
    assert {"uint8", "symmetric", "float-bias", "int8"} <= rules(forms()["cpu"])


def test_missing_zero_point():
    model = form_a()
    del node_named(model, "stem.out.quantize").input[2]
    assert rules(model) == {"explicit-zero-point", "uint8"}  # without one the codes are UINT8


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("stem.out.zero_point", np.int8(3), "symmetric"),
        ("stem.out.scale", np.float32(0), "positive-scale"),
        ("stem.out.scale", np.float32(np.nan), "positive-scale"),
        ("stem.out.scale", np.full(32, 0.1, np.float32), "per-tensor-activation"),
    ],
)
def test_wrong_constants(name, value, rule):
    assert rule in rules(replace_constant(form_a(), name, np.asarray(value)))


def test_wrong_axis():
    model = form_a()
    for suffix in ("quantize", "dequantize"):
        node_named(model, f"block1.a/Conv.weight.{suffix}").attribute[0].i = 1
    assert rules(model) == {"weight-axis"}


def test_dynamic_scale():
    model = form_a()
    node_named(model, "stem.out.quantize").input[1] = "normalized"
    assert "constant-scale" in rules(model)


def test_wrong_opset_and_domain():
    model = form_a()
    model.opset_import[0].version = 19
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert {"opset", "domain"} <= rules(model)


def add_pair(model: onnx.ModelProto, tensor: str, scale: float, reader: str) -> onnx.ModelProto:
    """Put another pair between ``tensor`` and the node ``reader``."""
    names = [f"{tensor}.extra_scale", f"{tensor}.extra_zero"]
    for name, value in zip(names, (np.float32(scale), np.int8(0)), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    node = node_named(model, reader)
    index = list(model.graph.node).index(node)
    node.input[list(node.input).index(tensor)] = f"{tensor}.dq"
    pair = [
        helper.make_node("QuantizeLinear", [tensor, *names], [f"{tensor}.q"], f"{tensor}.extra.q"),
        helper.make_node("DequantizeLinear", [f"{tensor}.q", *names], [f"{tensor}.dq"], f"{tensor}.extra.dq"),
    ]
    for offset, made in enumerate(pair):
        model.graph.node.insert(index + offset, made)
    return model


def test_a_pair_in_front_of_relu_is_found():
    assert "pair-before-activation" in rules(add_pair(form_a(), "stem", 0.1, "stem.out/Relu"), "efficiency")


def test_an_addition_quantized_on_both_branches_is_found():
    assert "unfused-add" in rules(add_pair(form_a(), "block1.b", 0.1, "block1.add/Add"), "efficiency")


def test_an_addition_with_a_float_identity_is_found():
    model = form_a()
    node_named(model, "block1.add/Add").input[1] = "pool"
    assert "unfused-add" in rules(model, "efficiency")


def test_a_repeated_pair_is_found():
    model = add_pair(form_a(), "pool.dequantized", 0.1, "block1.a/Conv")
    found = [finding for finding in lint(model, "efficiency") if finding.rule == "requantize"]
    assert [finding.node for finding in found] == ["pool.dequantized.extra.q"]
    assert "changes the scale" in found[0].message


def test_a_dangling_pair_is_found():
    model = form_a()
    node_named(model, "block1.b/Conv").input[0] = "block1.mid"
    found = {(finding.rule, finding.node) for finding in lint(model, "efficiency")}
    assert ("dangling-pair", "block1.mid.dequantize") in found
    assert ("float-layer", "block1.b/Conv") in found
    assert ("coverage", "model") in found


def test_mismatched_scales_at_concat_and_pool_are_found():
    model = replace_constant(form_a("branching"), "left.out.scale", np.asarray(0.5, np.float32))
    found = [finding.node for finding in lint(model, "efficiency") if finding.rule == "mismatched-scales"]
    assert found == ["joined/Concat"]


def test_a_mixed_concat_is_found():
    model = form_a("branching")
    node_named(model, "joined/Concat").input[0] = "left.out"
    assert "mixed-concat" in rules(model, "efficiency")


def test_odd_channels_are_found():
    model = quantize(residual(width=24), [batch(6)], SETTINGS).forms["a"]
    messages = [f.message for f in lint(model, "efficiency") if f.rule == "misaligned-channels"]
    assert any("[24, 24]" in message and "no fast INT8 kernel" in message for message in messages)


def test_onnxruntimes_own_output_is_refused_by_lint_and_by_nvidias_parser(tmp_path):
    """Its default quantizes biases; both judges must say no, so that the lint is known to match the parser."""
    pytest.importorskip("tensorrt_rtx")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.items = iter([{"picture": batch(2)}])

        def get_next(self):
            return next(self.items, None)

    source = residual()
    del source.graph.node[-2:]
    del source.graph.output[:]
    source.graph.output.append(
        helper.make_tensor_value_info("block2.out", onnx.TensorProto.FLOAT, ["batch", 64, 4, 4])
    )
    onnx.save(source, tmp_path / "edge.onnx")
    quantize_static(
        tmp_path / "edge.onnx",
        tmp_path / "out.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True},
    )
    model = onnx.load(tmp_path / "out.onnx")
    assert "float-bias" in rules(model)
    verdicts = {row.judge: row.verdict for row in acceptance({"a": model})}
    assert verdicts["tensorrt-rtx"] == "refused"
    assert verdicts["tensorrt 8 rules"] == "refused"
