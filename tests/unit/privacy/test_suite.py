import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.unit.privacy.toys import STEP, data, fold
from toolkit.errors import ArtifactError, AttackError
from toolkit.privacy.anchors import Anchors, mean_picture, measurable
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.ridge import RidgeSettings
from toolkit.privacy.attacks.training import DecoderTraining
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.result import AttackResult
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.statistics import estimate, mean
from toolkit.privacy.suite import AttackData, attack_variant, finished_attack, run_attack
from toolkit.wire import WireFormat

VARIANT = "dense-fp32-float-w8-onnxruntime"
NETWORK = InverseNetworkSettings(
    label="net", decoder="subpixel_n1c32", steps=60, batch=16, ssim_crop=32, learning_rate=4e-3
)
SUITE = AttackSettings(attackers=(RidgeSettings(), NETWORK), minimum_test=10, minimum_train=50, pictures_shown=3)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("suite")
    return attack_variant(data(), SUITE, folder, VARIANT), folder


def test_a_lossless_edge_scores_as_fully_leaked(result):
    found, _ = result
    assert found.worst("ssim").label == "ridge"
    assert found.ssim.value > 0.98
    assert found.r2.value > 0.99
    assert found.normalized_ssim.value > 0.97
    assert found.measurable()[0]
    assert found.psnr.value == pytest.approx(-10 * np.log10(found.mse.value), abs=1e-9)


def test_results_survive_saving(result):
    found, folder = result
    again = AttackResult.load(folder)
    assert dataclasses.replace(again, reconstructions={}) == dataclasses.replace(found, reconstructions={})
    assert set(again.reconstructions) == {"original", "ridge", "net"}
    for label, pictures in found.reconstructions.items():
        assert (again.reconstructions[label] == pictures).all()
    assert len(again.shown) == 3


def test_finished_attackers_are_not_run_again(result, monkeypatch):
    found, folder = result

    def fail(self, *arguments):
        raise AssertionError("fitted again")

    monkeypatch.setattr(InverseNetwork, "_fit", fail)
    again = attack_variant(data(), SUITE, folder, VARIANT)
    assert again.attackers == found.attackers


def test_other_codes_are_attacked_anew(result, tmp_path, monkeypatch):
    _, folder = result
    calls = []
    fit = InverseNetwork._fit
    monkeypatch.setattr(InverseNetwork, "_fit", lambda self, *a: (calls.append(1), fit(self, *a))[1])
    other = shutil.copytree(folder, tmp_path / "other")
    attack_variant(data(seed=7), SUITE, other, VARIANT, anchors=AttackResult.load(folder).anchors)
    assert calls == [1]


def test_metrics_are_complete_and_of_the_worst_attacker(result):
    rows = {m.name: m for m in result[0].metrics("a machine")}
    assert {"privacy.ssim", "privacy.psnr", "privacy.mse", "privacy.r2", "privacy.ssim_normalized"} <= set(rows)
    assert rows["privacy.ssim"].value == pytest.approx(np.mean(result[0].worst("ssim").ssim))
    assert rows["privacy.ssim"].n == 40
    low, high = rows["privacy.ssim"].interval
    assert low <= rows["privacy.ssim"].value <= high
    assert rows["privacy.trusted"].value == 0.0  # screening: convergence untested
    assert rows["privacy.floor_ssim"].value < rows["privacy.ssim"].value


def test_run_attack_takes_splits_and_a_format(tmp_path):
    d = data(count=80)
    splits = SimpleNamespace(
        attacker_train=d.train, attacker_validation=d.validation, query=d.test, gallery=d.test[:4]
    )
    fmt = WireFormat(channels=48, height=8, width=8, bits=8, step=STEP, signed=False)
    suite = SUITE.model_copy(update={"attackers": (RidgeSettings(),)})
    found = run_attack(
        d.codes.values,
        d.pictures,
        splits,
        fmt,
        suite,
        tmp_path,
        variant=VARIANT,
        identities=d.identities,
        anchors=Anchors((0.1,) * 20, (0.1,) * 20, (0.1,) * 20, (0.2,) * 20),
    )
    assert len(found.identities) == 20
    assert found.anchors.floor_ssim == pytest.approx(0.2)
    assert any("no learned decoder" in p for p in found.all_problems())


