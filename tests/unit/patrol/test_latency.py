"""A latency budget: predicted for a named Jetson, met by the upper end of the interval."""

import pytest
import torch
from pydantic import ValidationError

from targets.jetson.catalogue import device_of
from targets.jetson.predictor import predict
from tests.unit.patrol.small import SIDE, patrol_settings, small_data, small_net
from toolkit.errors import SettingsError, TrainingError
from toolkit.export import ExportSettings, export_halves
from toolkit.models.groups import find_blocks, find_groups
from toolkit.models.masks import MaskSet
from toolkit.patrol.latency import latency_cost
from toolkit.patrol.settings import LatencyBudget, MaskSettings
from toolkit.patrol.training import train_patrol
from toolkit.planning.edge import check_latency, read_edge_layers
from toolkit.planning.layers import layers_from_onnx
from toolkit.preprocess import Preprocess
from toolkit.surgery import PlanSettings, apply_plan, plan_from_masks
from toolkit.wire import WireFormat

DEVICE = "nano-4gb@MAXN"
BIG = (128, 128)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def vgg(width=0.5):
    return small_net(backbone="vgg16_bn", cut="stage2", width=width)


def masks_of(net, size=(SIDE, SIDE), blocks=False):
    example = torch.zeros(1, 3, *size)
    return MaskSet(find_groups(net, example), find_blocks(net, example) if blocks else ())


def cost_of(net, size=BIG, align=1, device=DEVICE, precision="fp16", masks=None):
    budget = LatencyBudget(device=device, precision=precision, max_ms=1.0)
    return latency_cost(net, masks or masks_of(net, size), size, budget, align, read_edge_layers)


def width_of(cost, share):
    return {name: max(1, round(share * size)) if size else 1 for name, size in cost.sizes.items()}


@pytest.mark.parametrize(
    ("backbone", "cut"), [("resnet18", "layer2"), ("mobilenet_v2", "features.4"), ("vgg16_bn", "stage2")]
)
def test_resized_layers_are_those_of_the_narrow_network(backbone, cut):
    net = small_net(backbone=backbone, cut=cut, width=0.25)
    masks = masks_of(net)
    generator = torch.Generator().manual_seed(0)
    for value in masks.values().values():
        gone = torch.rand(value.shape, generator=generator) < 0.4
        value.data[gone & (torch.arange(len(value)) > 0)] = 0.0
    kept = {name: int((value > 0).sum()) for name, value in masks.values().items()}
    cost = cost_of(net, (SIDE, SIDE), masks=masks)
    plan = plan_from_masks(net, masks, PlanSettings(align=1, borders="approximate"))
    slim = read_edge_layers(apply_plan(net, masks, plan), (SIDE, SIDE)).graph
    for ours, theirs in zip(cost.resized(kept).layers, slim.layers, strict=True):
        for name in ("kind", "in_channels", "out_channels", "groups", "macs", "inputs", "outputs", "weights"):
            assert getattr(ours, name) == getattr(theirs, name), (ours.name, name)


def test_the_layers_are_those_of_the_exported_file(tmp_path):
    net = vgg(0.25)
    found = read_edge_layers(net, (SIDE, SIDE)).graph
    _, module, mode = export(net, tmp_path)
    exported = layers_from_onnx(tmp_path / "edge.onnx")
    ours, theirs = (predict(graph, module, mode, "fp16").latency_ms.value for graph in (found, exported))
    assert ours == pytest.approx(theirs, rel=0.02)


def export(net, folder):
    net.eval()
    with torch.no_grad():
        _, channels, height, width = net.edge(torch.zeros(1, 3, SIDE, SIDE)).shape
    fmt = WireFormat(channels, height, width, 8, 0.05, False)
    preprocess = Preprocess(height=SIDE, width=SIDE)
    result = export_halves(net, fmt, preprocess, small_data().pictures, folder, ExportSettings())
    return result, *device_of(DEVICE)


def test_attached_masks_do_not_change_the_layers():
    net = small_net()
    masks = masks_of(net)
    plain = read_edge_layers(net, (SIDE, SIDE))
    masks.attach(net)
    net.train()
    assert read_edge_layers(net, (SIDE, SIDE)) == plain
    assert net.training
    masks.detach()


