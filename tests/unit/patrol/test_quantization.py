"""Quantization-aware fine-tuning: the PyTorch half against the exported Q/DQ half, gradients, results."""

import functools
import math

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from calibration import CalibrationSettings, acceptance, learned, quantize, refusals
from calibration.errors import SettingsError
from calibration.scales import Scales, fake_quantize, half_scale
from calibration.session import open_session, run_all
from tests.unit.calibration import networks
from toolkit.errors import ModelError, TrainingError
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.patrol.data import TrainingData
from toolkit.patrol.onnx_operators import run_operator
from toolkit.patrol.quantization import finetune_quantized
from toolkit.patrol.quantization_settings import QuantizationTraining
from toolkit.patrol.quantized_edge import LearnedScale, QuantizedEdge, learned_quantize
from toolkit.patrol.settings import TrainSettings

NAMES = ("residual", "inverted", "branching", "instance", "transposed", "dense_layers", "pooled_wire")
FAST = CalibrationSettings(threads=1, method="mse", weight_method="mse", forms=("a", "b", "cpu"))
SHORT = TrainSettings(
    epochs=2, learning_rate=3e-4, weight_decay=0.0, precision="fp32", identities=4, pictures=2, augmentations=1
)


@functools.cache
def quantized(name):
    return quantize(getattr(networks, name)(), [networks.batch(16)], FAST)


def codes_of(model, pictures):
    return run_all(open_session(model, 1, integer_kernels=False), pictures, 8)


