"""The two networks of He, Zhang, Lee (ACSAC 2019) with their cut points, and the data that they learn here.

CIFAR-type: six 3x3 convolutions (64, 64, 128, 128, 128, 128) with a pooling after every second one and two dense
layers, cut behind conv11, ReLU22 and ReLU32. LeNet-5: cut behind conv1 and ReLU2.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from toolkit.datasets.fleet import FleetSettings, draw_scene, render

SIDE = 32
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
CUTS = {"cifar": ("conv11", "relu22", "relu32"), "lenet": ("conv1", "relu2")}
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Data:
    """Pictures ``(N, 32, 32, 3)``, their classes, and groups (a vehicle, a digit) that no split divides."""

    pictures: Pictures
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]


def network(name: str, classes: int) -> nn.Sequential:
    """A network by name (``cifar`` or ``lenet``); its children carry the paper's names."""
    layers: list[tuple[str, nn.Module]] = []
    if name == "cifar":
        before = 3
        for stage, (first, second) in enumerate(((64, 64), (128, 128), (128, 128)), start=1):
            layers += [(f"conv{stage}1", nn.Conv2d(before, first, 3, padding=1)), (f"relu{stage}1", nn.ReLU())]
            layers += [(f"conv{stage}2", nn.Conv2d(first, second, 3, padding=1)), (f"relu{stage}2", nn.ReLU())]
            layers += [(f"pool{stage}", nn.MaxPool2d(2))]
            before = second
        layers += [("flat", nn.Flatten()), ("fc1", nn.Linear(128 * 16, 512)), ("sigmoid", nn.Sigmoid())]
        layers += [("fc2", nn.Linear(512, classes))]
    else:
        layers += [("conv1", nn.Conv2d(3, 8, 5, padding=2)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2))]
        layers += [("conv2", nn.Conv2d(8, 16, 5)), ("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2))]
        layers += [("flat", nn.Flatten()), ("fc1", nn.Linear(16 * 36, 120)), ("relu3", nn.ReLU())]
        layers += [("fc2", nn.Linear(120, 84)), ("relu4", nn.ReLU()), ("fc3", nn.Linear(84, classes))]
    return nn.Sequential(OrderedDict(layers))


def halves(net: nn.Sequential, cut: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Edge half (up to and with the layer ``cut``) and cloud half."""
    at = list(net._modules).index(cut) + 1
    return net[:at], net[at:]


def vehicles(count: int, seed: int) -> Data:
    """Fleet pictures; the class is the vehicle's body."""
    each = 4
    fleet = FleetSettings(seed=seed, size=64, identities_train=count // each, plate="per_picture", views="mixed")
    pictures, bodies, groups = np.empty((count, SIDE, SIDE, 3), np.uint8), [], []
    for number in range(count):
        identity, picture = divmod(number, each)
        scene = draw_scene(fleet, identity, picture, picture % fleet.cameras)
        pictures[number] = cv2.resize(render(scene, 64).picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        bodies.append(scene.vehicle.body)
        groups.append(f"v{identity}")
    names = sorted(set(bodies))
    return Data(pictures, np.array([names.index(body) for body in bodies]), tuple(groups))


def digits(count: int, seed: int) -> Data:
    """Digits drawn with OpenCV's fonts, turned, moved and of any thickness, white on black as in MNIST."""
    random = np.random.default_rng(seed)
    pictures, labels = np.empty((count, SIDE, SIDE, 3), np.uint8), random.integers(0, 10, count)
    for number, label in enumerate(labels):
        canvas = np.zeros((96, 96), np.uint8)
        scale, thick = random.uniform(1.8, 2.6), int(random.integers(3, 9))
        at = (int(random.integers(18, 34)), int(random.integers(62, 82)))
        cv2.putText(canvas, str(label), at, FONTS[random.integers(len(FONTS))], scale, 255, thick, cv2.LINE_AA)
        turn = cv2.getRotationMatrix2D((48, 48), random.uniform(-20, 20), 1.0)
        turned = cv2.warpAffine(canvas, turn, (96, 96))
        small = cv2.resize(turned, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pictures[number] = small[:, :, None]
    return Data(pictures, labels.astype(np.int64), tuple(f"d{number}" for number in range(count)))


def train(net: nn.Sequential, data: Data, rows: npt.NDArray[np.int64], steps: int, seed: int) -> float:
    """Train with Adam 1e-3 as in the paper; accuracy on ``rows`` at the end."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = as_input(data.pictures[rows]), torch.from_numpy(data.labels[rows])
    for step in range(steps):
        chosen = torch.from_numpy(np.random.default_rng((seed, step)).permutation(len(rows))[:32])
        loss = nn.functional.cross_entropy(net(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval().requires_grad_(False)
    return accuracy(net, data, rows)


def accuracy(net: nn.Sequential, data: Data, rows: npt.NDArray[np.int64]) -> float:
    """Share of ``rows`` that is classified right."""
    with torch.no_grad():
        guess = net(as_input(data.pictures[rows])).argmax(1).numpy()
    return float((guess == data.labels[rows]).mean())


def as_input(pictures: Pictures) -> Tensor:
    """``(N, 3, 32, 32)`` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255.0
