"""Convergence by data: what all pictures gain over half of them."""

import dataclasses
import json

import pytest
import torch

from tests.unit.privacy.toys import data, pairs
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.ridge import RidgeSettings
from toolkit.privacy.attacks.substitute import Substitute, SubstituteSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.training import DecoderTraining
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import attack_variant

CHECKED = InverseNetworkSettings(
    label="net",
    decoder="subpixel_n1c16",
    steps=24,
    doublings=1,
    tolerance=0.05,
    batch=16,
    ssim_crop=32,
    learning_rate=4e-3,
    data_check=True,
    checkpoint_seconds=0.0,
)
SHORT = CHECKED.model_copy(update={"steps": 4, "tolerance": 0.9, "linear_start": False})
ANCHORS = Anchors((0.1,) * 40, (0.1,) * 40, (0.1,) * 40, (0.1,) * 40)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def suite(network: InverseNetworkSettings) -> AttackSettings:
    ridge = RidgeSettings(design="patch", penalties=(0.01,))
    return AttackSettings(
        attackers=(ridge, network),
        mirror=False,
        minimum_test=10,
        minimum_train=1,
        pictures_shown=0,
    )


def test_too_few_pictures_are_caught_although_more_steps_gain_nothing(tmp_path):
    starved = CHECKED.model_copy(update={"linear_start": False, "steps": 60})
    d = data()
    found = attack_variant(dataclasses.replace(d, train=d.train[:12]), suite(starved), tmp_path, "v", ANCHORS)
    fit = found.attackers[1].fit
    assert fit.gain < 0.05 <= fit.data_gain
    assert fit.converged is False
    assert not found.converged and not found.trusted
    (problem,) = (text for text in found.all_problems() if "not converged" in text)
    assert f"gained {fit.data_gain:.3f} SSIM over half" in problem
    assert "attack.augmented" in problem and "attack.synthetic" in problem


def test_enough_pictures_pass(tmp_path):
    found = attack_variant(data(), suite(CHECKED), tmp_path, "v", ANCHORS)
    fit = found.attackers[1].fit
    assert abs(fit.data_gain) < 0.05
    assert fit.converged is True
    assert not [text for text in found.all_problems() if "converged" in text]


def test_the_screening_preset_does_not_test_it_and_headline_does():
    assert not InverseNetworkSettings.screening().data_check
    assert InverseNetworkSettings.headline().data_check and InverseNetworkSettings.sharp().data_check
    headline = AttackSettings(preset="headline").chosen()
    (substitute,) = (one for one in headline if isinstance(one, SubstituteSettings))
    assert substitute.decoder.data_check
    assert InverseNetworkSettings.headline().most_steps() == 2 * 16 * 4000


def test_data_is_not_tested_where_more_steps_still_gain():
    changes = {"steps": 4, "tolerance": 1e-9, "linear_start": False, "learning_rate": 1e-3}
    hasty = CHECKED.model_copy(update=changes)
    report = InverseNetwork(hasty).fit(pairs(64), pairs(16, 1))
    assert report.converged is False
    assert report.data_gain is None


def test_half_of_the_pictures_get_as_many_steps_and_their_own_statistics(tmp_path, monkeypatch):
    seen = []
    run = DecoderTraining.run

    def noted(self, folder, title):
        outcome = run(self, folder, title)
        seen.append((len(self.train), outcome.steps, folder))
        return outcome

    monkeypatch.setattr(DecoderTraining, "run", noted)
    long = SHORT.model_copy(update={"doublings": 3, "pretrain_steps": 3})
    synthetic = Tools(pretraining=pairs(20, 3))
    report = InverseNetwork(long, synthetic).fit(pairs(32), pairs(8, 1), tmp_path)
    steps = report.steps
    half = tmp_path / "half"
    assert seen == [
        (20, 3, tmp_path / "pretraining"),
        (32, steps, tmp_path),
        (20, 3, half / "pretraining"),
        (16, steps, half),
    ]
    alone = InverseNetwork(SHORT.model_copy(update={"doublings": 3})).fit(pairs(32), pairs(8, 1))
    assert alone.data_gain != report.data_gain


