import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.unit.privacy.toys import SIDE, STEP, blobs, fold, pairs
from toolkit.errors import AttackError
from toolkit.models.decoders import build_decoder, parameter_count
from toolkit.privacy.attacks.decoders import build_attack_decoder
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.linear_start import LinearStart
from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
from toolkit.privacy.attacks.training import DecoderTraining, one_cycle
from toolkit.privacy.codes import WireCodes
from toolkit.privacy.pairs import Pairs, Part
from toolkit.privacy.similarity import compare

SMALL = {"decoder": "subpixel_n1c32", "steps": 30, "batch": 16, "ssim_crop": 32}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_ridge_inverts_a_linear_edge_exactly_in_both_designs():
    for design in ("patch", "picture"):
        train, test = pairs(60), pairs(20, seed=5)
        if design == "picture":
            train, test = _coarse(train), _coarse(test)
        attack = Ridge(RidgeSettings(design=design, features=432, side=8, penalties=(1e-6, 0.1, 1.0)))
        report = attack.fit(train, test)
        pictures = attack.reconstruct(test.parts[0].codes)
        assert report.chosen["design"] == design
        if design == "patch":  # a folded picture is linear within a patch: only rounding is lost
            assert np.abs(pictures.astype(int) - test.pictures(np.arange(20))).max() <= 3
        else:  # few codes of 60 small pictures: better than nothing
            assert report.validation_mse < compare(_mean(train, 20), test.pictures(np.arange(20))).mse.mean()


def _mean(train: Pairs, count: int) -> np.ndarray:
    picture = train.pictures(np.arange(len(train))).mean(0).round().astype(np.uint8)
    return np.repeat(picture[None], count, 0)


def test_ridge_equals_the_textbook_solution():
    train, test = (_coarse(made) for made in (pairs(50), pairs(10, seed=9)))
    attack = Ridge(RidgeSettings(design="picture", features=8192, side=8, penalties=(0.5,)))
    attack.fit(train, test)
    x = train.features(np.arange(50)).reshape(50, -1).astype(np.float64)
    fitted = attack._regression
    y = fitted.design.shrink(train.pictures(np.arange(50))).reshape(50, -1).astype(np.float64)
    xc, yc = x - x.mean(0), y - y.mean(0)
    gram = xc.T @ xc / 50
    unit = np.trace(gram) / len(gram)
    weights = np.linalg.solve(gram + 0.5 * unit * np.eye(len(gram)), xc.T @ yc / 50)
    found = (test.features(np.arange(10)).reshape(10, -1) - x.mean(0)) @ weights + y.mean(0)
    mine = fitted.design.inputs(test.features(np.arange(10)) - fitted.mean_code) @ fitted.weights
    assert np.abs(mine + fitted.mean_picture.reshape(1, -1) - found).max() < 1e-4


def _coarse(made: Pairs) -> Pairs:
    part = made.parts[0]
    return Pairs([Part(WireCodes(part.codes.values[:, :8, ::2, ::2].copy(), STEP), part.pictures, part.indices)])


def test_ridge_refuses_constant_codes():
    pictures = blobs(8)
    constant = Pairs([Part(WireCodes(np.ones((8, 2, 4, 4), np.int8)), pictures, np.arange(8))])
    with pytest.raises(AttackError, match="constant"):
        Ridge().fit(constant, constant)


@pytest.mark.parametrize("name", ["subpixel_n2c32", "adversary", "he_shallow", "residual_n1c16", "trunk_c16"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((8, 8, 8), (32, 32)), ((5, 3, 5), (22, 37)), ((6, 16, 16), (32, 32)), ((24, 1, 1), (32, 48))],
)
def test_every_decoder_gives_the_pictures_size(name, shape, size):
    decoder = build_attack_decoder(name, *shape, size)
    assert decoder(torch.randn(2, *shape)).shape == (2, 3, *size)


