"""A certificate by name, without an attacker: can the codes tell variants of one scene apart at all?

One scene is rendered with only one content changed (a plate character, an occupant, the background), and all
variants pass through the exact edge engine.

- On a deterministic wire an adversary who knows everything else sees one code per variant. Variants with equal
  codes cannot be told apart; with a uniform prior its best accuracy is exactly *distinct codes / variants*.
- With private Gaussian noise added before the last quantizer, the noisy feature is a Gaussian around one of the
  known noise-free features. The Bayes-optimal accuracy among these means bounds every adversary: what comes after
  (quantizer, packing, any attack) can only lose information (data processing inequality). n frames of a scene
  with independent noise act like means that lie sqrt(n) times further apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.errors import AttackError
from toolkit.privacy.codes import Array, Pictures

Values = npt.NDArray[np.float64]
Z99 = 2.5758293035489004


@dataclass(frozen=True)
class Certificate:
    """Best accuracy of any adversary over the variants of some scenes.

    Attributes:
        content: what was changed, e.g. ``plate``.
        accuracy: mean over scenes of the best accuracy (an upper bound where there is noise).
        chance: mean over scenes of guessing.
        scenes: number of scenes.
        per_scene: best accuracy of each.
        changed: mean share of codes that differ from the first variant's; how far the content reaches.
        exact: the accuracy is attained by an adversary who knows everything else (deterministic wire).
    """

    content: str
    accuracy: float
    chance: float
    scenes: int
    per_scene: tuple[float, ...]
    changed: float
    exact: bool

    def check(self, attack_accuracy: float, slack: float = 0.0) -> None:
        """Refuse an attack's accuracy above the certificate: one of the two is wrong.

        Args:
            attack_accuracy: measured on the same scenes and variants.
            slack: sampling error to allow for.

        Raises:
            AttackError: the sandwich attack <= certificate does not hold.
        """
        if attack_accuracy > self.accuracy + slack:
            raise AttackError(
                f"{self.content}: an attack reaches {attack_accuracy:.3f}, above the certificate "
                f"{self.accuracy:.3f}; the certificate was made with another engine or other scenes"
            )


def certify(content: str, scenes: Sequence[Pictures], encode: Callable[[Pictures], Array]) -> Certificate:
    """The certificate of a deterministic wire.

    Args:
        content: what differs between the variants.
        scenes: for each scene its variants' pictures ``(V, H, W, 3)``, V >= 2, all different from each other.
        encode: the exact edge engine, uint8 pictures to codes; it must give the same codes twice.

    Raises:
        AttackError: no scenes, fewer than two variants, two equal pictures, an engine that is not deterministic.
    """
    if not scenes:
        raise AttackError(f"{content}: a certificate needs at least one scene")
    best, chance, changed = [], [], []
    for pictures in scenes:
        check_variants(content, pictures)
        codes = np.asarray(encode(pictures))
        if not np.array_equal(codes, np.asarray(encode(pictures))):
            raise AttackError(f"{content}: the engine gave other codes for the same pictures; use the noisy bound")
        flat = np.ascontiguousarray(codes.reshape(len(codes), -1))
        best.append(len({row.tobytes() for row in flat}) / len(flat))
        chance.append(1 / len(flat))
        changed.append(float((flat[1:] != flat[:1]).mean()))
    return _certificate(content, best, chance, changed, exact=True)


def certify_noisy(
    content: str,
    scenes: Sequence[Pictures],
    features: Callable[[Pictures], Array],
    sigma: float,
    *,
    frames: int = 1,
    samples: int = 20_000,
    seed: int = 0,
) -> Certificate:
    """An upper bound for a wire with private Gaussian noise before its quantizer.

    Args:
        content: what differs between the variants.
        scenes: as in :func:`certify`.
        features: the engine up to the noise, uint8 pictures to float features.
        sigma: standard deviation of the noise, in units of the feature, independent for each element and frame.
        frames: transmissions of each scene that the adversary sees.
        samples: Monte Carlo draws where there are more than two variants.
        seed: of the draws.
    """
    known = []
    for pictures in scenes:
        check_variants(content, pictures)
        known.append(np.asarray(features(pictures), np.float64).reshape(len(pictures), -1))
    return bound_of_means(content, known, sigma, frames=frames, samples=samples, seed=seed)


def bound_of_means(
    content: str,
    known: Sequence[Values],
    sigma: float,
    *,
    frames: int = 1,
    samples: int = 20_000,
    seed: int = 0,
) -> Certificate:
    """:func:`certify_noisy` from each scene's noise-free features ``(V, D)``, in any unit that ``sigma`` has."""
    if not known:
        raise AttackError(f"{content}: a certificate needs at least one scene")
    best, chance, changed = [], [], []
    for number, means in enumerate(known):
        best.append(bayes_accuracy(means, sigma, frames=frames, samples=samples, seed=seed + number))
        chance.append(1 / len(means))
        changed.append(float((means[1:] != means[:1]).mean()))
    return _certificate(content, best, chance, changed, exact=False)


