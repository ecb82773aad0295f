"""A network and pictures small enough for a test of the whole loop."""

import numpy as np

from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.patrol.data import TrainingData
from toolkit.patrol.settings import (
    AdversarySettings,
    LipschitzSettings,
    MaskSettings,
    PatrolSettings,
    TrainSettings,
)
from toolkit.wire import WireFormat

IDENTITIES, SIDE = 6, 32
FMT = WireFormat(channels=16, height=4, width=4, bits=8, step=0.05, signed=False)


def small_net(seed=0, cut="layer2", **options):
    options = {"backbone": "resnet18", "cut": cut, "identities": IDENTITIES, "width": 0.125} | options
    return build_network(Architecture(**options), seed=seed)


def small_data(pictures=3, counterfactuals=False, seed=0):
    """Each identity is a colour pattern, its pictures differ by noise."""
    generator = np.random.default_rng(seed)
    base = generator.integers(40, 216, size=(IDENTITIES, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    labels = np.repeat(np.arange(IDENTITIES), pictures)
    noise = generator.integers(-30, 30, size=(len(labels), SIDE, SIDE, 3))
    made = np.clip(base[labels] + noise, 0, 255).astype(np.uint8)
    changed = made.copy()
    changed[:, 4:8, 4:12] = 255 - changed[:, 4:8, 4:12]
    return TrainingData(made, labels.astype(np.int64), counterfactuals=changed if counterfactuals else None)


def train_settings(**options):
    return TrainSettings(
        **{"epochs": 3, "identities": 3, "pictures": 2, "augmentations": 2, "precision": "fp32"} | options
    )


def patrol_settings(train=None, **options):
    defaults = {
        "train": train_settings(**(train or {})),
        "lipschitz": LipschitzSettings(share=0.5),
        "adversary": AdversarySettings(decoders=("residual_n1c8",), warmup_steps=3),
        "masks": MaskSettings(ratio=0.5, prune_fraction=0.5),
    }
    return PatrolSettings(**defaults | options)
