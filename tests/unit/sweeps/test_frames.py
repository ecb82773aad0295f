import json

import numpy as np
import pytest

from toolkit.errors import ArtifactError
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import AttackData, attack_variant, suite_anchors
from toolkit.sweeps.frames import load_frames, measure_frames
from toolkit.wire.codes import WireFormat

FMT = WireFormat(3, 4, 4, 8, 1.0, True)


def wire(noise, dropout=0.0):
    """The 4 x 4 means of the picture are the codes, less what is drawn anew for every frame."""
    generator = np.random.default_rng(0)

    def send(pictures):
        means = (
            np.asarray(pictures, np.float32)
            .reshape(len(pictures), 4, 4, 4, 4, 3)
            .mean((2, 4))
            .transpose(0, 3, 1, 2)
        )
        kept = generator.random(means.shape) >= dropout
        noisy = (means - 128) * kept / (1 - dropout) + noise * generator.standard_normal(means.shape)
        return np.clip(np.rint(noisy / 2), -128, 127).astype(np.int8)

    return send


def source(send):
    draw = np.random.default_rng(1)
    blocks = draw.integers(0, 256, (240, 4, 4, 3), dtype=np.uint8)
    pictures = blocks.repeat(4, axis=1).repeat(4, axis=2)
    identities = [f"v{number}" for number in range(len(pictures))]
    train, validation, test = np.split(np.arange(len(pictures)), [140, 180])
    return AttackData(
        WireCodes.from_format(send(pictures), FMT), pictures, identities, train, validation, test, send
    )


SETTINGS = AttackSettings.model_validate(
    {"attackers": [{"kind": "ridge"}], "frames": [1, 16], "mirror": False, "minimum_test": 1, "minimum_train": 1,
     "leaks": None, "certificate_scenes": 0}
)  # fmt: skip


@pytest.mark.parametrize("disturbed", [{"noise": 60.0}, {"noise": 0.0, "dropout": 0.5}])
def test_sixteen_frames_tell_more_than_one(tmp_path, disturbed):
    send = wire(**disturbed)
    data = source(send)
    anchors = suite_anchors(data, SETTINGS, tmp_path / "anchors")
    measure_frames(data, FMT, SETTINGS, anchors, tmp_path, tmp_path / "work")
    found = load_frames(tmp_path / "frames.json")
    one = attack_variant(data, SETTINGS, tmp_path / "one", "one frame", anchors)
    assert set(found) == {16}, "one frame is the row itself"
    assert found[16]["r2"] > one.r2.value + 0.1
    assert found[16]["ssim"] > one.normalized_ssim.value + 0.1


def test_a_wire_whose_frames_are_alike_writes_nothing(tmp_path):
    data = source(wire(0.0))
    anchors = suite_anchors(data, SETTINGS, tmp_path / "anchors")
    measure_frames(data, FMT, SETTINGS, anchors, tmp_path, tmp_path / "work")
    assert not (tmp_path / "frames.json").exists()


@pytest.mark.parametrize("body", ["", "[]", '{"4": {"ssim": 0.2}}', '{"four": {"ssim": 0.2, "r2": 0.1}}'])
def test_a_file_of_something_else_is_refused(tmp_path, body):
    path = tmp_path / "frames.json"
    path.write_text(body)
    with pytest.raises(ArtifactError, match="run the sweep again"):
        load_frames(path)


def test_numbers_come_back(tmp_path):
    path = tmp_path / "frames.json"
    path.write_text(json.dumps({4: {"ssim": 0.25, "r2": 0.5}}))
    assert load_frames(path) == {4: {"ssim": 0.25, "r2": 0.5}}
