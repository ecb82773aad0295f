"""The split network: halves, BNNeck, tracing, export."""

import dataclasses
from pathlib import Path

import pytest
import torch

from toolkit.errors import ModelError
from toolkit.models.architecture import Architecture
from toolkit.models.halves import CloudHalf, EdgeHalf
from toolkit.models.network import ReidNet, build_network
from toolkit.models.registry import BACKBONES

TINY = Architecture("resnet18", "layer2", identities=5, width=0.125)


def _mid_cut(name: str) -> str:
    return {"mobilenet_v2": "features.6", "vgg16_bn": "features.12"}.get(name, "layer2")


@pytest.mark.parametrize("name", BACKBONES)
def test_halves_compose_to_the_network(name: str) -> None:
    net = build_network(Architecture(name, _mid_cut(name), 3, width=0.125)).eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        whole = net(x)
        assert torch.equal(CloudHalf(net)(EdgeHalf(net)(x)), whole)
        step = x
        for _, block in net.edge_blocks():
            step = block(step)
        assert torch.equal(step, net.edge(x))
    assert [block for block, _ in net.edge_blocks()] == list(net.backbone.block_names[: net.cut_index + 1])


def test_normalization_is_inside_the_edge() -> None:
    net = build_network(TINY).eval()
    x = torch.rand(1, 3, 32, 32)
    mean, std = torch.tensor(TINY.mean).view(1, 3, 1, 1), torch.tensor(TINY.std).view(1, 3, 1, 1)
    expected = net.backbone.forward_range((x - mean) / std, 0, net.cut_index)
    torch.testing.assert_close(net.edge(x), expected)


def test_heads_are_the_three_places_of_the_neck() -> None:
    net = build_network(TINY).train()
    heads = net.heads(net.edge(torch.rand(4, 3, 32, 32)))
    assert heads.pooled.shape == heads.embedding.shape == (4, 64)
    assert heads.logits.shape == (4, 5)
    torch.testing.assert_close(heads.embedding.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(heads.logits, heads.embedding @ net.classifier.weight.T)
    assert not net.neck.bias.requires_grad
    assert net.classifier.bias is None


def test_training_forward_reaches_every_trainable_parameter() -> None:
    net = build_network(dataclasses.replace(TINY, pooling="gem", embedding=12)).train()
    embedding, logits = net.training_forward(torch.rand(4, 3, 32, 32))
    assert embedding.shape == (4, 12)
    (embedding.square().sum() + logits.square().sum()).backward()
    without = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_gem_with_exponent_one_is_the_average_and_a_large_one_the_maximum() -> None:
    net = build_network(dataclasses.replace(TINY, pooling="gem"))
    x = torch.rand(2, 3, 4, 4) + 0.1
    pool = net.pool
    with torch.no_grad():
        pool.p.fill_(1.0)
        torch.testing.assert_close(pool(x), x.mean((2, 3), keepdim=True))
        pool.p.fill_(60.0)
        torch.testing.assert_close(pool(x), x.amax((2, 3), keepdim=True), rtol=0.06, atol=0)


def test_seed_alone_fixes_the_weights_and_the_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = build_network(TINY, 3), build_network(TINY, 3), build_network(TINY, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_cut_at_the_very_end_leaves_pooling_to_the_cloud() -> None:
    net = build_network(dataclasses.replace(TINY, cut="layer4")).eval()
    feature = net.edge(torch.rand(1, 3, 64, 64))
    assert feature.shape == (1, 64, 2, 2)
    torch.testing.assert_close(net.pooled(feature), feature.mean((2, 3)))


def test_cut_deeper_than_the_backbone_is_refused() -> None:
    with pytest.raises(ModelError, match="cut points"):
        ReidNet(dataclasses.replace(TINY, cut="layer7"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "alexnet"}, "alexnet"),
        ({"identities": 0}, "identity"),
        ({"pooling": "max"}, "gap, gem"),
        ({"embedding": -1}, "embedding"),
        ({"std": (0.0, 1.0, 1.0)}, "std"),
    ],
)
def test_wrong_architectures_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        dataclasses.replace(TINY, **change)


def test_architecture_survives_json() -> None:
    architecture = dataclasses.replace(TINY, pooling="gem", mean=(0.5, 0.25, 0.125))
    assert Architecture.from_json(architecture.to_json()) == architecture


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"backbone": "resnet18"}', '{"backbone": "resnet18", "cut": "stem", "identities": 1, "x": 0}'],
)
def test_foreign_architecture_text_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        Architecture.from_json(text)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_tracing_pruner_can_shrink_it(name: str) -> None:
    tp = pytest.importorskip("torch_pruning")
    cut = _mid_cut(name)
    net = build_network(Architecture(name, cut, 3, width=0.25)).eval()
    x = torch.rand(2, 3, 32, 32)
    graph = tp.DependencyGraph().build_dependency(net, x, forward_fn=lambda m, i: m.training_forward(i))
    before = net.backbone.channels_at(cut)
    module = [m for m in net.backbone.block_modules(net.cut_index)[0].modules() if isinstance(m, torch.nn.Conv2d)]
    last = module[-1] if name != "vgg16_bn" else net.backbone.block_modules(net.cut_index)[0]
    group = graph.get_pruning_group(last, tp.prune_conv_out_channels, [0, 1])
    assert graph.check_pruning_group(group)
    group.prune()
    assert net.backbone.channels_at(cut) == before - 2
    assert net.edge(x).shape[1] == before - 2
    assert net.training_forward(x)[1].shape == (2, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exported_half_holds_its_own_weights_only(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    net = build_network(dataclasses.replace(TINY, cut="layer1")).eval()
    x = torch.rand(1, 3, 32, 32)
    names: dict[str, set[str]] = {}
    for half, example in ((EdgeHalf(net), x), (CloudHalf(net), net.edge(x).detach())):
        path = tmp_path / f"{type(half).__name__}.onnx"
        torch.onnx.export(half, (example,), str(path), opset_version=17, dynamo=False, do_constant_folding=False)
        names[path.stem] = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert any("layer1.1" in name for name in names["EdgeHalf"])
    assert not any("layer2" in name or "neck" in name for name in names["EdgeHalf"])
    assert not any("layer1." in name or "classifier" in name for name in names["CloudHalf"])


def test_channels_last_survives_to_the_feature_and_bfloat16_trains() -> None:
    net = build_network(TINY).train().to(memory_format=torch.channels_last)
    x = torch.rand(4, 3, 32, 32).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        feature = net.edge(x)
        heads = net.heads(feature)
    assert feature.is_contiguous(memory_format=torch.channels_last)
    heads.logits.float().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
