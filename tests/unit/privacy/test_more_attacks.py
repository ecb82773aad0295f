import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.privacy.toys import STEP, blobs, data, fold, pairs
from toolkit.errors import AttackError
from toolkit.preprocess import Preprocess
from toolkit.privacy.attacks.critic import Critic, Game
from toolkit.privacy.attacks.deep_prior import DeepPriors
from toolkit.privacy.attacks.frames import stack_frames
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.optimization import Search, distance_to_codes, search_pictures
from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
from toolkit.privacy.attacks.substitute import Substitute, SubstituteSettings, maximum_mean_discrepancy
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.training import DecoderTraining
from toolkit.privacy.attacks.whitebox import WhiteBox, WhiteBoxSettings
from toolkit.privacy.augmentation import Jitter, changed_part, mirror
from toolkit.privacy.pairs import LivePart, Pairs, Part
from toolkit.privacy.resume import reconstruct_kept
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.similarity import compare
from toolkit.privacy.synthetic import synthetic_pictures

SMALL = InverseNetworkSettings(decoder="subpixel_n1c16", steps=6, batch=8, linear_start=False, precision="fp32")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def weights(attack: InverseNetwork) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in attack._inverter.parameters()])


def test_changed_pictures_are_encoded_not_changed_codes_and_only_once(tmp_path):
    d, calls = data(40), []

    def encode(pictures):
        calls.append(len(pictures))
        return fold(pictures)

    part = changed_part(d, encode, mirror, tmp_path / "mirror", "a")
    flipped = d.pictures[d.train][:, :, ::-1]
    assert (part.pictures == flipped).all()
    assert (part.codes.values == fold(flipped)).all()
    assert isinstance(part.codes.values, np.memmap) and isinstance(part.pictures, np.memmap)
    changed_part(d, encode, mirror, tmp_path / "mirror", "a")
    assert sum(calls) == len(d.train)
    changed_part(d, encode, mirror, tmp_path / "mirror", "other codes")
    assert sum(calls) == 2 * len(d.train)


def jitter(seed, change, pictures, first=0):
    numbers = np.arange(first, first + len(pictures))
    return Jitter(seed)(pictures, numbers, np.full(len(pictures), change))


def test_jitter_depends_on_seed_change_and_picture_alone():
    pictures = blobs(4)
    one = jitter(0, 0, pictures, 10)
    assert one.shape == pictures.shape and one.dtype == np.uint8
    assert (jitter(0, 0, pictures[2:], 12) == one[2:]).all()
    assert not (jitter(0, 1, pictures, 10) == one).all()
    assert not (jitter(1, 0, pictures, 10) == one).all()
    assert np.abs(one.astype(int) - pictures).mean() > 2


def test_jitter_moves_the_whole_picture_within_its_bounds():
    """A bright square in the middle stays in the picture: its centre moves by at most the shift and the turn."""
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    picture[:, 28:36, 28:36] = 255
    centres, areas = [], []
    for copy in range(60):
        made = jitter(0, copy, picture)[0].astype(float).mean(2)
        bright = made > (made.max() + made.min()) / 2
        rows, columns = np.nonzero(bright)
        centres.append((rows.mean() - 31.5, columns.mean() - 31.5))
        areas.append(bright.sum() / 64)
    assert np.abs(centres).max() <= 0.15 * 64 + 1
    assert np.abs(np.mean(centres, 0)).max() < 2.5
    assert (
        min(areas) > np.exp(-0.35) ** 2 * np.exp(-0.15) - 0.15
        and max(areas) < np.exp(0.35) ** 2 * np.exp(0.15) + 0.3
    )
    assert max(areas) > 1.3 and min(areas) < 0.75


def live(part, change, copies=3, rows=None):
    rows = part.indices if rows is None else rows
    numbers, which = np.tile(rows, copies), np.repeat(np.arange(copies), len(rows))
    return LivePart(part.shape, part.step, part.pictures, numbers, which, change, fold, copies)


