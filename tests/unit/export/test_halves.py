import sys

import numpy as np
import onnx
import pytest
import torch

from toolkit.errors import ModelError
from toolkit.export import ExportSettings, export_halves
from toolkit.export.parity import in_batches, runner
from toolkit.export.simplify import simplify
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.models.registry import BACKBONES, build_backbone
from toolkit.wire import WireFormat, decode, encode


@pytest.fixture(scope="module")
def exported(net, fmt, pictures, size, tmp_path_factory):
    return export_halves(net, fmt, size, pictures, tmp_path_factory.mktemp("export"))


def inputs_of(pictures):
    return pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def test_names_types_and_versions(exported, fmt):
    for path, source, target in (
        (exported.edge, ("picture", 1, [0, 3, 32, 48]), ("wire", 3, [0, *fmt.shape])),
        (exported.cloud, ("wire", 3, [0, *fmt.shape]), ("embedding", 1, [0, 64])),
    ):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 8
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
        for values, expected in ((model.graph.input, source), (model.graph.output, target)):
            assert len(values) == 1
            kind = values[0].type.tensor_type
            sides = kind.shape.dim
            assert (values[0].name, kind.elem_type, [side.dim_value for side in sides]) == expected
            assert sides[0].dim_param == "batch"


def test_ends_and_node_names(exported, net):
    edge, cloud = onnx.load(exported.edge).graph, onnx.load(exported.cloud).graph
    assert [node.op_type for node in edge.node][-2:] == ["Clip", "QuantizeLinear"]
    assert cloud.node[0].op_type == "DequantizeLinear"
    zero = next(tensor for tensor in edge.initializer if tensor.name == edge.node[-1].input[2])
    assert onnx.numpy_helper.to_array(zero).dtype == np.int8
    nodes = (*edge.node, *cloud.node)
    convolutions = [node.name.removesuffix("/Conv") for node in nodes if node.op_type == "Conv"]
    modules = dict(net.named_modules())
    assert sorted(convolutions) == sorted(
        name for name, module in modules.items() if isinstance(module, torch.nn.Conv2d)
    )
    assert not [node for node in (*edge.node, *cloud.node) if node.op_type == "Identity"]


def test_parity_is_measured_at_every_step(exported):
    steps = {step.name: step for step in exported.parity}
    assert list(steps) == [
        "edge: torch -> onnx, feature",
        "edge: torch -> onnx, codes",
        "edge: onnx -> onnxsim",
        "cloud: torch -> onnx, embedding",
        "cloud: torch -> onnx from codes, embedding",
        "cloud: onnx -> onnxsim",
    ]
    assert all(step.pictures == 6 for step in steps.values())
    assert all(step.max_relative < 1e-4 for step in steps.values() if step.code_agreement is None)
    assert steps["edge: torch -> onnx, codes"].code_agreement >= 0.999
    assert exported.notes == ("edge: simplified", "cloud: simplified")
    assert exported.to_dict()["parity"][0]["name"] == "edge: torch -> onnx, feature"


def test_the_pair_gives_the_networks_embedding(exported, net, fmt, pictures):
    inputs = inputs_of(pictures)
    codes = runner(onnx.load(exported.edge))(inputs)
    embedding = runner(onnx.load(exported.cloud))(codes)
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(inputs)).numpy()
        expected = net.cloud(torch.from_numpy(decode(codes, fmt))).numpy()
    assert codes.dtype == np.int8
    assert (codes == encode(feature, fmt)).mean() > 0.999
    np.testing.assert_allclose(embedding, expected, atol=1e-4 * np.abs(expected).max())


def test_the_same_network_gives_the_same_bytes_and_stays_in_its_mode(exported, net, fmt, pictures, size, tmp_path):
    net.train()
    try:
        again = export_halves(net, fmt, size, pictures, tmp_path)
        assert net.training
        assert net.backbone.training
    finally:
        net.eval()
    assert (again.edge_sha256, again.cloud_sha256) == (exported.edge_sha256, exported.cloud_sha256)


def test_uint8_pictures_give_the_same_codes(exported, net, fmt, pictures, size, tmp_path):
    settings = ExportSettings(picture_input="nhwc_uint8", simplify="off")
    model = onnx.load(export_halves(net, fmt, size, pictures, tmp_path, settings).edge)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    codes = in_batches(runner(model), pictures, 2)
    assert np.array_equal(codes, in_batches(runner(onnx.load(exported.edge)), inputs_of(pictures), 2))


def test_a_slow_onnxsim_is_left_out_with_a_note(net, fmt, pictures, size, tmp_path):
    result = export_halves(net, fmt, size, pictures, tmp_path, ExportSettings(simplify_timeout_s=0.01))
    assert "took longer than 0.01 s" in result.notes[0]
    assert not [step for step in result.parity if "onnxsim" in step.name]
    assert onnx.load(result.edge).graph.node[-1].op_type == "QuantizeLinear"


def test_a_broken_onnxsim_is_reported(exported, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    model, note = simplify(onnx.load(exported.edge), 5)
    assert model is None
    assert "code 1" in note


def test_wrong_pictures_and_wrong_wire_are_refused(net, fmt, pictures, size, tmp_path):
    for wrong in (pictures[:, :16], pictures[:0], pictures.astype(np.float32)):
        with pytest.raises(ModelError, match="parity needs"):
            export_halves(net, fmt, size, wrong, tmp_path)
    other = WireFormat(fmt.channels + 1, fmt.height, fmt.width, 6, fmt.step, False)
    with pytest.raises(ModelError, match="the cut gives"):
        export_halves(net, other, size, pictures, tmp_path)
    assert not list(tmp_path.iterdir())


def test_lost_parity_is_an_error(net, fmt, pictures, size, tmp_path):
    with pytest.raises(ModelError, match="parity failed, edge: torch -> onnx, feature"):
        export_halves(
            net, fmt, size, pictures, tmp_path, ExportSettings(simplify="off", max_relative_difference=1e-12)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backbone", sorted(set(BACKBONES) - {"resnet18", "resnet34"}))
def test_other_backbones(backbone, pictures, size, tmp_path):
    cut = build_backbone(backbone, width=0.125).block_names[3]
    net = build_network(Architecture(backbone, cut, 5, width=0.125), seed=1).eval()
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(inputs_of(pictures)))
    signed = bool(feature.min() < 0)
    fmt = WireFormat(*feature.shape[1:], bits=8, step=float(feature.abs().max()) / 127, signed=signed)
    result = export_halves(net, fmt, size, pictures, tmp_path, ExportSettings(simplify="off"))
    assert result.parity[1].code_agreement > 0.999
    names = {node.name.rsplit("/", 1)[0] for node in onnx.load(result.edge).graph.node if node.op_type == "Conv"}
    assert names <= {name for name, _ in net.named_modules()}
