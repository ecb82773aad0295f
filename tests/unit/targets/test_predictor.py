"""The predictor obeys what is known of the hardware, and its frozen coefficients meet what was published."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.predictor_rows import ELIGIBLE, build, load, memory
from targets.errors import PredictionError
from targets.jetson.catalogue import find_module
from targets.jetson.layers import Layer, LayerGraph, Tensor
from targets.jetson.predictor import predict
from targets.jetson.predictor.predict import device_of, fitted_model
from targets.jetson.predictor.table import PRECISIONS, tabulate
from toolkit.planning.layers import fuse


def convolution(channels=256, side=28, kernel=3, out=None, quantized=False):
    out = out or channels
    size = side * side
    return Layer(
        "c", "conv", ("Conv", "Relu"), (Tensor(channels * size),), (Tensor(out * size, producer=0),), quantized,
        size * channels * out * kernel**2, channels * out * kernel**2, channels, out, 1, (kernel, kernel), size,
        "relu",
    )  # fmt: skip


def network(*layers):
    return LayerGraph("test", 1, tuple(layers))


def milliseconds(graph, key="orin-nano-8gb", mode="15W", precision="fp16"):
    module = find_module(key)
    return predict(graph, module, module.mode(mode), precision).latency_ms.value


RESNET50 = fuse(build("resnet50@224"), "resnet50")


def test_everything_is_labelled_predicted_and_has_an_interval():
    module = find_module("orin-nano-8gb")
    found = predict(RESNET50, module, module.mode("15W"), "fp16")
    assert found.provenance == "predicted" and found.module == "orin-nano-8gb" and found.mode == "15W"
    for value in (found.latency_ms, found.memory_mb, found.energy_mj):
        assert 0 < value.low < value.value < value.high
    assert len(found.layers) == len(RESNET50.layers) and {layer.bound for layer in found.layers} <= {
        "compute", "memory", "launch",
    }  # fmt: skip
    total = sum(layer.ms for layer in found.layers)
    assert found.latency_ms.value == pytest.approx(total, abs=0.2)
    assert json.loads(json.dumps(found.to_dict()))["provenance"] == "predicted"


def test_equal_layers_counted_once_cost_the_same():
    table = tabulate(RESNET50, "int8")
    assert len(table.unique()) < len(table) and table.unique().repeats.sum() == len(table)


def test_lower_clocks_and_fewer_sms_are_slower():
    big = network(convolution(512, 56))
    times = [milliseconds(big, "agx-orin-64gb", mode) for mode in ("MAXN", "50W", "30W", "15W")]
    assert times == sorted(times) and times[-1] > 3 * times[0]


def test_precision_order_on_a_large_convolution():
    big = network(convolution(512, 56))
    fp32, fp16, int8 = (milliseconds(big, precision=p) for p in PRECISIONS)
    assert fp32 > fp16 > int8 > fp16 / 3


def test_half_the_channels_do_not_halve_the_time():
    """Pruning every channel group of ResNet-50 by half leaves a quarter of the MACs."""
    half = network(*[convolution(128, 14) for _ in range(16)])
    full = network(*[convolution(256, 14) for _ in range(16)])
    assert half.macs * 4 == full.macs
    assert milliseconds(half, precision="int8") > 0.4 * milliseconds(full, precision="int8")


@pytest.mark.parametrize(("precision", "step"), [("int8", 32), ("fp16", 8)])
def test_channels_between_two_multiples_cost_as_much_as_the_next(precision, step):
    aligned, odd = (network(convolution(n, 56)) for n in (4 * step, 3 * step + 1))
    assert milliseconds(odd, precision=precision) > 0.9 * milliseconds(aligned, precision=precision)


def test_small_layers_are_bound_by_launches_and_large_products_are_not():
    module = find_module("agx-orin-64gb")
    tiny = predict(network(convolution(16, 4)), module, module.mode("MAXN"), "fp16")
    large = predict(network(convolution(512, 112)), module, module.mode("MAXN"), "fp16")
    weights = predict(network(convolution(4096, 1, 1)), module, module.mode("MAXN"), "fp16")
    assert [p.layers[0].bound for p in (tiny, large, weights)] == ["launch", "compute", "memory"]


def test_a_reformat_between_precisions_costs_time():
    chain = [convolution(64, 56, quantized=i % 2 == 0) for i in range(6)]
    linked = [replace(c, inputs=(Tensor(64 * 56**2, producer=i - 1),)) for i, c in enumerate(chain)]
    joined = [replace(c, quantized=i < 3) for i, c in enumerate(linked)]
    assert milliseconds(network(*linked), precision="int8") > milliseconds(network(*joined), precision="int8")


def test_modules_without_int8_and_without_rows_say_so():
    for key, words in (("nano-4gb", "no fast INT8"), ("thor-t5000", "no published row")):
        module = find_module(key)
        found = predict(RESNET50, module, module.mode("MAXN"), "int8")
        assert any(words in note for note in found.notes)
    ampere, thor = fitted_model().spread["ampere"], fitted_model().spread["blackwell"]
    assert thor > ampere + 0.5
    assert found.energy_mj is None


def test_refusals():
    module = find_module("thor-t5000")
    with pytest.raises(PredictionError, match="not published"):
        device_of(module, module.mode("120W"))
    with pytest.raises(PredictionError, match="none of fp32"):
        predict(RESNET50, module, module.mode("MAXN"), "int4")
    with pytest.raises(PredictionError, match="no layers"):
        tabulate(network(), "fp16")


@pytest.mark.parametrize(("key", "gmac", "mparam"), [
    ("resnet18@224", 1.814, 11.69), ("resnet50@224", 4.089, 25.56), ("vgg19@224", 19.63, 143.67),
    ("mobilenet_v3_large@224", 0.217, None), ("shufflenet_v2_x1_0@224", 0.145, 2.28),
    ("mnasnet1_0@224", 0.314, 4.38),
    ("yolox_s@640", 13.4, 8.97), ("yolox_m@640", 36.9, 25.3), ("ssd_resnet34@1200", 216.5, None),
    ("ssd_mobilenet@300", 1.235, 6.91),
])  # fmt: skip
def test_rebuilt_networks_have_the_published_size(key, gmac, mparam):
    graph = fuse(build(key), key)
    assert graph.macs / 1e9 == pytest.approx(gmac, rel=0.01)
    if mparam:
        assert graph.weights / 1e6 == pytest.approx(mparam, rel=0.02)


def test_the_frozen_table_gives_a_reason_for_every_row_left_out():
    import csv

    with ELIGIBLE.open(encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    assert len(rows) == 574
    assert all(row["eligible"] == "yes" or row["reason"] for row in rows)
    assert not [row["model"] for row in rows if "not rebuilt" in row["reason"] and "GPL" not in row["reason"]]
    eligible = [row for row in rows if row["eligible"] == "yes"]
    attention = ("vit_tiny", "efficientformer_l1", "mobilevit_s", "depth_anything_v2_s", "depth_anything_v2_b")
    assert {*attention, "pidnet_s"} <= {row["graph"].split("@")[0] for row in eligible} and len(eligible) == 191
    assert all(float(row["ms"]) > 0 and float(row["ghz"]) > 0 for row in eligible)


def test_what_the_fit_takes_from_a_row():
    rows = load()
    assert sum(row.watts is not None for row in rows) == 12, "power at the supply alone"
    assert memory("3 classes head; GPU mem 23.0 MB CPU mem - MB as reported") == "23.0"
    assert memory("GPU mem 695.0 MB CPU mem 601.0 MB") == "" and memory("no such note") == ""
    (depth,) = [row for row in rows if row.model == "depth_anything_v2_b"]
    assert (depth.sms, depth.ghz, depth.documented) == (8, 0.67, False)


@pytest.mark.parametrize("gain", ["product", "window"])
def test_products_and_windows_have_a_cost_of_their_own(gain):
    """The coefficient moves the layers it is for, and no convolution."""
    kind = "gemm" if gain == "product" else "pool"
    one = replace(convolution(512, 28, 1), kind=kind)
    values = {name: dict(fitted_model().coefficients[name]) for name in fitted_model().coefficients}
    values["ampere"][gain] *= 1.5
    other = replace(fitted_model(), coefficients=values)
    module = find_module("orin-nano-8gb")
    before, after = (
        predict(network(one, convolution()), module, module.mode("15W"), "fp16", model).layers
        for model in (fitted_model(), other)
    )
    assert before[1] == after[1] and (after[0].ms < before[0].ms) == (gain == "product")


def test_shipped_coefficients_meet_the_published_rows():
    """Not a held-out test (that is benchmarks/predictor.py): it guards the shipped file against damage."""
    rows = [row for row in load() if row.documented and row.model == "resnet50"]
    errors = []
    for row in rows:
        module = find_module(row.module)
        mode = replace(module.mode("MAXN" if row.module != "xavier-nx-8gb" else "20W_6CORE"), sms=int(row.sms))
        emc = row.gbps * 1000 * 8 / 2 / module.value("memory_bus_bits")
        mode = replace(mode, gpu_mhz=row.ghz * 1000, emc_mhz=emc)
        found = predict(RESNET50, module, mode, row.precision).latency_ms
        errors.append(abs(found.value / row.ms - 1))
    assert len(errors) > 10 and np.median(errors) < 0.2


def test_notes_say_what_of_a_mode_is_assumed():
    """Only what the prediction rests on; not how many CPU cores there are, or which mode is the default."""
    nano, orin = find_module("nano-4gb"), find_module("orin-nano-8gb")
    (note,) = [n for n in predict(network(convolution()), nano, nano.mode("MAXN"), "fp16").notes if "mode" in n]
    assert note == "mode MAXN: its memory clock is assumed; no source states it"
    assert not [n for n in predict(network(convolution()), orin, orin.mode("15W"), "fp16").notes if "mode" in n]
    all_of_it = replace(orin.mode("15W"), source="unverified")
    found = predict(network(convolution()), orin, all_of_it, "fp16").notes
    assert any("its number of SMs, GPU clock and memory clock are assumed" in note for note in found)