def test_ridge_leaves_changed_pictures_out_where_they_mislead():
    own, report = pairs(60), {}
    misleading = dataclasses.replace(live(own.parts[0], Jitter(0)), encode=lambda made: fold(made)[::-1].copy())
    for name, given in (("both", Pairs([*own.parts, misleading])), ("own", own)):
        attack = Ridge(RidgeSettings(design="patch"))
        report[name] = attack.fit(given, pairs(20, 9))
        report[f"{name} pictures"] = attack.reconstruct(pairs(4, 7).parts[0].codes)
    assert report["both"].pairs == report["own"].pairs == 60
    assert (report["both pictures"] == report["own pictures"]).all()
    few = pairs(8)
    helpful = live(few.parts[0], Jitter(0), copies=20)
    whole = Ridge(RidgeSettings(design="picture", features=8192))
    assert whole.fit(Pairs([*few.parts, helpful]), pairs(20, 9)).pairs == 168


def test_live_pairs_are_the_codes_of_what_they_show_and_other_pictures_in_every_turn():
    part = pairs(12).parts[0]
    both = Pairs([part, live(part, Jitter(0), copies=2)])
    assert len(both) == 36
    positions = np.array([30, 2, 14, 35])
    features, pictures = both.batch(positions)
    assert np.allclose(features, fold(pictures) * np.float32(STEP))
    assert (both.pictures(positions) == pictures).all() and (both.features(positions) == features).all()
    assert (pictures[1] == part.pictures[2]).all()
    assert (pictures[2] == Jitter(0)(part.pictures[2:3], np.array([2]), np.array([0]))[0]).all()
    seen = [both.batch(np.array([14, 26]), turn)[1] for turn in range(3)]
    flat = {picture.tobytes() for pictures in seen for picture in pictures}
    assert len(flat) == 6  # two copies in three turns: no change comes twice
    assert (both.batch(positions, 1)[1][1] == part.pictures[2]).all()
    assert (both.at(positions).pictures(np.arange(4)) == both.pictures(np.array([2, 30, 14, 35]))).any()


def test_live_codes_of_another_model_are_refused():
    part = pairs(12).parts[0]
    wrong = dataclasses.replace(live(part, Jitter(0)), encode=lambda pictures: fold(pictures)[:, :5])
    with pytest.raises(AttackError, match="codes of another model"):
        Pairs([part, wrong]).batch(np.array([0, 20]))


def test_live_pairs_are_halved_with_their_pictures_and_left_out_of_the_floor():
    part = pairs(10).parts[0]
    both = Pairs([part, live(part, Jitter(0), copies=3)])
    half = both.half(0)
    kept = set(half.parts[0].indices.tolist())
    assert len(half) == 4 * len(kept) and set(half.parts[1].indices.tolist()) == kept
    assert len(both.unchanged()) == 10 and len(both.mismatched(0)) == 10
    assert len(half.unchanged()) == len(kept)
    assert pairs(10).unchanged().parts[0].indices.tolist() == list(range(10))
    alone = Pairs([live(part, Jitter(0))])
    assert alone.unchanged() is alone


def test_a_decoder_trained_on_live_pairs_goes_on_as_if_it_had_not_been_killed(tmp_path):
    part = pairs(24).parts[0]
    train, held = Pairs([part, live(part, Jitter(0))]), pairs(12, 1)
    settings = SMALL.model_copy(update={"steps": 16, "checkpoint_seconds": 0.0})
    whole, broken = InverseNetwork(settings), InverseNetwork(settings)
    whole.fit(train, held)
    calls = []

    class KilledError(Exception):
        pass

    def dying(pictures):
        calls.append(len(pictures))
        if len(calls) > 9:
            raise KilledError
        return fold(pictures)

    dies = Pairs([part, dataclasses.replace(train.parts[1], encode=dying)])
    with pytest.raises(KilledError):
        broken.fit(dies, held, tmp_path)
    again = InverseNetwork(settings)
    again.fit(train, held, tmp_path)
    assert torch.equal(weights(whole), weights(again))


