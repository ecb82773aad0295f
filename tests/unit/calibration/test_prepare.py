"""What prepare changes, and what it refuses by name."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import DynamicShapeError, ModelFileError, UnsupportedOperatorError, WireEndError
from calibration.graph import multiply_accumulates
from calibration.prepare import load_model, prepare
from calibration.session import open_session, run_all
from tests.unit.calibration.networks import Net, batch, inverted, replace_constant, residual


def codes(model, pictures):
    return run_all(open_session(model, 1), pictures, 8)


def test_folding_batch_norms_changes_nothing_but_rounding():
    model, x = residual(norms=True), batch(4)
    prepared = prepare(model)
    assert prepared.folded == 6
    assert not [node for node in prepared.model.graph.node if node.op_type == "BatchNormalization"]
    distance = np.abs(codes(model, x).astype(int) - codes(prepared.model, x))
    assert distance.max() <= 1
    assert (distance == 0).mean() > 0.999


def test_the_source_is_not_changed():
    model = residual(norms=True)
    before = model.SerializeToString()
    prepare(model)
    assert model.SerializeToString() == before


def test_wire_and_shapes_are_found():
    prepared = prepare(residual(bits=6, step=0.0625))
    wire = prepared.wire
    assert (wire.step, wire.low, wire.high, wire.feature) == (0.0625, 0, 63, "block2.out")
    assert prepared.shape == (3, 32, 32)
    assert prepare(inverted()).wire.low == -128


def test_macs_in_closed_form():
    graph = prepare(residual()).graph
    assert multiply_accumulates(graph, graph.nodes["stem/Conv"]) == 32 * 3 * 9 * 16 * 16
    assert multiply_accumulates(graph, graph.nodes["block2.down/Conv"]) == 64 * 32 * 4 * 4


def test_constants_and_identities_are_normalized():
    model = residual()
    [bias] = [item for item in model.graph.initializer if item.name == "stem.bias"]
    constant = helper.make_node(
        "Constant", [], ["stem.bias.made"], value=numpy_helper.from_array(numpy_helper.to_array(bias))
    )
    identity = helper.make_node("Identity", ["stem.bias.made"], ["stem.bias.same"])
    [conv] = [node for node in model.graph.node if node.output[0] == "stem"]
    conv.input[2] = "stem.bias.same"
    for node in (identity, constant):
        model.graph.node.insert(0, node)
    prepared = prepare(model)
    assert {node.op_type for node in prepared.model.graph.node}.isdisjoint({"Constant", "Identity"})
    np.testing.assert_array_equal(codes(prepared.model, batch(2)), codes(residual(), batch(2)))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_dynamic_axis_other_than_the_batch_is_named(axis):
    model = residual()
    model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "free"
    with pytest.raises(DynamicShapeError, match=f"axis {axis}"):
        prepare(model)


def test_truncated_and_missing_files_are_named(tmp_path):
    data = residual().SerializeToString()
    path = tmp_path / "edge.onnx"
    with pytest.raises(ModelFileError, match="no such file"):
        prepare(path)
    for size in (0, 10, len(data) // 2, len(data) - 7):
        path.write_bytes(data[:size])
        with pytest.raises(ModelFileError, match=r"edge\.onnx|checker"):
            prepare(path)
    path.write_bytes(data)
    assert prepare(path).wire.step == 0.0625


def test_a_file_over_two_gigabytes_is_named(tmp_path):
    path = tmp_path / "big.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 10)  # sparse: takes no space
    with pytest.raises(ModelFileError, match="2 GB"):
        load_model(path)


def test_external_weights_are_named():
    model = residual()
    item = model.graph.initializer[0]
    item.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelFileError, match="one file"):
        load_model(model)


@pytest.mark.parametrize("opset", [12, 18, 21])
def test_other_opsets_are_named(opset):
    model = residual()
    model.opset_import[0].version = opset
    with pytest.raises((UnsupportedOperatorError, ModelFileError), match=r"opset|checker"):
        prepare(model)


def test_refused_operators_and_domains_are_named():
    net = Net()
    x = net.add("Dropout", [net.conv("picture", "stem", 16)], "dropped")
    with pytest.raises(UnsupportedOperatorError, match="Dropout"):
        prepare(net.finish(x, 32))
    model = residual()
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[3].domain = "com.example"
    with pytest.raises((UnsupportedOperatorError, ModelFileError), match=r"com\.example"):
        prepare(model)


def test_a_quantized_model_is_refused():
    net = Net()
    scale, zero = net.const("s", np.float32(0.1)), net.const("z", np.int8(0))
    x = net.add("DequantizeLinear", [net.add("QuantizeLinear", ["picture", scale, zero], "q"), scale, zero], "dq")
    with pytest.raises(UnsupportedOperatorError, match="already"):
        prepare(net.finish(net.conv(x, "stem", 16), 32))


def test_a_half_without_wire_is_refused():
    model = residual()
    del model.graph.node[-1]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("clipped", TensorProto.FLOAT, ["batch", 64, 4, 4]))
    with pytest.raises(WireEndError, match="QuantizeLinear"):
        prepare(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wire.step", np.float32(0)),
        ("wire.step", np.float32(np.nan)),
        ("wire.zero", np.int8(3)),
        ("wire.zero", np.uint8(0)),
    ],
)
def test_a_wire_that_is_not_the_contracts_is_refused(name, value):
    model = replace_constant(residual(), name, value)
    if value.dtype == np.uint8:
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(WireEndError):
        prepare(model)


def test_two_outputs_are_refused():
    model = residual()
    model.graph.output.append(helper.make_tensor_value_info("pool", onnx.TensorProto.FLOAT, ["batch", 32, 8, 8]))
    with pytest.raises(UnsupportedOperatorError, match="one output"):
        prepare(model)
