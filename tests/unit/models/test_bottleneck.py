import pytest
import torch

from toolkit.errors import ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.groups import find_groups
from toolkit.models.masks import MaskSet
from toolkit.models.network import build_network
from toolkit.patrol.cost import edge_cost, edge_parameters, share_of_split
from toolkit.settings import ModelSettings
from toolkit.surgery import apply_plan, cost, deviation, plan_from_masks, rebuild
from toolkit.surgery.proposal import PlanSettings

SIDE = 64


def network(**options):
    return build_network(Architecture("resnet18", "layer2", 5, width=0.25, **options), seed=1).eval()


def example(count=1):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("pool", "side"), [(1, 8), (2, 4), (4, 2)])
def test_fewer_channels_and_positions_are_sent(pool, side):
    net = network(bottleneck=6, bottleneck_pool=pool)
    feature = net.edge(example(2))
    assert feature.shape == (2, 6, side, side)
    assert feature.min() >= 0
    assert net.cloud(feature).shape == (2, net.backbone.out_channels)


def test_without_one_nothing_changes():
    plain, same = network(), network(bottleneck=0)
    assert plain.state_dict().keys() == same.state_dict().keys()
    assert "squeeze" not in " ".join(plain.state_dict())
    assert "bottleneck" not in ModelSettings().model_dump()
    assert ModelSettings(bottleneck=4).model_dump()["bottleneck_pool"] == 1


def test_blocks_compose_to_the_edge_half_with_the_bottleneck_last():
    net = network(bottleneck=6)
    blocks = net.edge_blocks()
    x = example()
    for _, block in blocks:
        x = block(x)
    assert blocks[-1][0] == "squeeze"
    assert torch.equal(x, net.edge(example()))


def test_it_belongs_to_the_edge_halfs_cost_and_not_to_an_earlier_split():
    net = network(bottleneck=6)
    masks = MaskSet(find_groups(net, example()))
    counted = edge_cost(net, masks, (SIDE, SIDE), "macs", 1)
    assert counted.full == cost(net, example(), half="edge").macs
    assert "squeeze.0.weight" in edge_parameters(net)
    earlier = network().backbone.index_of("layer1")
    assert "squeeze.0.weight" not in edge_parameters(net, earlier)
    plain = build_network(Architecture("resnet18", "layer1", 5, width=0.25))
    dense = cost(plain, example(), half="edge").macs
    assert share_of_split(net, counted, "layer1") == pytest.approx(dense / counted.full)


def test_surgery_cuts_its_channels_exactly():
    net = network(bottleneck=8)
    masks = MaskSet(find_groups(net, example()))
    values = {name: value.detach().clone() for name, value in masks.values().items()}
    members = {group.name: [(m.parameter, m.dim) for m in group.members] for group in masks.groups}
    wire = next(name for name, own in members.items() if ("squeeze.0.weight", 0) in own)
    assert ("expand.0.weight", 1) in members[wire]
    values[wire][:3] = 0
    masks.set_(values)
    plan = plan_from_masks(net, masks, PlanSettings(align=1), example())
    slim = apply_plan(net, masks, plan, example())
    assert len(plan.wire.kept) == 5
    assert slim.edge(example()).shape[1] == 5
    masks.attach(net)
    assert deviation(net, slim, example(4)).relative < 1e-5
    masks.detach()
    again = rebuild(net.architecture, plan)
    again.load_state_dict(slim.state_dict())
    assert torch.equal(again.eval().edge(example()), slim.eval().edge(example()))


@pytest.mark.parametrize(
    "wrong", [{"bottleneck": -1}, {"bottleneck_pool": 2}, {"bottleneck": 4, "bottleneck_pool": 0}]
)
def test_impossible_ones_are_refused(wrong):
    with pytest.raises(ModelError, match="bottleneck"):
        Architecture("resnet18", "layer2", 5, **wrong)
