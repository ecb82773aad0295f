"""Attack <= truth <= certificate on toy encoders whose answers are computed by hand."""

import math

import numpy as np
import pytest

from toolkit.errors import AttackError
from toolkit.privacy.sandwich import NoisyWire, log_likelihoods, measure_sandwich
from toolkit.wire import WireFormat

SIGNED = WireFormat(1, 1, 4, 8, 0.5, True)


def phi(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def toy(sigma, fmt=SIGNED, seed=0, scale=1, wrong=1.0):
    """An encoder that sends the red values of a 1 x 4 picture as codes, noise and all."""
    random = np.random.default_rng(seed)

    def signal(pictures):
        return np.clip(pictures[:, None, :, :, 0] * scale, fmt.low, fmt.high).astype(np.int8)

    def send(pictures):
        codes = signal(pictures)
        noisy = np.rint(codes + wrong * sigma * random.standard_normal(codes.shape))
        return np.clip(noisy, fmt.low, fmt.high).astype(np.int8)

    return NoisyWire(signal, send, fmt, sigma)


def scene(*reds):
    """Pictures (V, 1, 4, 3) that differ in the first red value."""
    pictures = np.full((len(reds), 1, 4, 3), 60, np.uint8)
    pictures[:, 0, 0, 0] = reds
    return pictures


def read(codes):
    """The toy's perfect inverse: an attacker who reads the codes as pictures."""
    pictures = np.full((len(codes), 1, 4, 3), 60, np.uint8)
    pictures[..., 0] = np.clip(codes[:, 0], 0, 255)
    return pictures


@pytest.mark.parametrize("bits,signed,sigma", [(8, True, 1.5), (8, False, 0.3), (4, False, 2.0), (2, True, 7.0)])
def test_likelihoods_are_probabilities_and_match_a_direct_sum(bits, signed, sigma):
    fmt = WireFormat(1, 1, 1, bits, 0.1, signed)
    table = np.exp(log_likelihoods(fmt, sigma))
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)
    for signal in (fmt.low, 0, fmt.high):
        for code in (fmt.low, min(1, fmt.high), fmt.high):
            low = -math.inf if code == fmt.low else code - 0.5
            high = math.inf if code == fmt.high else code + 0.5
            direct = phi((high - signal) / sigma) - phi((low - signal) / sigma)
            assert table[signal - fmt.low, code - fmt.low] == pytest.approx(direct, abs=1e-12)


@pytest.mark.parametrize("frames", [1, 4, 16])
def test_certificate_is_the_known_value_and_truth_lies_just_below(frames):
    scenes = [scene(40, 42)] * 40
    [found] = measure_sandwich("toy", scenes, toy(4.0), frames=[frames], draws=64)
    assert found.certificate.accuracy == pytest.approx(phi(2 * math.sqrt(frames) / (2 * 4.0)), abs=1e-12)
    assert found.truth.trials == pytest.approx(40 * 2 * 64 / frames)
    # rounding to whole steps costs next to nothing at this noise: the truth is within its error of the bound
    assert found.truth.low - 0.02 < found.certificate.accuracy < found.truth.high + 0.04
    assert found.attack is None
    found.check()


def test_truth_of_a_coarse_quantizer_is_its_exact_bayes_accuracy():
    # one bit matters: codes 0 and 1 of a 2-bit wire, noise of half a step
    fmt, sigma = WireFormat(1, 1, 4, 2, 1.0, False), 0.5
    table = np.exp(log_likelihoods(fmt, sigma))
    exact = float(np.maximum(table[0], table[1]).sum() / 2)
    pictures = scene(0, 1)
    pictures[:, :, 1:] = 0
    [found] = measure_sandwich("toy", [pictures] * 100, toy(sigma, fmt), frames=[1], draws=64)
    assert exact < found.certificate.accuracy == pytest.approx(phi(1 / (2 * sigma)))
    assert found.truth.value == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 12_800))
    assert found.truth.low < found.truth.value < found.truth.high


def test_attack_is_measured_on_the_same_codes_and_lies_below():
    scenes = [scene(20, 30, 40, 50)] * 10
    found = measure_sandwich("toy", scenes, toy(6.0), frames=[1, 4, 16], draws=32, reconstruct=read)
    for sandwich in found:
        sandwich.check()
        assert sandwich.attack.value <= sandwich.truth.value <= sandwich.certificate.accuracy + 0.03
    assert found[0].certificate.accuracy < found[1].certificate.accuracy < found[2].certificate.accuracy
    assert found[0].truth.value < found[1].truth.value < found[2].truth.value
    assert found[0].attack.value > 0.5, "this attacker reads the codes themselves, chance is 0.25"
    assert found[0].to_dict()["frames"] == 1


def test_variants_with_one_code_are_guessed():
    [found] = measure_sandwich("toy", [scene(200, 210)], toy(1.0), frames=[1], draws=16, reconstruct=read)
    assert found.certificate.accuracy == 0.5
    assert found.truth.value == 0.5, "nothing differs, so every trial is half a hit"
    assert found.attack.low < 0.5 < found.attack.high
    found.check()


def test_too_little_noise_in_the_engine_is_caught():
    scenes = [scene(40, 42, 44)] * 20
    [found] = measure_sandwich("toy", scenes, toy(6.0, wrong=0.1), frames=[1], draws=32)
    with pytest.raises(AttackError, match="above the certificate"):
        found.check()


def test_an_attack_above_the_truth_is_caught():
    scenes, wire = [scene(40, 41)] * 50, toy(8.0)
    numbers = iter(range(10_000))

    def informed(codes):  # knows from the order of calls which variant it sees
        next(numbers)
        return np.concatenate([scene(40, 41)[place % 2][None] for place in range(len(codes))])

    [found] = measure_sandwich("toy", scenes, wire, frames=[1], draws=64, reconstruct=informed)
    assert found.attack.value == 1
    with pytest.raises(AttackError, match="an attack reaches"):
        found.check()


def test_refusals():
    with pytest.raises(AttackError, match="divide"):
        measure_sandwich("toy", [], toy(1.0))
    with pytest.raises(AttackError, match="divide"):
        measure_sandwich("toy", [scene(1, 2)], toy(1.0), frames=[3], draws=16)
    with pytest.raises(AttackError, match="at least two variants"):
        measure_sandwich("toy", [scene(1)], toy(1.0))
    with pytest.raises(AttackError, match="positive standard deviation"):
        log_likelihoods(SIGNED, 0.0)
    noisy = toy(1.0)
    with pytest.raises(AttackError, match="changes from call to call"):
        measure_sandwich("toy", [scene(10, 20)], NoisyWire(noisy.send, noisy.send, SIGNED, 1.0))
