"""Several frames of a scene as what an adversary sees, and suites without the attackers that do not apply."""

import dataclasses

import numpy as np
import pytest

from tests.unit.privacy.test_references import result
from tests.unit.privacy.toys import STEP, blobs, data, fold
from toolkit.errors import AttackError
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.frames import averaging, stacking
from toolkit.privacy.attacks.ridge import RidgeSettings
from toolkit.privacy.attacks.shadow import ShadowSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.whitebox import WhiteBoxSettings
from toolkit.privacy.multiframe import frame_metrics
from toolkit.privacy.references import noisy_encoder
from toolkit.privacy.result import AttackResult
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import attack_variant
from toolkit.wire import WireFormat

FMT = WireFormat(48, 8, 8, 8, STEP, False)
RIDGE = AttackSettings(attackers=(RidgeSettings(design="patch", penalties=(1e-3, 0.1)),), pictures_shown=0)


def noisy():
    return noisy_encoder(fold, FMT, 20 * STEP, seed=1)


def test_frames_are_drawn_anew_and_joined_scene_by_scene():
    pictures, send = blobs(3), noisy()
    mean = averaging(send, 16, STEP)(pictures)
    one = send(pictures).astype(np.float32) * STEP
    truth = fold(pictures).astype(np.float32) * STEP
    assert mean.shape == truth.shape and mean.dtype == np.float32
    assert np.abs(mean - truth).mean() < 0.5 * np.abs(one - truth).mean()
    stacked = stacking(send, 4)(pictures)
    assert stacked.shape == (3, 4 * 48, 8, 8) and stacked.dtype == np.int8
    frames = stacked.reshape(3, 4, 48, 8, 8)
    assert not (frames[:, 0] == frames[:, 1]).all()
    assert np.array_equal(stacking(fold, 2)(pictures)[:, 48:], fold(pictures))
    with pytest.raises(AttackError, match="at least one frame"):
        averaging(send, 0, STEP)(pictures)


def test_more_frames_of_a_noisy_wire_tell_an_attacker_more(tmp_path):
    anchors = Anchors((0.1,) * 40, (0.1,) * 40, (0.1,) * 40, (0.1,) * 40)
    found = {}
    for count in (1, 16):
        encode = averaging(noisy(), count, STEP)
        d = dataclasses.replace(data(encode=encode, step=1.0), encode=None)
        found[count] = attack_variant(d, RIDGE, tmp_path / str(count), "v", anchors).ssim.value
    assert found[16] > found[1] + 0.05


def test_the_stronger_way_to_join_frames_counts_and_the_gate_finds_its_own_state():
    ways = {"averaged": result({"a": 0.6, "b": 0.3}, mse=0.03), "stacked": result({"a": 0.4}, mse=0.01)}
    rows = {m.name: m for m in frame_metrics("privacy.frames.4.", 4, ways, "here")}
    assert rows["privacy.frames.4.ssim"].value == pytest.approx(0.6)
    assert rows["privacy.frames.4.ssim"].protocol == "worst of 3 attackers on 4 frames: a averaged"
    assert rows["privacy.frames.4.mse"].value == pytest.approx(0.01)
    assert rows["privacy.frames.4.r2"].protocol.endswith("a stacked")
    assert rows["privacy.frames.4.ssim_normalized"].value == pytest.approx((0.6 - 0.2) / 0.8)
    assert rows["privacy.trusted"].protocol.startswith("worst of 3 attackers on 4 frames")
    weak = {"averaged": result({"a": 0.21})}
    names = {m.name for m in frame_metrics("privacy.frames.1.", 1, weak, "here")}
    assert names == {"privacy.frames.1.ssim", "privacy.frames.1.mse"}  # one frame: the wire's own states


def test_attackers_that_do_not_apply_are_left_out_with_a_reason(tmp_path):
    every = (RidgeSettings(), WhiteBoxSettings(), ShadowSettings())
    suite = AttackSettings(attackers=every)
    whole = Tools(edge=lambda x: x, cloud=lambda x: x, identities=["a"])
    assert suite.fitting(whole) == (suite, ())
    kept, left_out = suite.fitting(dataclasses.replace(whole, cloud=None))
    assert [one.kind for one in kept.attackers] == ["ridge", "white_box"]
    assert left_out[0][0] == "shadow" and "no cloud half" in left_out[0][1]
    kept, left_out = AttackSettings(preset="headline").fitting(Tools())
    assert dict(left_out).keys() == {"white_box", "shadow"}
    assert not {one.kind for one in kept.attackers} & {"white_box", "shadow"}
    assert AttackSettings().fitting(Tools())[1] == ()
    found = dataclasses.replace(result({"a": 0.5}), left_out=left_out)
    found.save(tmp_path)
    assert AttackResult.load(tmp_path).left_out == left_out


@pytest.mark.parametrize("frames", [(0,), (65,), (1.5,)])
def test_impossible_numbers_of_frames_are_refused(frames):
    with pytest.raises(ValueError, match="frames"):
        AttackSettings(frames=frames)