def test_the_headline_decoder_is_four_times_the_adversary():
    for shape in ((64, 32, 32), (128, 16, 16), (256, 8, 8)):
        adversary = parameter_count(build_decoder("adversary", *shape, 128))
        attacker = parameter_count(build_attack_decoder("subpixel_n6c128", *shape, (128, 128)))
        assert attacker >= 4 * adversary


@pytest.mark.parametrize("name", ["", "subpixel_n0c8", "resnet", "subpixel_n2"])
def test_unknown_decoders_are_refused(name):
    with pytest.raises(AttackError, match="subpixel"):
        build_attack_decoder(name, 8, 4, 4, (32, 32))


def test_absurd_decoders_are_refused():
    with pytest.raises(AttackError, match="parameters"):
        build_attack_decoder("subpixel_n8c2048", 8, 4, 4, (32, 32))


def test_inverse_network_learns_and_beats_the_mean_picture():
    train, held, test = pairs(128), pairs(16, 1), pairs(16, 2)
    attack = InverseNetwork({**SMALL, "steps": 120, "learning_rate": 4e-3})
    report = attack.fit(train, held)
    truth = test.pictures(np.arange(16))
    found = compare(attack.reconstruct(test.parts[0].codes), truth).mse.mean()
    assert found < 0.5 * compare(_mean(train, 16), truth).mse.mean()
    assert report.converged is None
    assert report.steps == 120
    assert report.gain == pytest.approx(report.curve[-1][1] - report.curve[0][1])


def test_ground_truth_reaches_the_output_through_the_codes_alone():
    train, test = pairs(48), pairs(8, 2)
    for attack in (Ridge(), InverseNetwork(SMALL)):
        attack.fit(train, pairs(8, 1))
        codes = test.parts[0].codes
        straight = attack.reconstruct(codes)
        swapped = attack.reconstruct(WireCodes(codes.values[::-1].copy(), codes.step))
        assert np.abs(swapped.astype(int) - straight[::-1]).max() <= 1  # rounding: sums run in another order
        chosen = attack.reconstruct(codes, np.array([3, 1])).astype(int)
        assert np.abs(chosen - straight[[3, 1]]).max() <= 1
        assert np.abs(straight[0].astype(int) - straight[-1]).max() > 20


