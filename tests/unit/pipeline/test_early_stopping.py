from pathlib import Path

import numpy as np
import pytest

from toolkit.errors import DataError
from toolkit.models.architecture import Architecture
from toolkit.models.network import build_network
from toolkit.settings import RunSettings
from toolkit.stages.data import RunData
from toolkit.stages.train import training_data
from toolkit.stages.validation import held_out, validation


def data_of(identities=10, pictures=4):
    count = identities * pictures
    names = tuple(f"{number // pictures:04d}" for number in range(count))
    generator = np.random.default_rng(0)
    base = generator.integers(0, 255, (identities, 1, 1, 3)).repeat(pictures, 0)
    made = np.clip(base + generator.integers(-3, 4, (count, 32, 32, 3)), 0, 255).astype(np.uint8)
    rows = np.arange(count)
    return RunData(
        pictures=made, paths=names, identities=names, cameras=tuple(f"c{n % pictures}" for n in range(count)),
        rows={"train": rows, "calibration": rows[:4]}, protocol="veri", root=Path(), synthetic=True,
    )  # fmt: skip


def settings_of(**sections):
    return RunSettings.model_validate({"name": "x", **sections})


def test_without_patience_nobody_is_held_out():
    held = held_out(data_of(), settings_of(), finetuning=True)
    assert held == frozenset() and validation(data_of(), held) is None
    assert len(training_data(data_of(), held).pictures) == 40


@pytest.mark.parametrize(
    ("sections", "in_training"),
    [
        ({"train": {"patience": 2}}, True),
        ({"patrol": {"train": {"patience": 2}}}, True),
        ({"slim": {"finetune": {"train": {"patience": 2}}}}, False),
    ],
)
def test_a_tenth_is_held_out_and_keeps_its_labels(sections, in_training):
    data, settings = data_of(), settings_of(**sections)
    held = held_out(data, settings, finetuning=True)
    assert len(held) == 2 and held <= set(data.identities)
    assert held_out(data, settings) == (held if in_training else frozenset())
    kept, whole = training_data(data, held), training_data(data)
    assert len(kept.pictures) == 32
    rows = np.array([name not in held for name in data.identities])
    assert np.array_equal(kept.labels, whole.labels[rows])
    assert np.array_equal(kept.pictures, whole.pictures[rows])


def test_validation_is_the_map_of_the_held_out_identities():
    data = data_of(identities=20)
    measure = validation(data, held_out(data, settings_of(train={"patience": 1})))
    net = build_network(Architecture("resnet18", "layer2", 20, width=0.125), seed=0).eval()
    found = measure(net)
    assert 0.9 < found <= 1.0, "colours alone tell these apart, for any network"
    for parameter in net.parameters():
        parameter.data.zero_()
    assert measure(net) < found


def test_too_few_identities_to_hold_some_out():
    with pytest.raises(DataError, match="set patience to 0"):
        held_out(data_of(identities=3), settings_of(train={"patience": 1}))