def test_the_headline_preset_makes_more_of_few_pictures():
    headline = AttackSettings(preset="headline")
    assert [headline.copies(n) for n in (100, 648, 2500, 9000, 100_000)] == [40, 37, 8, 1, 0]
    assert AttackSettings().copies(648) == 0
    assert AttackSettings(preset="headline", augmented=3).copies(648) == 3


def test_deep_priors_are_independent_and_of_the_pictures_size():
    priors = DeepPriors(3, (20, 28), 6, seed=1)
    assert priors().shape == (3, 3, 20, 28)
    assert torch.allclose(priors()[0], priors()[2], atol=1e-6)
    alone = DeepPriors(1, (20, 28), 6, seed=1)()
    assert torch.allclose(priors()[1], alone[0], atol=1e-5)
    slope = torch.autograd.grad(priors()[0].sum(), list(priors.parameters()))
    assert all(float(g[len(g) // 3 :].abs().sum()) == 0 for g in slope)


def test_white_box_searches_the_weights_of_a_prior():
    edge = nn.AvgPool2d(4)
    pictures = torch.from_numpy(blobs(2)).permute(0, 3, 1, 2).float() / 255
    target, start = edge(pictures), torch.full((2, 3, 32, 32), 0.5)
    search = Search(60, 0.02, 0.0, "feature", prior_width=8)
    found = search_pictures(edge, target, start, None, search)
    before, after = (distance_to_codes(edge(x), target, None, "feature").mean() for x in (start, found))
    assert float(after) < 0.3 * float(before)
    attack = WhiteBox(
        WhiteBoxSettings(parameterization="deep_prior", prior_width=8, iterations=4, tv=(0.0,), tuning_pictures=2),
        Tools(edge=lambda x: torch.nn.functional.pixel_unshuffle(x, 4)),
    )
    attack.fit(pairs(20), pairs(6, 1))
    assert attack.reconstruct(pairs(4).parts[0].codes).shape == (4, 32, 32, 3)


def test_maximum_mean_discrepancy_by_hand():
    a = torch.tensor([[0.0], [1.0]])
    assert float(maximum_mean_discrepancy(a, a)) == pytest.approx(0.0, abs=1e-6)
    far, near = (float(maximum_mean_discrepancy(a, a + shift)) for shift in (5.0, 0.5))
    assert far > near > 0
    # two points: k(x, x) = 5 kernels; off-diagonal distance d, mean squared distance d / 2
    x, y = torch.zeros(1, 1), torch.ones(1, 1)
    expected = 10 - 2 * sum(np.exp(-2 / f) for f in (0.25, 0.5, 1, 2, 4))
    assert float(maximum_mean_discrepancy(x, y)) == pytest.approx(expected, rel=1e-5)


def test_a_substitute_client_needs_neither_queries_nor_the_cloud():
    settings = SubstituteSettings(steps=12, batch=8, width=8, decoder=SMALL)
    attack = Substitute(settings, Tools())
    known = attack.knowledge
    assert not (known.cloud_half or known.edge_weights or known.edge_queries or known.training_set)
    report = attack.fit(pairs(40), pairs(12, 1))
    assert report.steps == 18
    codes = pairs(5).parts[0].codes
    made = attack.reconstruct(codes)
    assert made.shape == (5, 32, 32, 3)
    swapped = attack.reconstruct(dataclasses.replace(codes, values=codes.values[::-1].copy()))
    assert np.abs(swapped.astype(int) - made[::-1]).max() <= 1  # nothing but the codes says which picture it was
    again = Substitute(settings, Tools())
    again.fit(pairs(40), pairs(12, 1))
    assert (again.reconstruct(pairs(5).parts[0].codes) == made).all()


def test_an_imitation_sends_with_noise_of_the_size_that_the_device_adds():
    made, x = {}, torch.from_numpy(blobs(1)).permute(0, 3, 1, 2).float() / 255
    for noise in (0.0, 3 * STEP):
        attack = Substitute(SubstituteSettings(steps=4, batch=8, width=8, decoder=SMALL), Tools(noise=noise))
        attack.fit(pairs(40), pairs(12, 1))
        for signed in (True, False):
            attack._shadow.signed = signed
            with torch.no_grad():
                made[noise, signed] = torch.stack([attack._features(x) for _ in range(300)])
                clean = attack._shadow(x)
    assert float(made[0.0, True].std(0).max()) == 0
    assert float(made[3 * STEP, True].std(0).mean()) == pytest.approx(3 * STEP, rel=0.02)
    assert float(made[3 * STEP, False].min()) == 0  # such a wire has no negative codes
    # the mean of a rectified normal
    zero = made[3 * STEP, False][:, clean == 0]
    assert float(zero.mean()) == pytest.approx(3 * STEP / (2 * np.pi) ** 0.5, rel=0.05)


def test_an_imitation_is_inverted_with_changed_pictures_too(tmp_path):
    part = pairs(60).parts[0]
    own = Part(part.codes, part.pictures, np.arange(10, 50))
    changed = live(part, Jitter(0), copies=1, rows=own.indices)
    made = {}
    for folder in (None, tmp_path):
        attack = Substitute(SubstituteSettings(steps=4, batch=8, width=8, decoder=SMALL), Tools())
        assert attack.fit(Pairs([own, changed]), pairs(12, 1), folder).pairs == 80
        made[folder] = attack.reconstruct(pairs(5).parts[0].codes)
        both = attack._shadow_pairs(Pairs([own, changed]), None)
        features, pictures = both.batch(np.arange(80))
        assert (pictures[:40] == part.pictures[10:50]).all()
        assert (pictures[40:] == changed.shown(np.arange(40), 0)).all()
        assert np.allclose(features, attack._send(pictures), atol=1e-5)  # its own codes, not the target's
        assert not np.allclose(features, fold(pictures) * np.float32(STEP))
    assert (made[None] == made[tmp_path]).all()


def test_a_substitute_learns_without_the_pairing():
    own = pairs(40)
    order = np.random.default_rng(0).permutation(40)
    mixed = Pairs([Part(own.parts[0].codes, own.parts[0].pictures, own.parts[0].indices, order)])
    found = []
    for train in (own, mixed):
        attack = Substitute(SubstituteSettings(steps=4, batch=8, width=8, decoder=SMALL), Tools())
        attack.fit(train, pairs(12, 1))
        found.append(attack.reconstruct(own.parts[0].codes))
    assert (found[0] == found[1]).all()


def test_the_critic_prefers_originals_after_it_learned_and_pulls_the_decoder_to_them():
    torch.manual_seed(0)
    real, flat = torch.rand(8, 3, 32, 32), torch.full((8, 3, 32, 32), 0.5)
    game = Game(0, 1e-3, torch.device("cpu"))
    for _ in range(30):
        game.learn(flat, real)
    assert game.critic(real)[1].mean() > game.critic(flat)[1].mean()
    guess = flat.clone().requires_grad_(True)
    game.loss(guess, real, 0.1, 1.0).backward()
    assert guess.grad is not None and float(guess.grad.abs().sum()) > 0
    assert float(game.loss(real, real, 0.0, 1.0)) == pytest.approx(0.0, abs=1e-6)
    assert len(Critic()(real)[0]) == 3


def test_a_killed_training_with_a_critic_ends_with_the_same_weights(tmp_path, monkeypatch):
    options = SMALL.model_copy(
        update={"adversarial_weight": 0.01, "perceptual_weight": 0.1, "checkpoint_seconds": 0.0, "ssim_crop": 16}
    )
    whole = InverseNetwork(options)
    whole.fit(pairs(32), pairs(8, 1))
    advance = DecoderTraining._advance

    def dies(self, step, start, end):
        if step == 4:
            raise KeyboardInterrupt
        advance(self, step, start, end)

    monkeypatch.setattr(DecoderTraining, "_advance", dies)
    with pytest.raises(KeyboardInterrupt):
        InverseNetwork(options).fit(pairs(32), pairs(8, 1), tmp_path)
    monkeypatch.setattr(DecoderTraining, "_advance", advance)
    resumed = InverseNetwork(options)
    resumed.fit(pairs(32), pairs(8, 1), tmp_path)
    assert torch.equal(weights(whole), weights(resumed))


def test_announcing_the_time_changes_nothing(monkeypatch, caplog):
    quiet = InverseNetwork(SMALL)
    quiet.fit(pairs(32), pairs(8, 1))
    monkeypatch.setattr("toolkit.privacy.attacks.training.ANNOUNCED", 1)
    loud = InverseNetwork(SMALL)
    with caplog.at_level("INFO"):
        loud.fit(pairs(32), pairs(8, 1))
    assert "min for the first cycle" in caplog.text
    assert torch.equal(weights(quiet), weights(loud))


def test_pretraining_on_synthetic_pairs_comes_first(tmp_path):
    options = SMALL.model_copy(update={"steps": 2, "pretrain_steps": 60, "learning_rate": 5e-3})
    own, held, synthetic = pairs(8), pairs(16, 1), pairs(64, 2)
    plain = InverseNetwork(options).fit(own, held)
    taught = InverseNetwork(options, Tools(pretraining=synthetic)).fit(own, held, tmp_path)
    assert taught.validation_mse < plain.validation_mse
    assert (tmp_path / "pretraining" / "training.safetensors").exists()
    other = Tools(pretraining=Pairs([Part(dataclasses.replace(own.parts[0].codes, step=1.0), *_rest(own))]))
    with pytest.raises(AttackError, match="another model"):
        InverseNetwork(options, other).fit(own, held)


def _rest(some: Pairs):
    return some.parts[0].pictures, some.parts[0].indices


def test_synthetic_pictures_are_of_the_runs_size_and_of_nobodys_fleet():
    made = synthetic_pictures(3, Preprocess(height=32, width=48, interpolation="area"))
    assert made.shape == (3, 32, 48, 3)
    assert not (made[0] == made[1]).all()
    with pytest.raises(AttackError, match="at least one"):
        synthetic_pictures(0, Preprocess(height=32, width=32, interpolation="area"))


def test_reconstructing_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    d = data(400)
    attack = Ridge(RidgeSettings())
    attack.fit(d.pairs(d.train), d.pairs(d.validation))
    whole = attack.reconstruct(d.codes, d.test)
    real, asked = Ridge.reconstruct, []

    def counting(self, codes, rows):
        if len(asked) == 1:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(len(rows))
        return real(self, codes, rows)

    monkeypatch.setattr(Ridge, "reconstruct", counting)
    with pytest.raises(KeyboardInterrupt):
        reconstruct_kept(attack, d, tmp_path, "key")
    assert (reconstruct_kept(attack, d, tmp_path, "key") == whole).all()
    assert sum(asked) == len(d.test)
    assert not list(tmp_path.iterdir())


def test_frames_decoded_jointly_beat_one_frame():
    random = np.random.default_rng(0)
    pictures = blobs(120)
    clean = fold(pictures).astype(np.float32)
    frames = np.stack([clean + random.normal(0, 30, clean.shape) for _ in range(6)], 1)
    frames = np.clip(np.rint(frames), 0, 127).astype(np.int8)
    scores = []
    for codes in (stack_frames(frames[:, :1], STEP), stack_frames(frames, STEP)):
        attack = Ridge(RidgeSettings(design="patch"))
        attack.fit(
            Pairs([Part(codes, pictures, np.arange(80))]), Pairs([Part(codes, pictures, np.arange(80, 90))])
        )
        made = attack.reconstruct(codes, np.arange(90, 120))
        scores.append(float(compare(made, pictures[90:]).mse.mean()))
    assert scores[1] < 0.6 * scores[0]