def test_a_check_that_was_killed_goes_on_and_ends_with_the_same_gain(tmp_path, monkeypatch):
    whole = InverseNetwork(SHORT).fit(pairs(32), pairs(8, 1))
    advance, calls = DecoderTraining._advance, []

    def dies(self, step, start, end):
        calls.append((len(self.train), step))
        if len(self.train) == 16 and step == 5:
            raise KeyboardInterrupt
        advance(self, step, start, end)

    monkeypatch.setattr(DecoderTraining, "_advance", dies)
    with pytest.raises(KeyboardInterrupt):
        InverseNetwork(SHORT).fit(pairs(32), pairs(8, 1), tmp_path)
    calls.clear()
    monkeypatch.setattr(
        DecoderTraining, "_advance", lambda self, *a: (calls.append((len(self.train), a[0])), advance(self, *a))
    )
    resumed = InverseNetwork(SHORT).fit(pairs(32), pairs(8, 1), tmp_path)
    assert calls == [(16, 5), (16, 6), (16, 7)]
    assert resumed.data_gain == whole.data_gain


def test_the_announced_time_has_the_check_in_it(monkeypatch, caplog):
    monkeypatch.setattr("toolkit.privacy.attacks.training.ANNOUNCED", 1)
    monkeypatch.setattr(DecoderTraining, "time_step", lambda self: 60.0)
    with caplog.at_level("INFO"):
        InverseNetwork(SHORT).fit(pairs(32), pairs(8, 1))
    first, second = (record.getMessage() for record in caplog.records if "first cycle" in record.getMessage())
    assert "about 4 min for the first cycle, at most 16 min in all, with the training on half" in first
    assert "half of the pictures: about 4 min for the first cycle, at most 8 min in all" in second


def test_switching_the_check_on_does_not_train_again(tmp_path, monkeypatch):
    without = SHORT.model_copy(update={"data_check": False})
    assert InverseNetwork(without).fit(pairs(32), pairs(8, 1), tmp_path).data_gain is None
    advance, sizes = DecoderTraining._advance, set()
    monkeypatch.setattr(
        DecoderTraining, "_advance", lambda self, *a: (sizes.add(len(self.train)), advance(self, *a))
    )
    assert InverseNetwork(SHORT).fit(pairs(32), pairs(8, 1), tmp_path).data_gain is not None
    assert sizes == {16}


def test_a_result_without_the_field_is_read_or_made_again_as_its_key_says(tmp_path):
    network = SHORT.model_copy(update={"data_check": False})
    attack_variant(data(), suite(network), tmp_path, "v", ANCHORS)
    path = tmp_path / "net" / "result.json"
    body = json.loads(path.read_text())
    del body["fit"]["data_gain"]
    path.write_text(json.dumps({**body, "seconds": 12345.0}))
    old = attack_variant(data(), suite(network), tmp_path, "v", ANCHORS).attackers[1]
    assert (old.seconds, old.fit.data_gain) == (12345.0, None)
    path.write_text(json.dumps({**body, "seconds": 12345.0, "key": "of older settings"}))
    assert attack_variant(data(), suite(network), tmp_path, "v", ANCHORS).attackers[1].seconds != 12345.0
    assert attack_variant(data(), suite(SHORT), tmp_path, "v", ANCHORS).attackers[1].fit.data_gain is not None


def test_the_decoder_of_a_substitute_client_is_tested_too():
    settings = SubstituteSettings(steps=4, batch=8, width=8, decoder=SHORT)
    report = Substitute(settings, Tools()).fit(pairs(32), pairs(8, 1))
    assert report.data_gain is not None


def test_checkpoints_of_other_codes_are_not_gone_on_with(tmp_path, monkeypatch):
    network = SHORT.model_copy(update={"data_check": False})
    attack_variant(data(), suite(network), tmp_path, "v", ANCHORS)
    advance, steps = DecoderTraining._advance, []
    monkeypatch.setattr(DecoderTraining, "_advance", lambda self, *a: (steps.append(a[0]), advance(self, *a)))
    attack_variant(data(seed=5), suite(network), tmp_path, "v", ANCHORS)
    assert steps == list(range(8))
