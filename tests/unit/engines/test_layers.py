"""Layers of engines: recorded from the real TensorRT-RTX, and in the documented form of TensorRT 8 to 10."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.engines import BuildSettings, build_engine
from toolkit.engines.layers import (
    EngineLayer,
    EngineTensor,
    LayerInfoError,
    compare_graphs,
    draw,
    layers_path,
    lint_layers,
    parse_information,
    read_graph,
    rows,
    to_text,
)
from toolkit.engines.layers.files import read_times
from toolkit.engines.layers.oneline import from_log
from toolkit.engines.layers.schemas import dtype_in, layout_in

HERE = Path(__file__).parent / "layers"
OLD, INT8, FP16 = (
    HERE / f"{name}.json" for name in ("tensorrt-10-documented", "rtx-1.7.1-int8", "rtx-1.7.1-fp16")
)
run = CliRunner().invoke


def by_rule(findings):
    found = {}
    for finding in findings:
        found.setdefault(finding.rule, []).append((finding.layer, finding.severity))
    return found


def test_both_schemas_become_the_same_kind_of_graph():
    old, new = read_graph(OLD), read_graph(INT8)
    assert (old.source, new.source) == ("tensorrt10", "tensorrt11")
    for graph in (old, new):
        assert (graph.inputs, graph.outputs) == (("picture",), ("wire",))
        assert graph.detailed
    wide = old.layers[2]
    assert (wide.kind, wide.precision, wide.modules) == ("CaskConvolution", "int8", ("net.wide",))
    assert wide.inputs == (EngineTensor("a", (1, 32, 32, 32), "int8", "chw32"),)
    assert wide.nodes == ("a.QuantizeLinear", "a.DequantizeLinear", "net.wide/Conv")  # separated by a raw 0x1e
    conv = next(layer for layer in new.layers if layer.heavy and layer.modules == ("backbone.layer1.0.conv1",))
    assert (conv.kind, conv.precision, conv.inputs[0].layout) == ("correlation", "int8", "nhwc")
    assert conv.inputs[0].shape == (-1, 64, 16, 16)


def test_every_convolution_of_the_network_is_found_under_its_module():
    for path, precision in ((INT8, "int8"), (FP16, "float16")):
        heavy = [layer for layer in read_graph(path).layers if layer.heavy]
        modules = {module for layer in heavy for module in layer.modules}
        wanted = {f"backbone.layer{stage}.{block}.conv{n}" for stage in (1, 2) for block in (0, 1) for n in (1, 2)}
        assert wanted | {"backbone.conv1", "backbone.layer2.0.downsample.0"} <= modules
        assert len(heavy) == 10
        assert {layer.precision for layer in heavy} == {precision}


@pytest.mark.parametrize(
    ("text", "dtype", "layout"),
    [
        ("Row major linear FP32", "float32", "linear"),
        ("Row major linear INT8 format (kLINEAR)", "int8", "linear"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8", "chw32"),
        ("Sixteen wide channel vectorized row major FP16 format", "float16", "chw16"),
        ("Channel major FP16 format where channel % 8 == 0", "float16", "nhwc"),
        ("(NHWC) Channel major format", "", "nhwc"),
        ("Half", "float16", ""),
        ("BFloat16", "bfloat16", ""),
        ("FP8", "float8", ""),
        ("UInt8", "uint8", ""),
        ("N/A due to dynamic shapes", "", ""),
    ],
)
def test_formats_in_words(text, dtype, layout):
    assert (dtype_in(text), layout_in(text)) == (dtype, layout)


def test_the_lint_finds_what_was_put_in():
    found = by_rule(lint_layers(read_graph(OLD)))
    assert found == {
        "unfused-qdq": [("picture.QuantizeLinear", "note"), ("d.QuantizeLinear", "warning")],
        # The first layer reads pictures; its kernel is one for four channels, without tensor cores.
        "no-tensor-cores": [("net.stem + net.stem.relu", "warning"), ("net.float", "warning")],
        "misaligned-channels": [("net.odd", "warning")],
        "reformat": [
            ("Reformatting CopyNode for Input Tensor 0 to net.float/Conv", "warning"),
            ("wire/QuantizeLinear", "note"),
        ],
        "int8-fallback": [("net.float", "warning")],
    } | {"unfused-qdq": found["unfused-qdq"], "reformat": found["reformat"]}
    assert ("d.QuantizeLinear", "warning") in found["unfused-qdq"]
    assert ("Reformatting CopyNode for Input Tensor 0 to net.float/Conv", "warning") in found["reformat"]
    assert not [one for one in lint_layers(read_graph(INT8)) if one.severity == "warning"]


def test_times_give_shares_and_turn_cheap_moves_into_notes():
    graph = read_graph(OLD)
    times = {layer.name: 0.001 for layer in graph.layers} | {"net.wide/Conv": 1.0}
    found = lint_layers(graph, times)
    hot = next(one for one in found if one.rule == "hot-layer")
    assert (hot.layer, hot.share) == ("net.wide", pytest.approx(1.0 / 1.009))
    assert {one.severity for one in found if one.rule in ("reformat", "unfused-qdq")} == {"note"}
    table = rows(graph, times)
    assert sum(row["share"] for row in table) == pytest.approx(1)
    assert "99.1%" in to_text(graph, times)


def test_names_only_are_said_to_be_too_little():
    graph = parse_information(json.dumps({"Layers": ["w + Conv_9 + PWN(Relu_3)"], "Bindings": ["x", "y"]}))
    assert graph.layers[0].nodes == ("w", "Conv_9", "Relu_3")
    assert [one.rule for one in lint_layers(graph)] == ["not-detailed"]
    assert draw(graph).startswith("<svg")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"Layers": []}', "null"])
def test_what_is_no_layer_information_is_refused(text):
    with pytest.raises(LayerInfoError, match=r"no Layers|not JSON"):
        parse_information(text)


def test_the_form_of_the_log():
    assert from_log("Engine generation completed") is None
    text = (
        "Layers:\n"
        "Name: a: b, c_myl0, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [-1,3], Datatype: Half }, "
        "{ Name: y, Dimensions: [] }], Constants: [], TacticName: , StreamId: 0, "
        "Metadata: [ONNX Layer: m/A]\x1e[ONNX Layer: m/B, C]\n"
    )
    layer = from_log(text)["Layers"][0]
    assert layer["Inputs"] == [
        {"Name": "x", "Dimensions": [-1, 3], "Datatype": "Half"},
        {"Name": "y", "Dimensions": []},
    ]
    assert (layer["LayerType"], layer["TacticName"]) == ("kgen", "")
    assert parse_information(json.dumps({"Layers": [layer]})).layers[0].nodes == ("m/A", "m/B, C")


def test_difference_of_two_engines():
    same = compare_graphs(read_graph(OLD), read_graph(OLD))
    assert same.same
    assert same.counts == {"same": 10}
    found = compare_graphs(read_graph(FP16), read_graph(INT8), {"x": 1.0}, None)
    changed = {
        pair.layer: pair.changes
        for pair in found.pairs
        if pair.status == "changed" and "precision" in pair.changes
    }
    convolutions = [layer.title for layer in read_graph(FP16).layers if layer.heavy]
    assert all(changed[title]["precision"] == ("float16", "int8") for title in convolutions)
    text = json.loads(OLD.read_text(), strict=False)
    text["Layers"][2]["TacticName"] = "other"
    del text["Layers"][3]
    found = compare_graphs(read_graph(OLD), parse_information(json.dumps(text)))
    assert [pair.layer for pair in found.pairs if pair.status == "only in a"] == ["net.odd"]
    assert next(pair for pair in found.pairs if pair.status == "changed").changes["tactic"][1] == "other"
    assert "1 changed, 1 only in a, 8 same" in found.to_text()


def test_the_drawing_has_a_box_for_each_layer_and_a_line_for_each_tensor():
    graph = read_graph(INT8)
    root = ET.fromstring(draw(graph, {layer.name: 1.0 for layer in graph.layers}))
    space = "{http://www.w3.org/2000/svg}"
    boxes = list(root.iter(f"{space}g"))
    assert len(boxes) == sum(bool(layer.inputs or layer.outputs) for layer in graph.layers)
    assert len(list(root.iter(f"{space}path"))) == len(graph.edges)
    odd = EngineLayer("<&>", "Conv", outputs=(EngineTensor("a"),))
    from toolkit.engines.layers import EngineGraph

    ET.fromstring(draw(EngineGraph((odd,), (), (), "tensorrt10")))


def test_reformat_kernels_of_myelin_are_known_by_their_name():
    assert EngineLayer("__myl_Move_myl0_0", "kgen").is_reformat
    assert EngineLayer("__myl_TranMove_myl0_0", "kgen").is_reformat
    assert not EngineLayer("__myl_MulCastTran_myl0_0", "kgen").is_reformat


def test_times_are_read_from_trtexec_and_from_a_plain_table(tmp_path):
    path = tmp_path / "times.json"
    path.write_text(
        '[{"count": 10}, {"name": "a", "timeMs": 5, "averageMs": 0.5, "medianMs": 0.4, "percentage": 1}]'
    )
    assert read_times(path) == {"a": 0.4}
    path.write_text('{"a": 0.25}')
    assert read_times(path) == {"a": 0.25}
    path.write_text('[{"name": "a"}]')
    with pytest.raises(LayerInfoError, match="no times"):
        read_times(path)


def test_onnx_runtime_is_seen_to_run_floats_or_integers(tiny_path):
    graph = read_graph(tiny_path)
    heavy = [layer for layer in graph.layers if layer.heavy]
    assert [layer.modules for layer in heavy] == [("first",), ("second",)]
    assert {layer.precision for layer in heavy} == {"float32"}
    assert graph.outputs == ("wire",)


def test_a_build_without_a_gpu_leaves_its_layers_beside_the_engine(tiny_path, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)")
    settings = BuildSettings(engine="tensorrt_rtx", wire_step=0.02)
    built = build_engine(tiny_path, tmp_path / "edge.plan", settings)
    graph = read_graph(built.path)
    modules = {module for layer in graph.layers if layer.heavy for module in layer.modules}
    assert {"first", "second"} <= modules
    assert (graph.inputs, graph.outputs) == (("picture",), ("wire",))
    assert built.sidecar.build_peak_bytes > 0
    assert built.sidecar.build_device_mib is not None
    found = run(app, ["engine", "inspect", str(built.path), "--json", "--svg", str(tmp_path / "e.svg")])
    assert found.exit_code == 0
    assert len(json.loads(found.stdout)["layers"]) == len(graph.layers)
    assert (tmp_path / "e.svg").read_text().startswith("<svg")
    build_engine(tiny_path, built.path, BuildSettings())
    assert not layers_path(built.path).exists()
    with pytest.raises(LayerInfoError, match=r"edge\.plan\.layers\.json is not beside"):
        read_graph(built.path)


def test_the_commands(tmp_path):
    found = run(app, ["engine", "inspect", str(OLD)])
    assert "warning int8-fallback: net.float: runs in float16 although it was quantized" in found.stdout
    assert run(app, ["engine", "inspect", str(OLD), "--strict"]).exit_code == 1
    assert run(app, ["engine", "inspect", str(INT8), "--strict"]).exit_code == 0
    assert run(app, ["engine", "diff", str(OLD), str(OLD), "--strict"]).exit_code == 0
    differs = run(app, ["engine", "diff", str(FP16), str(INT8), "--strict", "--json"])
    assert differs.exit_code == 1
    assert json.loads(differs.stdout)["counts"]["changed"] >= 10
    assert isinstance(run(app, ["engine", "inspect", str(tmp_path / "none")]).exception, LayerInfoError)