def matching_accuracy(
    scenes: Sequence[Pictures],
    encode: Callable[[Pictures], Array],
    reconstruct: Callable[[Array], Pictures],
) -> tuple[float, ...]:
    """The other side of the sandwich: how often a real attacker tells the variants of a scene apart.

    It knows everything else, as the certificate's adversary does: of the scene's variants it names the one whose
    own reconstruction would look most like the original, by least squares where the variants differ. On the same
    scenes and engine its accuracy cannot exceed :func:`certify`'s.

    Args:
        scenes: as in :func:`certify`.
        encode: the exact edge engine.
        reconstruct: codes to pictures, a fitted attack.

    Returns:
        Accuracy of each scene.
    """
    found = []
    for pictures in scenes:
        seen = reconstruct(np.asarray(encode(pictures))).astype(np.float64)
        known = pictures.astype(np.float64)
        where = (pictures != pictures[:1]).any((0, 3))
        seen, known = (values[:, where].reshape(len(values), -1) for values in (seen, known))
        # of each pair: what is seen of variant a against what is known of variant b, both without their means
        seen, known = seen - seen.mean(0), known - known.mean(0)
        likeness = seen @ known.T - 0.5 * (known**2).sum(1)
        found.append(float((likeness.argmax(1) == np.arange(len(pictures))).mean()))
    return tuple(found)


def bayes_accuracy(means: Values, sigma: float, *, frames: int = 1, samples: int = 20_000, seed: int = 0) -> float:
    """Accuracy of the best guess which of V equally likely means a Gaussian sample came from.

    Two means: exactly ``Phi(d sqrt(frames) / (2 sigma))`` with d their distance. More: Monte Carlo in the space
    that the means span (a sufficient statistic), as the upper end of a one-sided 99.5 % interval.

    Args:
        means: ``(V, D)``.
        sigma: standard deviation of the noise of one frame.
        frames: independent frames.
        samples: draws.
        seed: of the draws.

    Raises:
        AttackError: fewer than two means, or a noise that is not positive.
    """
    if len(means) < 2:
        raise AttackError("two variants are needed to ask which one it was")
    if not (math.isfinite(sigma) and sigma > 0) or frames < 1:
        raise AttackError(
            f"noise is a positive standard deviation and frames at least 1, not {sigma} and {frames}"
        )
    scaled = (means - means.mean(0)) * (math.sqrt(frames) / sigma)
    if len(means) == 2:
        distance = float(np.linalg.norm(scaled[0] - scaled[1]))
        return 0.5 * (1 + math.erf(distance / 2 / math.sqrt(2)))
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    points = vectors * np.sqrt(np.clip(values, 0, None))
    random = np.random.default_rng(seed)
    truth = random.integers(0, len(points), samples)
    seen = points[truth] + random.standard_normal((samples, points.shape[1]))
    score = seen @ points.T - 0.5 * (points**2).sum(1)
    # equal means share their probability: count a tie as a part of a hit
    ties = np.isclose(score, score.max(1, keepdims=True), rtol=0, atol=1e-9)
    hits = ties[np.arange(samples), truth] / ties.sum(1)
    return min(1.0, _wilson_upper(float(hits.mean()), samples))


def _certificate(
    content: str, best: list[float], chance: list[float], changed: list[float], *, exact: bool
) -> Certificate:
    means = [float(np.mean(values)) for values in (best, chance, changed)]
    return Certificate(content, means[0], means[1], len(best), tuple(best), means[2], exact)


def _wilson_upper(share: float, count: int) -> float:
    z2 = Z99**2
    middle = share + z2 / (2 * count)
    spread = Z99 * math.sqrt(max(0.0, share * (1 - share)) / count + z2 / (4 * count**2))
    return (middle + spread) / (1 + z2 / count)


def check_variants(content: str, pictures: Pictures) -> None:
    """Refuse fewer than two variants, or two that are the same picture."""
    if pictures.ndim != 4 or len(pictures) < 2:
        raise AttackError(f"{content}: a scene needs at least two variants (V, H, W, 3), not {pictures.shape}")
    if len({picture.tobytes() for picture in pictures}) < len(pictures):
        raise AttackError(
            f"{content}: two variants are the same picture; the content is not visible in this scene, leave it out"
        )
