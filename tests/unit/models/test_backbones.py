"""Backbones: names, shapes, cuts. Known answers are torchvision's published parameter counts."""

import pytest
import torch

from toolkit.errors import ModelError
from toolkit.models.registry import BACKBONES, build_backbone, cut_points

PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet50_ibn_a": 25_557_032 - 2_049_000,
    "mobilenet_v2": 3_504_872 - 1_281_000,
    "vgg16_bn": 138_365_992 - 123_642_856,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    assert sum(p.numel() for p in build_backbone(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_block_has_the_channels_and_stride_it_says(name: str) -> None:
    backbone = build_backbone(name, width=0.25).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for index, block in enumerate(backbone.block_names):
            x = backbone.run_block(index, x)
            assert x.shape[1] == backbone.channels_at(block), block
            assert x.shape[2] == 64 // backbone.stride_at(block), block
            if backbone.nonnegative_at(block):
                assert x.min() >= 0, block
    assert backbone.out_channels == x.shape[1]


@pytest.mark.parametrize("name", BACKBONES)
def test_ranges_chain_to_the_whole(name: str) -> None:
    backbone = build_backbone(name, width=0.25).eval()
    x = torch.rand(2, 3, 32, 32)
    last = len(backbone.block_names) - 1
    with torch.no_grad():
        half = backbone.forward_range(x, 0, last // 2)
        assert torch.equal(backbone.forward_range(half, last // 2 + 1, last), backbone(x))
        assert backbone.forward_range(half, 3, 2) is half


@pytest.mark.parametrize("name", BACKBONES)
def test_last_stride_one_doubles_the_last_map(name: str) -> None:
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        coarse = build_backbone(name, width=0.25).eval()(x)
        fine_net = build_backbone(name, width=0.25, last_stride=1).eval()
        fine = fine_net(x)
    assert fine.shape[2] == 2 * coarse.shape[2]
    assert fine_net.stride_at(len(fine_net.block_names) - 1) == 16


def test_stage_alias_is_the_last_block_of_the_stage() -> None:
    backbone = build_backbone("resnet34", width=0.25)
    assert backbone.block_names[backbone.index_of("layer2")] == "layer2.3"
    assert backbone.index_of("stem") == 0
    assert len(backbone.block_names) == 1 + 3 + 4 + 6 + 3


@pytest.mark.parametrize("cut", ["layer5", "layer4.2", "layer1.9", "", "fc", 9, -1])
def test_unknown_cut_lists_the_cut_points(cut: str | int) -> None:
    with pytest.raises(ModelError, match=r"cut points: .*layer2.*stem.*layer4\.1"):
        build_backbone("resnet18", width=0.25).index_of(cut)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet19", {}, "resnet18"),
        ("resnet18", {"last_stride": 3}, "last_stride"),
        ("resnet18", {"width": 0}, "width"),
        ("resnet18", {"colour": 1}, "colour"),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_backbone(name, **arguments)


def test_zero_init_residual_makes_blocks_the_identity() -> None:
    backbone = build_backbone("resnet18", width=0.25, zero_init_residual=True).eval()
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(backbone.run_block(1, x), x)


def test_state_dict_names_are_torchvisions() -> None:
    names = set(build_backbone("resnet50", width=0.25).state_dict())
    assert len(names) == 318  # torchvision's 320 less fc.weight and fc.bias
    expected = {"conv1.weight", "bn1.running_mean", "layer1.0.conv3.weight", "layer4.2.bn3.num_batches_tracked"}
    assert expected <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias"} <= names
    ibn = set(build_backbone("resnet50_ibn_a", width=0.25).state_dict())
    assert {"layer1.0.bn1.IN.weight", "layer3.5.bn1.BN.running_var", "layer4.0.bn1.weight"} <= ibn
    assert "layer1.0.bn1.IN.running_mean" not in ibn


def test_channels_follow_the_modules() -> None:
    backbone = build_backbone("resnet18", width=0.25)
    backbone.get_submodule("layer2")[1] = torch.nn.Identity()  # type: ignore[operator]
    assert backbone.channels_at("layer2") == backbone.channels_at("layer2.0") == 32


def test_mobilenet_and_vgg_names_are_torchvisions() -> None:
    mobilenet = build_backbone("mobilenet_v2")
    shapes = {name: tuple(value.shape) for name, value in mobilenet.state_dict().items()}
    assert len(shapes) == 312  # torchvision's 314 less classifier.1.weight and .bias
    assert shapes["features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert shapes["features.2.conv.2.weight"] == (24, 96, 1, 1)
    assert shapes["features.18.1.running_mean"] == (1280,)
    vgg = build_backbone("vgg16_bn", width=0.125)
    names = set(vgg.state_dict())
    assert {"features.0.bias", "features.40.weight", "features.41.running_var"} <= names
    assert "features.43" in vgg.block_names
    assert vgg.block_names[vgg.index_of("stage1")] == "features.5"
    assert "features.43" not in build_backbone("vgg16_bn", width=0.125, last_stride=1).block_names


def test_cut_points_are_known_without_weights() -> None:
    assert cut_points("resnet18")[:6] == ("layer1", "layer2", "layer3", "layer4", "stem", "layer1.0")
    assert cut_points("mobilenet_v2")[-1] == "features.18"
    with pytest.raises(ModelError):
        cut_points("resnet")