def test_shuffled_pairs_are_caught(tmp_path, result):
    class Crippled(InverseNetwork):
        def _fit(self, train, validation, folder):
            return super()._fit(train.mismatched(1), validation, folder)

    found = _with_attack(Crippled, tmp_path, result)
    assert any("does not beat ridge" in p for p in found.all_problems())
    assert not found.trusted


def _with_attack(kind, folder, result):
    import toolkit.privacy.suite as suite

    original = suite.make_attack
    try:
        suite.make_attack = lambda s, tools: original(s) if isinstance(s, RidgeSettings) else kind(s)
        return attack_variant(data(), SUITE, folder, VARIANT, anchors=result[0].anchors)
    finally:
        suite.make_attack = original


def test_too_few_steps_are_caught(tmp_path, result):
    changes = {"steps": 8, "doublings": 1, "tolerance": 1e-4, "linear_start": False}
    short = NETWORK.model_copy(update=changes)
    suite = SUITE.model_copy(update={"attackers": (RidgeSettings(), short)})
    found = attack_variant(data(), suite, tmp_path, VARIANT, anchors=result[0].anchors)
    assert any("not converged" in p for p in found.all_problems())
    assert not found.converged
    assert not found.trusted


def test_too_little_data_is_caught(tmp_path, result):
    d = data()
    few = dataclasses.replace(d, train=d.train[:12])
    found = attack_variant(few, SUITE, tmp_path, VARIANT, anchors=result[0].anchors)
    assert any("only 12 pairs" in p for p in found.all_problems())


def test_too_few_test_pictures_are_caught(tmp_path, result):
    suite = SUITE.model_copy(update={"minimum_test": 1000})
    found = attack_variant(data(), suite, tmp_path, VARIANT, anchors=result[0].anchors)
    assert any("test pictures" in p for p in found.problems)


def test_constant_output_is_caught(tmp_path, result):
    class Constant(InverseNetwork):
        def _decode(self, features):
            return np.full((len(features), 32, 32, 3), 0.5, np.float32)

    found = _with_attack(Constant, tmp_path, result)
    assert any("same picture" in p for p in found.all_problems())


def test_a_failing_attacker_is_reported_and_the_others_kept(tmp_path, result):
    broken = NETWORK.model_copy(update={"label": "broken", "learning_rate": 1e30, "precision": "fp32"})
    suite = SUITE.model_copy(update={"attackers": (RidgeSettings(), broken)})
    found = attack_variant(data(), suite, tmp_path, VARIANT, anchors=result[0].anchors)
    assert [a.label for a in found.attackers] == ["ridge"]
    assert found.failed[0][0] == "broken"
    assert not found.trusted
    alone = SUITE.model_copy(update={"attackers": (broken,)})
    with pytest.raises(AttackError, match="no attacker finished"):
        attack_variant(data(), alone, tmp_path / "alone", VARIANT, anchors=result[0].anchors)


def test_codes_that_say_nothing_are_not_measurable(tmp_path):
    random = np.random.default_rng(0)
    noise = random.integers(0, 100, (160, 4, 8, 8)).astype(np.int8)
    d = dataclasses.replace(data(), codes=WireCodes(noise, 0.1), encode=None)
    small = NETWORK.model_copy(update={"steps": 20})
    suite = SUITE.model_copy(update={"attackers": (RidgeSettings(), small)})
    found = attack_variant(d, suite, tmp_path, VARIANT)
    assert found.r2.value < 0.05
    can_tell, why = found.measurable()
    assert not can_tell
    assert "not measurable" in why
    names = {m.name for m in found.metrics("a machine")}
    assert "privacy.ssim_normalized" not in names
    reference = np.minimum(1.0, found.anchors.floor + 0.4)
    assert found.measurable(tuple(reference))[0]


def test_measurable_needs_a_margin_and_five_errors():
    identities = [f"id{i}" for i in range(100)]
    floor = np.full(100, 0.2)
    assert measurable(floor, floor + 0.3, identities)[0]
    assert not measurable(floor, floor + 0.09, identities)[0]
    noisy = floor + np.where(np.arange(100) < 50, 1.0, -0.7)  # mean 0.15, standard error 0.085
    can_tell, why = measurable(floor, noisy, identities)
    assert not can_tell
    assert "standard errors" in why
    with pytest.raises(AttackError):
        measurable(floor, floor[:3], identities)


