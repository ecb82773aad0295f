import math

import numpy as np
import pytest
import torch

from tests.unit.privacy.toys import blobs, fold
from toolkit.errors import AttackError
from toolkit.privacy.certificate import bayes_accuracy, certify, certify_noisy, matching_accuracy


def scene(*levels: int) -> np.ndarray:
    """Variants of an 8 x 8 grey picture whose top left pixel has these levels."""
    pictures = np.full((len(levels), 8, 8, 3), 100, np.uint8)
    pictures[:, 0, 0] = np.asarray(levels)[:, None]
    return pictures


def quarters(pictures: np.ndarray) -> np.ndarray:
    """A toy edge half: the first pixel's level divided by 64, rounded down; one code a picture."""
    return (pictures[:, 0, 0, 0] // 64).astype(np.int8).reshape(-1, 1, 1, 1)


def test_distinct_codes_counted_by_hand():
    # levels 0, 10, 70, 200, 201 fall into quarters 0, 0, 1, 3, 3: three codes for five variants
    found = certify("plate", [scene(0, 10, 70, 200, 201)], quarters)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.chance == pytest.approx(1 / 5)
    assert found.exact
    assert found.changed == pytest.approx(3 / 4)  # 10 -> same code; 70, 200, 201 -> another


def test_a_blind_edge_is_certified_at_chance_and_a_lossless_one_at_one():
    variants = scene(*range(0, 250, 10))
    blind = certify("plate", [variants], lambda p: np.zeros((len(p), 1, 1, 1), np.int8))
    assert blind.accuracy == blind.chance == pytest.approx(1 / 25)
    assert blind.changed == 0
    lossless = certify("plate", [variants], lambda p: (p.astype(int) - 128).astype(np.int8).transpose(0, 3, 1, 2))
    assert lossless.accuracy == 1.0


def test_an_attacker_stays_below_the_certificate_and_a_perfect_one_attains_it():
    scenes = [blobs(6, seed) for seed in range(3)]
    lossless = matching_accuracy(scenes, fold, unfolded)
    assert lossless == (1.0, 1.0, 1.0)

    def coarse(pictures):
        return (fold(pictures) // 64).astype(np.int8)

    for encode, reconstruct in ((coarse, lambda c: unfolded(c.astype(np.int16) * 64)), (fold, blank)):
        found = certify("x", scenes, encode)
        attack = float(np.mean(matching_accuracy(scenes, encode, reconstruct)))
        found.check(attack)
        assert attack >= 1 / 6 - 1e-9
    same = certify("x", scenes, lambda p: np.zeros((len(p), 1, 2, 2), np.int8))
    with pytest.raises(AttackError, match="above the certificate"):
        same.check(float(np.mean(lossless)))


def unfolded(codes):
    x = torch.from_numpy(np.asarray(codes, np.float32) * 2)
    return torch.nn.functional.pixel_shuffle(x, 4).permute(0, 2, 3, 1).clamp(0, 255).numpy().astype(np.uint8)


def blank(codes):
    return np.full((len(codes), 32, 32, 3), 128, np.uint8)


def test_mean_over_scenes():
    found = certify("plate", [scene(0, 10), scene(0, 70)], quarters)
    assert found.per_scene == (0.5, 1.0)
    assert found.accuracy == 0.75
    assert found.scenes == 2


def test_the_best_adversary_attains_the_exact_value():
    variants = scene(0, 10, 70, 200, 201)
    codes = quarters(variants).ravel()
    guess = {int(code): i for i, code in enumerate(codes)}  # any one of the variants behind each code
    accuracy = np.mean([guess[int(code)] == i for i, code in enumerate(codes)])
    certificate = certify("plate", [variants], quarters)
    assert accuracy == pytest.approx(certificate.accuracy)
    certificate.check(float(accuracy))
    with pytest.raises(AttackError, match="above the certificate"):
        certificate.check(0.7)
    certificate.check(0.62, slack=0.05)


def test_what_cannot_be_certified():
    with pytest.raises(AttackError, match="at least one scene"):
        certify("plate", [], quarters)
    with pytest.raises(AttackError, match="two variants"):
        certify("plate", [scene(5)], quarters)
    with pytest.raises(AttackError, match="not visible"):
        certify("plate", [scene(5, 5)], quarters)
    random = np.random.default_rng(0)
    with pytest.raises(AttackError, match="other codes"):
        certify("plate", [scene(5, 6)], lambda p: random.integers(0, 99, (len(p), 4, 4, 4)))


def test_two_means_have_the_textbook_accuracy():
    means = np.array([[0.0, 0.0], [0.6, 0.8]])  # one unit apart
    expected = 0.5 * (1 + math.erf(0.25 / math.sqrt(2)))  # Phi(1 / (2 * 2)), sigma 2
    assert bayes_accuracy(means, 2.0) == pytest.approx(expected)
    # four frames halve the noise: Phi(1 / 2)
    assert bayes_accuracy(means, 2.0, frames=4) == pytest.approx(0.5 * (1 + math.erf(0.5 / math.sqrt(2))))


def test_many_means_by_simulation_of_the_best_guess():
    random = np.random.default_rng(1)
    means = random.normal(size=(5, 40))
    truth = random.integers(0, 5, 4000)
    seen = means[truth] + random.normal(0, 3.0, (4000, 40))
    guess = ((seen[:, None] - means) ** 2).sum(-1).argmin(1)
    found = bayes_accuracy(means, 3.0)
    simulated = (guess == truth).mean()
    assert found >= simulated - 0.015
    assert found == pytest.approx(simulated, abs=0.03)


def test_limits_of_the_noise():
    means = np.eye(4)
    assert bayes_accuracy(means, 1e-3) == 1.0
    assert bayes_accuracy(means, 1e3) == pytest.approx(0.25, abs=0.02)
    same = np.zeros((4, 7))
    assert bayes_accuracy(same, 1.0) == pytest.approx(0.25, abs=0.01)
    assert bayes_accuracy(means, 1.0) < bayes_accuracy(means, 1.0, frames=9)


def test_the_noisy_bound_holds_for_what_comes_after_the_quantizer():
    random = np.random.default_rng(2)
    variants = scene(0, 100, 200)
    features = lambda p: p[:, 0, 0, :1].astype(float) / 100
    bound = certify_noisy("plate", [variants], features, sigma=0.8)
    assert not bound.exact
    truth = random.integers(0, 3, 20_000)
    codes = np.rint((features(variants)[truth, 0] + random.normal(0, 0.8, 20_000)) / 0.5)
    guess = np.clip(np.rint(codes * 0.5), 0, 2)
    bound.check(float((guess == truth).mean()))
    assert 1 / 3 < bound.accuracy < 1


@pytest.mark.parametrize(
    ("means", "sigma", "frames"), [(1, 1.0, 1), (2, 0.0, 1), (2, float("nan"), 1), (2, 1.0, 0)]
)
def test_bad_noise_is_refused(means, sigma, frames):
    with pytest.raises(AttackError):
        bayes_accuracy(np.eye(3)[:means], sigma, frames=frames)
