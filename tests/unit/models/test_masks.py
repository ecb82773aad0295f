"""Soft masks: what they multiply, their gradients, their refusals."""

import pytest
import torch
from torch import nn

from tests.unit.surgery import zoo
from toolkit.models.groups import GroupError, survey
from toolkit.models.masks import MaskSet


def _masked() -> tuple[nn.Module, MaskSet]:
    torch.manual_seed(0)
    net = zoo.resnet_basic().eval()
    found = survey(net, torch.rand(1, 3, 16, 16))
    return net, MaskSet(found.groups, found.blocks)


def test_ones_change_nothing_and_detach_restores() -> None:
    net, masks = _masked()
    x = torch.rand(2, 3, 16, 16)
    dense = net(x)
    masks.attach(net)
    assert torch.equal(net(x), dense)
    masks.set_({"stem.0": torch.zeros(16)})
    assert not torch.equal(net(x), dense)
    masks.detach()
    assert torch.equal(net(x), dense)
    assert "channel_masks" not in str(list(net.state_dict()))


def test_the_mask_multiplies_after_normalization() -> None:
    net, masks = _masked()
    value = torch.linspace(0, 1, 16)
    masks.set_({"stages.0.0.conv1": value})
    seen: dict[str, torch.Tensor] = {}
    x = torch.rand(2, 3, 16, 16)
    bn1 = net.get_submodule("stages.0.0.bn1")
    plain = bn1.register_forward_hook(lambda m, a, out: seen.__setitem__("plain", out))
    masks.attach(net)
    masked = bn1.register_forward_hook(lambda m, a, out: seen.__setitem__("masked", out))
    net(x)
    plain.remove(), masked.remove()
    torch.testing.assert_close(seen["masked"], seen["plain"] * value.view(1, -1, 1, 1), rtol=0, atol=0)


def test_a_block_mask_of_zero_leaves_the_shortcut() -> None:
    net, masks = _masked()
    masks.set_({"block:stages.0.0": torch.tensor(0.0)})
    masks.attach(net)
    block = net.get_submodule("stages.0.0")
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(block(x), x)


def test_gradients_reach_every_mask() -> None:
    net, masks = _masked()
    masks.attach(net.train())
    net(torch.rand(4, 3, 16, 16)).square().sum().backward()
    assert all(m.grad is not None and bool(m.grad.abs().sum() > 0) for m in masks.parameters())


def test_autocast_and_channels_last() -> None:
    net, masks = _masked()
    masks.attach(net.to(memory_format=torch.channels_last))
    x = torch.rand(2, 3, 16, 16).to(memory_format=torch.channels_last)
    outputs: list[torch.Tensor] = []
    net.get_submodule("stem.1").register_forward_hook(lambda m, a, out: outputs.append(out))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(x)
    assert outputs[0].dtype == torch.bfloat16
    assert outputs[0].is_contiguous(memory_format=torch.channels_last)


def test_a_masked_network_can_be_traced_for_export() -> None:
    net, masks = _masked()
    masks.set_({"stem.0": torch.linspace(0, 1, 16)})
    masks.requires_grad_(False).attach(net)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        traced = torch.jit.trace(net, x)
        torch.testing.assert_close(traced(x), net(x))


def test_state_zero_fraction_and_order() -> None:
    _, masks = _masked()
    total = sum(m.numel() for m in masks.channel_masks)
    masks.set_({"stem.0": torch.tensor([0.0] * 4 + [1.0] * 12)})
    assert masks.zero_fraction() == pytest.approx(4 / total)
    other = _masked()[1]
    other.load_state_dict(masks.state_dict())
    assert other.zero_fraction() == masks.zero_fraction()
    assert list(masks.values()) == list(other.values())


def test_wrong_use_is_refused() -> None:
    net, masks = _masked()
    with pytest.raises(GroupError, match="no mask 'nowhere'"):
        masks.set_({"nowhere": torch.ones(1)})
    with pytest.raises(GroupError, match=r"needs \(16,\) finite values"):
        masks.set_({"stem.0": torch.ones(15)})
    with pytest.raises(GroupError, match="finite"):
        masks.set_({"stem.0": torch.full((16,), float("nan"))})
    masks.attach(net)
    with pytest.raises(GroupError, match="attached already"):
        masks.attach(net)
    with pytest.raises(GroupError, match="the network has masks attached"):
        MaskSet(masks.groups).attach(net)
    with pytest.raises(GroupError, match="no module"):
        MaskSet(masks.groups).attach(nn.Linear(2, 2))
    with pytest.raises(GroupError, match="at least one"):
        MaskSet(())