def test_the_smooth_model_equals_the_prediction_at_full_width_and_falls():
    cost = cost_of(vgg())
    smooth = cost.smooth()
    assert smooth.full == pytest.approx(cost.full)
    assert cost.full == pytest.approx(cost.prediction(width_of(cost, 1)).latency_ms.high)
    widths = [smooth(width_of(cost, share / 16)) for share in range(17)]
    assert widths == sorted(widths) and widths[0] < 0.5 * widths[-1]


def test_the_smooth_target_is_where_the_prediction_meets_the_budget():
    cost = cost_of(vgg())
    target = 0.6 * cost.full
    aim = cost.smooth_target(target)
    met = [share for share in range(65) if cost.smooth()(width_of(cost, share / 64)) <= aim * (1 + 1e-9)]
    assert cost(width_of(cost, met[-1] / 64)) <= target
    assert cost.smooth_target(2 * cost.full) == pytest.approx(cost.full)


def test_a_block_that_goes_takes_its_launches_along():
    net = small_net(cut="layer1")
    cost = cost_of(net, (SIDE, SIDE), masks=masks_of(net, blocks=True))
    whole = {name: size or 1 for name, size in cost.sizes.items()}
    gone = cost(whole | {"block:backbone.layer1.1": 0})
    assert 0.5 < gone / cost.full < 0.9


@pytest.mark.parametrize("align", [1, 8])
def test_training_ends_within_the_budget(tmp_path, align):
    """What is exported in the end is predicted, with the upper end of its interval, to be within the limit."""
    net = vgg()
    masks = masks_of(net)
    dense = cost_of(net, (SIDE, SIDE))
    least = dense(width_of(dense, 0))
    limit = least + 0.5 * (dense.full - least)
    settings = patrol_settings(
        {"epochs": 6}, lipschitz=None, adversary=None,
        masks=MaskSettings(latency=LatencyBudget(device=DEVICE, max_ms=limit), prune_fraction=0.5, align=align),
    )  # fmt: skip
    fmt = WireFormat(64, SIDE // 2, SIDE // 2, 8, 0.05, False)
    history = train_patrol(net, masks, small_data(), fmt, settings, tmp_path, read_layers=read_edge_layers)
    plan = plan_from_masks(net, masks, PlanSettings(align=align))
    slim = apply_plan(net, masks, plan)
    _, module, mode = export(slim, tmp_path)
    found = predict(layers_from_onnx(tmp_path / "edge.onnx"), module, mode, "fp16").latency_ms
    assert found.high <= limit
    assert found.high > 0.75 * limit  # little is left unused
    assert history.last("masks.cost") * dense.full <= limit * (1 + 1e-9)
    budget = LatencyBudget(device=DEVICE, max_ms=limit)
    assert check_latency(slim, (SIDE, SIDE), budget).latency_ms.high <= limit
    with pytest.raises(TrainingError, match=r"slim edge half is predicted to take up to .* ms on nano-4gb"):
        check_latency(vgg(), (SIDE, SIDE), budget)


def test_a_budget_below_the_launches_is_refused_with_the_smallest_that_can_be_met(tmp_path):
    net = small_net()
    budget = LatencyBudget(device="orin-nano-8gb@15W", precision="int8", max_ms=0.01)
    masks = MaskSettings(latency=budget)
    cost = cost_of(net, (SIDE, SIDE), device=budget.device, precision="int8")
    smallest = f"{cost(width_of(cost, 0)):.3g}"
    fmt = WireFormat(16, 4, 4, 8, 0.05, False)
    run = (small_data(), fmt, patrol_settings(masks=masks), tmp_path)
    with pytest.raises(TrainingError, match=rf"up to {smallest} ms, \d+ % of it in layers .* launch; raise"):
        train_patrol(net, masks_of(net), *run, read_layers=read_edge_layers)
    with pytest.raises(SettingsError, match=r"masks\.latency needs the edge half's layers"):
        train_patrol(net, masks_of(net), *run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": {"device": "orin-nona", "max_ms": 1}}, "did you mean"),
        ({"latency": {"device": "orin-nano-8gb@99W", "max_ms": 1}}, "no power mode 99W"),
        ({"latency": {"device": "orin-nano-8gb", "max_ms": 0}}, "greater than 0"),
        ({"latency": {"device": "orin-nano-8gb", "max_ms": 1}, "as_split": "layer1"}, "two budgets"),
    ],
)
def test_settings_that_name_no_budget(options, message):
    with pytest.raises(ValidationError, match=message):
        MaskSettings(**options)
