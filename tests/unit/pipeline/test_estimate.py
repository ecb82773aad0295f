"""What is said beforehand: certain time in a stage's figure, possible time beside it."""

import logging

import pytest
import yaml

from tests.unit.pipeline.commands import write_config
from toolkit.runs import RunFolder
from toolkit.settings import RunSettings
from toolkit.stages import estimate

RATE = 100.0


@pytest.fixture
def settings(tmp_path, fleet, monkeypatch):
    monkeypatch.setattr(estimate, "training_rate", lambda settings: RATE)
    monkeypatch.setattr(estimate, "attack_seconds", lambda settings: (1.0, 1.0))

    def make(**finetune):
        body = yaml.safe_load(write_config(tmp_path, data=fleet).read_text(encoding="utf-8"))
        body["quantize"] = {"finetune": finetune or None}
        return RunSettings.model_validate(body)

    return make


def test_finetuning_that_always_runs_is_part_of_its_stage(settings):
    train = estimate.counts(settings().data)[0]
    schedule = {"epochs": 3, "augmentations": 2}
    plain = estimate.estimate(settings())
    certain = estimate.estimate(settings(when="always", train=schedule))
    wanted = estimate.FINETUNE_FACTOR * train * 3 * 2 / RATE
    assert certain.seconds["quantize"] - plain.seconds["quantize"] == pytest.approx(wanted)
    assert certain.possible == plain.possible == {}


def test_finetuning_that_may_run_is_told_beside_it(settings, tmp_path, caplog):
    found = estimate.estimate(settings(when="needed"))
    assert found.seconds == estimate.estimate(settings()).seconds
    assert list(found.possible) == ["quantize"] and found.possible["quantize"] > 0
    with caplog.at_level(logging.INFO):
        run = RunFolder.open(tmp_path / "tiny", name="tiny", settings={}, environment={})
        estimate.announce(settings(when="needed"), run, ["quantize"])
    assert "more in quantize if INT8 loses too much" in caplog.text
