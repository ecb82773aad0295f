"""The sandwich of a wire with private noise: attack <= truth <= certificate, each for n frames of a scene.

The device sends ``clip(round(m + sigma N))`` for the signal code m, element by element, with noise that nobody
else knows. For an adversary who knows everything else the scene's variants are V known codes ``m_v``, and what it
sees is a product of independent draws whose probabilities are known exactly: the Gaussian mass of each code's
interval. So

- the **truth**, the accuracy of the best guess from the codes themselves, is the maximum-likelihood guess of those
  probabilities. It is run on what the real engine sends, hence a Monte Carlo number with a sampling error;
- the **certificate** is the same guess before the last quantizer, which can only lose information
  (:func:`toolkit.privacy.certificate.bayes_accuracy`): an upper bound of the truth, without sampling error;
- the **attack** reconstructs pictures from the same codes and names the variant that they look most like.

n frames of an unchanged scene have independent noise: likelihoods multiply, reconstructions are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolkit.errors import AttackError
from toolkit.privacy.certificate import Certificate, Values, bound_of_means, check_variants
from toolkit.privacy.codes import Array, Pictures
from toolkit.wire import WireFormat

FRAMES = (1, 4, 16)
DRAWS = 32  # transmissions of every variant
FALSE_ALARM = 1e-6  # probability with which a run stops though the sandwich holds
Z95 = 1.959963984540054


@dataclass(frozen=True)
class NoisyWire:
    """An edge engine with private noise, as the two sides see it.

    Attributes:
        signal: pictures to the codes without noise, always the same.
        send: pictures to what is sent, with new noise at every call.
        fmt: of the wire.
        sigma: standard deviation of the noise in steps.
    """

    signal: Callable[[Pictures], Array]
    send: Callable[[Pictures], Array]
    fmt: WireFormat
    sigma: float


@dataclass(frozen=True)
class Share:
    """A share of right guesses: mean over scenes, 95 % interval of its sampling error, and the trials behind it.

    ``trials`` is what a mean over scenes is worth: fewer than were made where scenes differ in variants.
    """

    value: float
    low: float
    high: float
    trials: float


@dataclass(frozen=True)
class Sandwich:
    """What can be told about one content from n frames of a scene.

    Attributes:
        frames: transmissions of each scene that the adversary sees.
        certificate: upper bound for every adversary.
        truth: of the best guess on the codes that were sent.
        attack: of the reconstructing attacker on the same codes; None without one.
    """

    frames: int
    certificate: Certificate
    truth: Share
    attack: Share | None

    def check(self) -> None:
        """Stop where one side is above the next by more than chance allows (Hoeffding's inequality).

        Raises:
            AttackError: the sandwich does not hold.
        """
        slack = math.sqrt(-math.log(FALSE_ALARM) / 2 / self.truth.trials)
        self.certificate.check(self.truth.value, slack)
        if self.attack is None:
            return
        self.certificate.check(self.attack.value, slack)
        if self.attack.value > self.truth.value + 2 * slack:  # both are guesses on the same codes
            raise AttackError(
                f"{self.certificate.content}: an attack reaches {self.attack.value:.3f}, the best guess on the "
                f"same codes {self.truth.value:.3f}; the noise is not what the run says it is"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def measure_sandwich(
    content: str,
    scenes: Sequence[Pictures],
    wire: NoisyWire,
    *,
    frames: Sequence[int] = FRAMES,
    draws: int = DRAWS,
    reconstruct: Callable[[Array], Pictures] | None = None,
    seed: int = 0,
) -> tuple[Sandwich, ...]:
    """Certificate, truth and attack for each number of frames, all on the same transmissions.

    Args:
        content: what differs between the variants.
        scenes: for each scene its variants' pictures ``(V, H, W, 3)``, V >= 2, all different from each other.
        wire: the exact edge engine.
        frames: numbers of frames, each a divisor of ``draws``.
        draws: transmissions of every variant.
        reconstruct: codes to pictures, a fitted attack.
        seed: of the certificate's own draws.

    Raises:
        AttackError: no scenes, equal variants, an engine whose signal changes, or frames that do not divide.
    """
    if not scenes or any(draws % count for count in frames):
        raise AttackError(f"{content}: a sandwich needs scenes, and {draws} draws that {list(frames)} divide")
    table = log_likelihoods(wire.fmt, wire.sigma)
    means, truths, attacks = [], [], []
    for pictures in scenes:
        check_variants(content, pictures)
        signal = np.asarray(wire.signal(pictures))
        if not np.array_equal(signal, np.asarray(wire.signal(pictures))):
            raise AttackError(f"{content}: the engine's signal changes from call to call; it has noise of its own")
        sent = np.stack([np.asarray(wire.send(pictures)) for _ in range(draws)])
        means.append(signal.reshape(len(signal), -1).astype(np.float64))
        truths.append(_likelihoods(signal, sent, table, wire.fmt.low))
        if reconstruct is not None:
            attacks.append(_likeness(pictures, signal, sent, reconstruct, frames))
    found = []
    for place, count in enumerate(frames):
        bound = bound_of_means(content, means, wire.sigma, frames=count, seed=seed)
        truth = _share([_hits(_grouped(scores, count).sum(1)) for scores in truths])
        attack = _share([_hits(scores[place]) for scores in attacks]) if attacks else None
        found.append(Sandwich(count, bound, truth, attack))
    return tuple(found)


def log_likelihoods(fmt: WireFormat, sigma: float) -> Values:
    """``(levels, levels)``: logarithm of the probability that a signal code (row) is sent as a code (column).

    The mass of a Gaussian of ``sigma`` steps between a code's two rounding borders; the outermost codes hold the
    tails, because the device clips.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise AttackError(f"noise has a positive standard deviation, not {sigma}")
    levels = fmt.high - fmt.low + 1
    reach = np.arange(-1, levels) + 0.5  # of a difference between code and signal
    tail = np.array([0.5 * math.erfc(border / sigma / math.sqrt(2)) for border in reach])  # mass above a border
    distance = np.abs(np.subtract.outer(np.arange(levels), np.arange(levels)))
    inside = np.where(distance == 0, 1 - 2 * tail[1], tail[distance] - tail[distance + 1])
    inside[:, 0] = tail[np.arange(levels)]  # everything up to the lowest code's upper border
    inside[:, -1] = tail[levels - 1 - np.arange(levels)]
    return np.asarray(np.log(np.maximum(inside, np.finfo(np.float64).tiny)))


def _likelihoods(signal: Array, sent: Array, table: Values, low: int) -> Values:
    """``(draws, V, V)``: what each transmission of each variant says for each variant."""
    known, seen = signal.reshape(len(signal), -1), sent.reshape(*sent.shape[:2], -1)
    where = (known != known[:1]).any(0)
    known, seen = (values[..., where].astype(np.int64) - low for values in (known, seen))
    scores = np.empty((*seen.shape[:2], len(known)))
    for guess, codes in enumerate(known):
        scores[:, :, guess] = table[codes, seen].sum(-1)
    return scores


def _likeness(
    pictures: Pictures, signal: Array, sent: Array, reconstruct: Callable[[Array], Pictures], frames: Sequence[int]
) -> list[Values]:
    """``(groups, V, V)`` for each number of frames: likeness of averaged reconstructions to the variants."""
    where = (pictures != pictures[:1]).any((0, 3))
    expected = reconstruct(signal).astype(np.float64)[:, where].reshape(len(signal), -1).mean(0)
    seen = np.stack([reconstruct(codes).astype(np.float64)[:, where].reshape(len(codes), -1) for codes in sent])
    known = pictures.astype(np.float64)[:, where].reshape(len(pictures), -1)
    known = known - known.mean(0)
    likeness = (seen - expected) @ known.T - 0.5 * (known**2).sum(1)
    return [_grouped(likeness, count).mean(1) for count in frames]


def _grouped(values: Values, count: int) -> Values:
    """``(draws, V, V)`` as ``(groups, count, V, V)``."""
    return values.reshape(len(values) // count, count, *values.shape[1:])


def _hits(scores: Values) -> Values:
    """Of ``(groups, V, V)`` scores, by true variant and guess: 1 for a right guess, its part of a tie."""
    best = np.isclose(scores, scores.max(-1, keepdims=True), rtol=0, atol=1e-9)
    right = np.diagonal(best, axis1=1, axis2=2)
    return np.asarray(right / best.sum(-1)).ravel()


def _share(hits: list[Values]) -> Share:
    """Mean over scenes of the share of hits, with Wilson's interval."""
    value = float(np.mean([scene.mean() for scene in hits]))
    count = len(hits) ** 2 / sum(1 / len(scene) for scene in hits)
    middle = (value + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    spread = Z95 * math.sqrt(value * (1 - value) / count + Z95**2 / (4 * count**2)) / (1 + Z95**2 / count)
    return Share(value, max(0.0, min(value, middle - spread)), min(1.0, max(value, middle + spread)), count)