def training_data(count=32):
    return TrainingData(networks.pictures(count, seed=3), np.repeat(np.arange(count // 4), 4))


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_in_pytorch_gives_onnxruntimes_codes(name):
    result, pictures = quantized(name), networks.batch(8, seed=5)
    here = QuantizedEdge(result.prepared).codes(torch.from_numpy(pictures)).numpy()
    there = codes_of(result.prepared.model, pictures)
    assert np.mean(here == there) > 0.9999
    assert np.abs(here.astype(int) - there).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_fake_quantized_codes_agree_with_the_exported_form(name):
    """Pairs at the same tensors, same scales: what differs is the order of float sums at rounding edges."""
    result, pictures = quantized(name), networks.batch(8, seed=5)
    here = QuantizedEdge(result.prepared, result.plan, result.scales).codes(torch.from_numpy(pictures)).numpy()
    there = codes_of(result.forms["a"], pictures)
    assert np.mean(here == there) > 0.998
    assert np.abs(here.astype(int) - there).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_untrained_it_exports_the_same_forms(name):
    result = quantized(name)
    half = QuantizedEdge(result.prepared, result.plan, result.scales)
    again = learned(result, half.learned_weights(), half.learned_scales())
    pictures = networks.batch(8, seed=5)
    for form in ("a", "cpu"):
        np.testing.assert_array_equal(
            codes_of(again.forms[form], pictures), codes_of(result.forms[form], pictures), err_msg=form
        )
    assert [point.tensor for point in again.plan.points] == [point.tensor for point in result.plan.points]
    assert again.scales.activations == dict(result.scales.activations)


def test_the_forward_pass_is_decoded_codes():
    result, pictures = quantized("residual"), torch.from_numpy(networks.batch(4, seed=5))
    half = QuantizedEdge(result.prepared, result.plan, result.scales)
    sent = half(pictures)
    torch.testing.assert_close(sent, half.codes(pictures) * result.prepared.wire.step, rtol=1e-6, atol=1e-6)
    sent.square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in half.parameters())


def test_values_are_those_of_numpy():
    values = np.random.default_rng(0).normal(0, 3, 4096).astype(np.float32)
    scale = float(half_scale(0.0313))
    found = learned_quantize(torch.from_numpy(values), torch.tensor(scale), -128, 127, 0.01).numpy()
    np.testing.assert_array_equal(found, fake_quantize(values, scale))


def test_gradients_are_those_of_the_paper():
    """Equation 3 of the LSQ paper, value by value."""
    values = torch.tensor([-9.0, -0.26, 0.1, 0.74, 8.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    per_value = []
    for index in range(len(values)):
        scale.grad = None
        learned_quantize(values, scale, -4, 3, damping=0.1)[index].backward(retain_graph=True)
        per_value.append(float(scale.grad))
    ratios = [-0.52, 0.2, 1.48]
    inside = [round(ratio) - ratio for ratio in ratios]
    np.testing.assert_allclose(per_value, [0.1 * g for g in (-4.0, *inside, 3.0)], rtol=1e-5)
    values.grad = None
    learned_quantize(values, scale.detach(), -4, 3).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_a_learned_scale_is_positive_and_exact_in_fp16():
    scale = LearnedScale(half_scale(np.asarray([0.02, 1.5])))
    np.testing.assert_array_equal(scale.value(), half_scale(np.asarray([0.02, 1.5])))
    with torch.no_grad():
        scale.offset.copy_(torch.tensor([-30.0, 0.1234]))
    value = scale.value()
    np.testing.assert_array_equal(value, half_scale(value))
    assert value[0] == np.finfo(np.float16).smallest_normal
    assert value[1] == pytest.approx(1.5 * math.exp(0.1234), rel=1e-3)
    np.testing.assert_array_equal(scale().detach().numpy(), value)


def coarse(name, factor=3.0):
    """A calibration whose activation scales are too large by a factor: something to learn."""
    source = quantized(name)
    wide = {
        point.tensor: source.scales.activations[point.tensor] * (1.0 if point.fixed else factor)
        for point in source.plan.points
    }
    scales = Scales(wide, source.scales.weights, source.scales.internal, source.scales.biases)
    return learned(source, {}, scales)


def test_the_fp16_baseline_keeps_the_weights_it_was_trained_with():
    source = quantize(networks.pooled_wire(), [networks.batch(8)], CalibrationSettings(threads=1, method="mse"))
    weights = {"one.weight": source.prepared.graph.constants["one.weight"] * np.float32(0.5)}
    found = learned(source, weights, source.scales)
    assert found.forms["fp16"].SerializeToString() == source.forms["fp16"].SerializeToString()
    assert found.forms["b"].SerializeToString() != source.forms["b"].SerializeToString()
    assert found.fidelity["fp16"].sqnr_db > found.fidelity["b"].sqnr_db


def test_training_repairs_coarse_scales_and_exports_them():
    source = coarse("residual")
    settings = QuantizationTraining(train=SHORT.model_copy(update={"epochs": 10}), scale_rate=100.0)
    found = finetune_quantized(source, training_data(), settings)
    assert found.best > 0
    assert found.errors[found.best] < 0.6 * found.errors[0]
    assert found.quantized.fidelity["a"].sqnr_db > source.fidelity["a"].sqnr_db + 0.5
    assert found.agreement > 0.998
    assert set(found.quantized.forms) == {"a", "b", "cpu"}
    assert not refusals(acceptance(found.quantized.forms))
    assert {d.method for d in found.quantized.decisions} <= {"learned", "wire"}
    assert found.quantized.cache.key != source.cache.key
    for point in source.plan.points:
        if point.fixed is not None:
            assert found.quantized.scales.activations[point.tensor] == point.fixed


def test_the_same_training_gives_the_same_bytes():
    settings = QuantizationTraining(train=SHORT.model_copy(update={"epochs": 1}))
    source = coarse("pooled_wire")
    first, second = (finetune_quantized(source, training_data(), settings).quantized for _ in range(2))
    for form in first.forms:
        assert first.forms[form].SerializeToString(deterministic=True) == second.forms[form].SerializeToString(
            deterministic=True
        )


def test_training_that_makes_it_worse_leaves_the_calibration():
    source = quantized("pooled_wire")
    settings = QuantizationTraining(train=SHORT.model_copy(update={"epochs": 1, "learning_rate": 0.5}))
    found = finetune_quantized(source, training_data(), settings)
    assert (found.best, found.quantized) == (0, source)
    assert found.errors[1] > found.errors[0]


def test_the_cloud_half_judges_and_is_left_alone():
    net = build_network(Architecture(identities=8, backbone="resnet18", cut="layer1", width=0.25))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    learning = [p.requires_grad for p in net.parameters()]
    source = quantize(residual_of(net), [networks.batch(8)], FAST)
    settings = QuantizationTraining(train=SHORT.model_copy(update={"epochs": 1}), task=0.1)
    found = finetune_quantized(source, training_data(), settings, net)
    assert set(found.curves) == {"feature", "embedding", "task"}
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == learning
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def residual_of(net):
    """The exported edge half of a network."""
    import io

    import onnx

    from toolkit.export import attach_edge_wire
    from toolkit.models.halves import EdgeHalf
    from toolkit.wire import WireFormat

    buffer = io.BytesIO()
    half = EdgeHalf(net)
    training = net.training
    torch.onnx.export(
        half.eval(), (torch.zeros(1, 3, 32, 32),), buffer, dynamo=False, opset_version=17,
        input_names=["picture"], output_names=["feature"],
        dynamic_axes={"picture": {0: "batch"}, "feature": {0: "batch"}},
    )  # fmt: skip
    net.train(training)
    model = onnx.load_from_string(buffer.getvalue())
    channels, height, width = (d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim[1:])
    return attach_edge_wire(model, WireFormat(channels, height, width, 8, 0.03125, False))


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"task": 1.0}, "task needs a network"), ({"feature": 0.0}, "nothing to learn from")],
)
def test_wrong_use_is_named(settings, what):
    with pytest.raises(TrainingError, match=what):
        finetune_quantized(quantized("residual"), training_data(), QuantizationTraining(train=SHORT, **settings))