def test_anchor_formulas():
    anchors = Anchors((0.04, 0.06), (0.1, 0.3), (0.05, 0.05), (0.3, 0.3))
    assert anchors.floor_ssim == pytest.approx(0.3)
    assert anchors.r2(np.array([0.01, 0.01])) == pytest.approx(0.8)
    assert anchors.normalized(0.65) == pytest.approx(0.5)
    assert anchors.normalized(0.3) == 0.0
    assert anchors.r2(np.array(anchors.mean_mse)) == 0.0


def test_anchors_survive_saving_and_name_a_broken_file(tmp_path):
    anchors = Anchors((0.04,), (0.1,), (0.05,), (0.3,))
    anchors.save(tmp_path / "anchors.json")
    assert Anchors.load(tmp_path / "anchors.json") == anchors
    (tmp_path / "anchors.json").write_text('{"mean_mse": [1]}')
    with pytest.raises(ArtifactError, match="anchors"):
        Anchors.load(tmp_path / "anchors.json")


def test_mean_picture():
    d = data(count=16)
    guess = mean_picture(d.pairs(np.array([0, 1])))
    assert np.abs(guess.astype(float) - d.pictures[:2].mean(0)).max() <= 0.5


def test_broken_results_are_named(result, tmp_path):
    found, _ = result
    found.save(tmp_path)
    body = json.loads((tmp_path / "attack.json").read_text())
    for broken in ("", "{", json.dumps({**body, "schema": 99}), json.dumps({"schema": 1})):
        (tmp_path / "attack.json").write_text(broken)
        with pytest.raises(ArtifactError, match=r"attack\.json"):
            AttackResult.load(tmp_path)


def test_shared_identities_are_refused():
    d = data(count=16)
    with pytest.raises(AttackError, match="share identity"):
        dataclasses.replace(d, test=d.train)
    with pytest.raises(AttackError, match="identities"):
        dataclasses.replace(d, identities=d.identities[:3])


def test_labels_must_differ():
    with pytest.raises(ValueError, match="different labels"):
        AttackSettings(attackers=(RidgeSettings(), RidgeSettings()))


def test_presets():
    kinds = [a.kind for a in AttackSettings().chosen()]
    assert kinds == ["ridge", "inverse_network"]
    headline = AttackSettings(preset="headline", seed=3).chosen()
    assert {a.seed for a in headline} == {3}
    assert all(a.doublings for a in headline if isinstance(a, InverseNetworkSettings))


def test_bootstrap_resamples_identities_not_pictures():
    random = np.random.default_rng(0)
    per_identity = random.normal(size=50)
    values = np.repeat(per_identity, 8)
    identities = [f"id{i // 8}" for i in range(400)]
    found = estimate([values], identities, mean)
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(per_identity.std() / np.sqrt(50), rel=0.15)
    single = estimate([values], [str(i) for i in range(400)], mean)
    assert found.error > 2 * single.error
    with pytest.raises(AttackError):
        estimate([values], identities[:3], mean)


def test_encode_is_used_for_mirror_images(tmp_path, result):
    seen = []

    def encode(pictures):
        seen.append(len(pictures))
        return fold(pictures)

    d: AttackData = dataclasses.replace(data(), encode=encode)
    suite = SUITE.model_copy(update={"attackers": (RidgeSettings(),)})
    found = attack_variant(d, suite, tmp_path, VARIANT, anchors=result[0].anchors)
    assert sum(seen) == 80
    assert found.attackers[0].fit.pairs == 160


def test_reconstructions_of_other_pictures_come_from_the_finished_checkpoint(result, monkeypatch):
    found, folder = result
    monkeypatch.setattr(DecoderTraining, "_advance", lambda *a: pytest.fail("trained again"))
    shown = np.asarray(data().test)[list(found.shown)]
    again = finished_attack("net", data(), SUITE, folder).reconstruct(data().codes, shown)
    assert np.abs(again.astype(int) - found.reconstructions["net"]).max() <= 1
    with pytest.raises(AttackError, match="no attacker"):
        finished_attack("nobody", data(), SUITE, folder)


def test_mirror_images_are_encoded_once(tmp_path, result):
    calls = []
    d = dataclasses.replace(data(), encode=lambda p: (calls.append(len(p)), fold(p))[1])
    suite = SUITE.model_copy(update={"attackers": (RidgeSettings(),)})
    for _ in range(2):
        attack_variant(d, suite, tmp_path, VARIANT, anchors=result[0].anchors)
    assert sum(calls) == 80
