import numpy as np
import pytest
import torch

from toolkit.models.architecture import Architecture
from toolkit.models.network import ReidNet, build_network
from toolkit.wire import WireFormat, choose_step


class Size:
    height = 32
    width = 48
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)


@pytest.fixture(scope="package")
def size() -> Size:
    return Size()


@pytest.fixture(scope="package")
def pictures() -> np.ndarray:
    """Smooth coloured waves: structured like pictures, unlike noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:32, 0:48] / 32.0
    waves = [np.sin(rows * rng.uniform(1, 9) + columns * rng.uniform(1, 9) + rng.uniform(0, 6)) for _ in range(18)]
    return ((np.stack(waves).reshape(6, 3, 32, 48).transpose(0, 2, 3, 1) + 1) * 127).astype(np.uint8)


@pytest.fixture(scope="package")
def net() -> ReidNet:
    torch.set_num_threads(1)
    net = build_network(Architecture("resnet18", "layer2", 7, width=0.125), seed=3)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.bias.normal_(0, 0.2)
    return net.eval()


@pytest.fixture(scope="package")
def fmt(net, pictures) -> WireFormat:
    with torch.inference_mode():
        feature = net.edge(torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)).numpy()
    return WireFormat(*feature.shape[1:], bits=6, step=choose_step(feature, 6, False), signed=False)