def test_divergence_is_named():
    settings = QuantizationTraining(train=SHORT.model_copy(update={"learning_rate": 1e30, "gradient_clip": 0.0}))
    with pytest.raises(TrainingError, match="diverged"):
        finetune_quantized(quantized("residual"), training_data(), settings)


def test_an_operator_without_gradient_is_named():
    with pytest.raises(ModelError, match=r"TopK \(some/TopK\) cannot be fine-tuned"):
        run_operator(helper.make_node("TopK", ["x"], ["y"], "some/TopK"), {}, [torch.zeros(1)])


def test_learned_scales_that_cannot_be_are_refused():
    source = quantized("pooled_wire")
    scales = source.scales
    fixed = next(point.tensor for point in source.plan.points if point.fixed is not None)
    for changed, what in (
        ({**scales.activations, fixed: 0.5}, "never learned"),
        ({**scales.activations, "picture": -1.0, "one.out": float("nan")}, "positive number"),
    ):
        with pytest.raises(SettingsError, match=what):
            learned(source, {}, Scales(changed, scales.weights))
    with pytest.raises(SettingsError, match="missing"):
        learned(source, {}, Scales(scales.activations, {}))
    with pytest.raises(SettingsError, match="no weight of this network"):
        learned(source, {"one.weight": np.zeros(3, np.float32)}, scales)


def test_layers_kept_float_after_training_keep_the_other_learned_scales():
    source = coarse("residual")
    layer = source.plan.int8_layers[-1].node
    kept = source.keeping_float([layer])
    assert layer not in [item.node for item in kept.plan.int8_layers]
    assert kept.scales == source.scales


def test_a_layer_kept_float_after_training_has_the_learned_bias():
    source = quantized("residual")
    layer = source.plan.int8_layers[0]
    wanted = np.arange(32, dtype=np.float32) / 64
    scales = Scales(source.scales.activations, source.scales.weights, biases={layer.node: wanted})
    kept = learned(source, {}, scales).keeping_float([layer.node])
    bias = kept.prepared.graph.constant(kept.prepared.graph.nodes[layer.node], 2)
    np.testing.assert_array_equal(bias, wanted)
    [node] = [node for node in kept.forms["a"].graph.node if node.name == layer.node]
    stored = {item.name: numpy_helper.to_array(item) for item in kept.forms["a"].graph.initializer}
    np.testing.assert_array_equal(stored[node.input[2]], wanted)
