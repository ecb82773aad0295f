"""layers.json: written from ONNX after TensorRT's fusions, read back unchanged."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.errors import PredictionError
from targets.jetson.layers import LayerGraph
from targets.jetson.predictor.memory import peak_activation_bytes, weight_bytes
from toolkit.errors import ModelError
from toolkit.planning.layers import fuse, layers_from_onnx


def weight(name, *shape):
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


def model(nodes, initializers, shape=("batch", 8, 16, 16), outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(x, w, y, pads=1, group=1, stride=1):
    return helper.make_node("Conv", [x, w], [y], name=y, pads=[pads] * 4, group=group, strides=[stride] * 2)


def residual_block():
    nodes = [
        conv("x", "w1", "a"), helper.make_node("Relu", ["a"], ["b"]),
        conv("b", "w2", "c"), helper.make_node("Add", ["c", "x"], ["d"]), helper.make_node("Relu", ["d"], ["y"]),
    ]  # fmt: skip
    return nodes, [weight("w1", 8, 8, 3, 3), weight("w2", 8, 8, 3, 3)]


def test_a_residual_block_is_two_layers():
    graph = fuse(model(*residual_block()), "block", batch=2)
    first, second = graph.layers
    assert first.operators == ("Conv", "Relu") and second.operators == ("Conv", "Add", "Relu")
    assert (first.kind, first.activation, first.residual) == ("conv", "relu", False) and second.residual
    assert first.macs == 2 * 16 * 16 * 8 * 8 * 9 and first.positions == 2 * 16 * 16
    assert (first.in_channels, first.out_channels, first.kernel, first.weights) == (8, 8, (3, 3), 576)
    assert [t.producer for t in second.inputs] == [0, -1] and second.inputs[1].elements == 2 * 8 * 256
    assert graph.batch == 2 and graph.macs == first.macs + second.macs


def test_of_two_convolutions_into_an_addition_the_later_takes_it():
    nodes = [conv("x", "w1", "a"), conv("x", "w2", "b"), helper.make_node("Add", ["a", "b"], ["y"])]
    graph = fuse(model(nodes, [weight("w1", 8, 8, 3, 3), weight("w2", 8, 8, 3, 3)]), "sum")
    assert [layer.operators for layer in graph.layers] == [("Conv",), ("Conv", "Add")]


def test_a_gated_activation_is_one_smooth_one():
    nodes = [
        conv("x", "w", "a"), helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["y"]),
    ]  # fmt: skip
    (layer,) = fuse(model(nodes, [weight("w", 4, 8, 3, 3)]), "silu").layers
    assert layer.operators == ("Conv", "Sigmoid", "Mul") and layer.activation == "smooth"


def test_an_output_in_the_middle_ends_a_layer():
    nodes, weights = residual_block()
    graph = fuse(model(nodes, weights, outputs=("c", "y")), "two")
    assert [layer.operators for layer in graph.layers] == [("Conv", "Relu"), ("Conv",), ("Add", "Relu")]
    assert graph.layers[2].kind == "elementwise"


def test_depthwise_grouped_pooling_and_gemm():
    nodes = [
        conv("x", "w1", "a", group=8), conv("a", "w2", "b", group=2),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]), helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "w3", "w4"], ["y"], transB=1),
    ]  # fmt: skip
    weights = [weight("w1", 8, 1, 3, 3), weight("w2", 4, 4, 3, 3), weight("w3", 5, 4), weight("w4", 5)]
    layers = fuse(model(nodes, weights), "mixed").layers
    assert [layer.kind for layer in layers] == ["depthwise", "conv", "reduce", "gemm"]
    assert layers[0].macs == 256 * 8 * 9 and layers[1].macs == 256 * 4 * 4 * 9 and layers[1].groups == 2
    assert (layers[3].macs, layers[3].weights, layers[3].positions) == (20, 25, 1)


def quantized(inner):
    """Q/DQ around a tensor."""
    q = helper.make_node("QuantizeLinear", [inner, "s", "z"], [f"{inner}_q"])
    return [q, helper.make_node("DequantizeLinear", [f"{inner}_q", "s", "z"], [f"{inner}_dq"])]


def test_quantizers_become_the_precision_of_their_readers():
    nodes = [
        *quantized("x"), helper.make_node("DequantizeLinear", ["w1", "s", "z"], ["w1_dq"]),
        conv("x_dq", "w1_dq", "a"), helper.make_node("Relu", ["a"], ["b"]), *quantized("b"),
        conv("b_dq", "w2", "c"),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["y"]),
    ]  # fmt: skip
    codes = numpy_helper.from_array(np.zeros((8, 8, 3, 3), np.int8), "w1")
    scales = [numpy_helper.from_array(np.array(0.1, np.float32), "s"), numpy_helper.from_array(np.int8(0), "z")]
    graph = fuse(model(nodes, [codes, weight("w2", 8, 8, 3, 3), *scales]), "qdq")
    first, second = graph.layers
    assert first.quantized and first.weights == 576 and first.inputs[0].codes and first.outputs[0].codes
    assert not second.quantized and second.outputs[0].codes and graph.quantized


def test_memory_counts_weights_and_live_activations():
    graph = fuse(model(*residual_block()), "block")
    plane = 8 * 256
    assert weight_bytes(graph, "fp16") == 2 * 2 * 576 and weight_bytes(graph, "int8") == 2 * 576
    assert peak_activation_bytes(graph, "fp32") == 4 * 3 * plane
    assert peak_activation_bytes(graph, "fp16") == 4 * plane + 2 * 2 * plane


def test_json_round_trip():
    graph = fuse(model(*residual_block()), "block")
    assert LayerGraph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(("text", "message"), [
    ("{}", "not a layers.json"), ("[", "not a layers.json"), ('{"version": 2}', "version 2"),
    ('{"version": 1, "name": "n", "batch": 1, "layers": [{"name": "a", "kind": "warp"}]}', "kind warp"),
])  # fmt: skip
def test_other_files_are_refused(text, message):
    with pytest.raises(PredictionError, match=message):
        LayerGraph.from_json(text)


def test_a_free_height_is_refused_by_name(tmp_path):
    nodes = [conv("x", "w", "y"), helper.make_node("NonZero", ["y"], ["z"])]
    with pytest.raises(ModelError, match="tensor z is not fixed"):
        fuse(model(nodes, [weight("w", 8, 8, 3, 3)], outputs=("z",)), "free")
    (tmp_path / "broken.onnx").write_bytes(b"not onnx")
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be read"):
        layers_from_onnx(tmp_path / "broken.onnx")


def test_a_file_is_read(tmp_path):
    onnx.save(model(*residual_block()), str(tmp_path / "edge.onnx"))
    assert layers_from_onnx(tmp_path / "edge.onnx").name == "edge"