class KilledError(Exception):
    pass


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, monkeypatch, precision):
    train, held = pairs(40), pairs(8, 1)
    settings = {**SMALL, "steps": 8, "doublings": 1, "precision": precision, "checkpoint_seconds": 0}
    whole = InverseNetwork(settings)
    whole.fit(train, held, tmp_path / "whole")
    advance = DecoderTraining._advance

    def killed(self, step, start, end):
        if step == 11:
            raise KilledError
        advance(self, step, start, end)

    monkeypatch.setattr(DecoderTraining, "_advance", killed)
    with pytest.raises(KilledError):
        InverseNetwork(settings).fit(train, held, tmp_path / "killed")
    calls = []
    monkeypatch.setattr(DecoderTraining, "_advance", lambda self, *a: (calls.append(a[0]), advance(self, *a)))
    resumed = InverseNetwork(settings)
    resumed.fit(train, held, tmp_path / "killed")
    assert calls == list(range(11, 16))
    for a, b in zip(whole._inverter.state_dict().values(), resumed._inverter.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_other_settings_or_a_broken_one_is_not_used(tmp_path):
    train, held = pairs(24), pairs(8, 1)
    settings = {**SMALL, "steps": 4}
    InverseNetwork(settings).fit(train, held, tmp_path)
    with safe_open(tmp_path / "training.safetensors", "pt") as file:
        assert file.metadata()["step"] == "4"
    again = InverseNetwork({**settings, "learning_rate": 1e-3}).fit(train, held, tmp_path)
    assert again.steps == 4
    (tmp_path / "training.safetensors").write_bytes(b"not a checkpoint")
    assert InverseNetwork(settings).fit(train, held, tmp_path).steps == 4


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others():
    train, held = pairs(24), pairs(8, 1)
    codes = held.parts[0].codes
    outputs = []
    for seed in (1, 1, 2):
        attack = InverseNetwork({**SMALL, "steps": 5, "seed": seed})
        attack.fit(train, held)
        outputs.append(attack.reconstruct(codes))
    assert (outputs[0] == outputs[1]).all()
    assert (outputs[0] != outputs[2]).any()


def test_a_decoder_starts_from_the_linear_reconstruction():
    train, held = pairs(64), pairs(16, 1)
    features, _ = held.batch(np.arange(len(held)))
    ridge = Ridge(RidgeSettings(design="patch", penalties=(1e-2,)))
    ridge.fit(train, held)
    start = LinearStart(train, seed=0)
    with torch.no_grad():
        linear = start(torch.from_numpy(features))
    coarse = torch.nn.functional.adaptive_avg_pool2d
    expected = torch.from_numpy(ridge.reconstruct(held.parts[0].codes)).permute(0, 3, 1, 2) / 255
    size = held.code_shape[1:]
    cells = linear.unfold(2, SIDE // size[0], SIDE // size[0]).unfold(3, SIDE // size[1], SIDE // size[1])
    middle = cells[..., 1:-1, 1:-1].mean((-1, -2))  # what bilinear enlarging leaves of a cell
    assert (middle - coarse(expected, size)).abs().mean() < 0.03
    plain = InverseNetwork({**SMALL, "steps": 2, "linear_start": False}).fit(train, held)
    assert InverseNetwork({**SMALL, "steps": 2}).fit(train, held).validation_mse < plain.validation_mse


def test_convergence_is_told_by_doubling():
    train, held = pairs(64), pairs(16, 1)
    small = {**SMALL, "linear_start": False}
    early = InverseNetwork({**small, "steps": 4, "doublings": 1, "tolerance": 0.001}).fit(train, held)
    assert early.converged is False
    assert early.steps == 8
    assert early.gain >= 0.001
    easy = InverseNetwork({**small, "steps": 4, "doublings": 3, "tolerance": 0.9}).fit(train, held)
    assert easy.converged is True
    assert easy.steps == 8


def test_nan_in_a_decoder_is_a_clear_error():
    attack = InverseNetwork({**SMALL, "steps": 3, "learning_rate": 1e30, "precision": "fp32"})
    with pytest.raises(AttackError, match="learning_rate"):
        attack.fit(pairs(24), pairs(8, 1))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"batch": 1}, "batch"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"precision": "int4"}, "precision"),
        ({"stepz": 5}, "stepz"),
        ({"label": "a/b"}, "label"),
    ],
)
def test_wrong_parameters_are_named(options, name):
    with pytest.raises(AttackError, match=name):
        InverseNetwork(options)


def test_settings_of_another_attack_are_refused():
    with pytest.raises(AttackError, match="RidgeSettings"):
        Ridge(InverseNetworkSettings())


def test_use_in_the_wrong_order_or_on_other_codes():
    train = pairs(24)
    attack = Ridge()
    with pytest.raises(AttackError, match="fit the attack"):
        attack.reconstruct(train.parts[0].codes)
    attack.fit(train, train)
    with pytest.raises(AttackError, match="another model"):
        attack.reconstruct(WireCodes(fold(blobs(2), 8), STEP))
    with pytest.raises(AttackError, match="step"):
        attack.reconstruct(WireCodes(fold(blobs(2)), 2 * STEP))


def test_scale_of_the_codes_does_not_hide_anything():
    pictures = blobs(40)
    outputs = []
    for step in (STEP, STEP * 1e-6):
        made = Pairs([Part(WireCodes(fold(pictures), step), pictures, np.arange(40))])
        attack = InverseNetwork({**SMALL, "steps": 6, "precision": "fp32"})
        attack.fit(made, made)
        outputs.append(attack.reconstruct(made.parts[0].codes).astype(int))
    assert np.abs(outputs[0] - outputs[1]).max() <= 1


def test_learning_rate_rises_then_falls():
    values = [one_cycle(i / 100) for i in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == pytest.approx(1.0, abs=1e-3)
    assert values[-1] == pytest.approx(0.01)
    assert np.argmax(values) == 15
