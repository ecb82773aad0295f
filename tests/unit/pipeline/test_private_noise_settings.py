"""What wire.noise changes in a run before anything is computed: keys of stages, variants, warnings."""

import logging

import pytest

from toolkit.engines import EngineStatus
from toolkit.settings import RunSettings, WireSettings
from toolkit.stages.build import BuildStage, plan_variants
from toolkit.stages.export import ExportStage
from toolkit.stages.sent import warn_of_training
from toolkit.stages.train import TrainStage

PLAIN, NOISY = RunSettings(name="run"), RunSettings(name="run", wire=WireSettings(noise=1.5))
ONNXRUNTIME = EngineStatus("onnxruntime", "1", True, True, "")
RTX = EngineStatus("tensorrt_rtx", "1", True, True, "")


def noise_by_key(networks, final, engines):
    return {one.variant.key: one.noise for one in plan_variants(networks, final, 8, engines, 1.5)}


def test_no_stage_before_build_depends_on_noise():
    for stage in (TrainStage(), ExportStage()):
        assert stage.key(PLAIN, {}) == stage.key(NOISY, {})
        other = RunSettings(name="run", wire=WireSettings(bits=4))
        assert stage.key(PLAIN, {}) != stage.key(other, {})
    assert BuildStage().key(PLAIN, {}) != BuildStage().key(NOISY, {})


def test_settings_without_noise_are_written_as_before():
    assert PLAIN.model_dump(mode="json")["wire"] == {"bits": 8}
    assert NOISY.model_dump(mode="json")["wire"] == {"bits": 8, "noise": 1.5}
    for wrong in (-0.1, float("nan"), 65):
        with pytest.raises(ValueError, match="noise"):
            WireSettings(noise=wrong)


def test_noise_belongs_to_the_final_network_and_its_reference_has_none():
    found = noise_by_key(["dense", "slim", "whole"], "slim", [ONNXRUNTIME])
    assert {key.split("-")[0]: noise for key, noise in found.items()} == {"dense": 0, "slim": 1.5, "whole": 0}


def test_a_network_alone_keeps_its_fp32_engines_as_reference():
    pytest.importorskip("tensorrt_rtx")
    found = noise_by_key(["dense"], "dense", [ONNXRUNTIME, RTX])
    assert {noise for key, noise in found.items() if "-fp32-" in key} == {0}
    assert {noise for key, noise in found.items() if "-fp32-" not in key} == {1.5}
    assert len(found) == 5


def test_every_engine_of_the_final_network_gets_noise():
    pytest.importorskip("tensorrt_rtx")
    found = noise_by_key(["dense", "slim"], "slim", [ONNXRUNTIME, RTX])
    assert {noise for key, noise in found.items() if key.startswith("slim")} == {1.5}
    assert len([key for key in found if key.endswith("tensorrt_rtx")]) == 4


@pytest.mark.parametrize("changes,words", [
    ({"wire": {"noise": 1.5}}, ["slim.finetune.noise is 0 and wire.noise 1.5"]),
    ({"wire": {"noise": 1.5}, "slim": {"finetune": {"noise": 1.5}}}, []),
    ({"wire": {"noise": 1.5}, "patrol": {"noise": 1.0}, "slim": {"finetune": {"train": {"epochs": 0}}}},
     ["patrol.noise is 1 and wire.noise 1.5"]),
    ({"slim": {"finetune": {"noise": 2.0}}}, ["slim.finetune.noise is 2 and wire.noise 0"]),
    ({}, []),
])  # fmt: skip
def test_training_with_other_noise_is_said(changes, words, caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_training(RunSettings.model_validate({"name": "run", **changes}))
    assert len(caplog.messages) == len(words)
    assert all(word in message for word, message in zip(words, caplog.messages, strict=True))
