"""The scale on which an attack is read: what is reached without the codes, and whether anything can be told.

Anchors depend on the pictures, not on the cut or the method, so one set serves every variant of a run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from toolkit.errors import ArtifactError, AttackError
from toolkit.privacy.attacks.base import Attack
from toolkit.privacy.codes import Indices, Pictures
from toolkit.privacy.pairs import Pairs
from toolkit.privacy.similarity import Similarity, Values, compare
from toolkit.privacy.statistics import estimate, mean

LEAST_MARGIN = 0.1
LEAST_ERRORS = 5.0


@dataclass(frozen=True)
class Anchors:
    """Scores of guesses that ignore the codes, one value a test picture.

    Attributes:
        mean_mse: of the mean picture of the attacker's pictures; the denominator of R2.
        mean_ssim: of the same.
        shuffled_mse: of a decoder trained on pairs that do not belong together.
        shuffled_ssim: of the same.
    """

    mean_mse: tuple[float, ...]
    mean_ssim: tuple[float, ...]
    shuffled_mse: tuple[float, ...]
    shuffled_ssim: tuple[float, ...]

    @property
    def floor(self) -> Values:
        """SSIM a picture of the better of the two guesses (better by its mean)."""
        shuffled_wins = np.mean(self.shuffled_ssim) > np.mean(self.mean_ssim)
        return np.asarray(self.shuffled_ssim if shuffled_wins else self.mean_ssim)

    @property
    def floor_ssim(self) -> float:
        """Mean SSIM of the floor."""
        return float(self.floor.mean())

    def r2(self, error: Values) -> float:
        """``1 - MSE / MSE(mean picture)``: 1 is exact, 0 no better than the mean picture."""
        return float(r_squared(float(np.mean(error)), float(np.mean(self.mean_mse))))

    def normalized(self, structure: float) -> float:
        """``(SSIM - floor) / (1 - floor)``: 1 is exact, 0 no better than without the codes."""
        return (structure - self.floor_ssim) / (1 - self.floor_ssim)

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Anchors:
        """Read JSON.

        Raises:
            ArtifactError: missing or not such a file.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{key: tuple(float(v) for v in values) for key, values in body.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} does not hold anchors ({error}); run the attack stage again") from error


def r_squared(error: Values | float, mean_error: Values | float) -> Values:
    """``1 - error / mean_error``, on arrays."""
    return np.asarray(1.0 - np.asarray(error) / np.asarray(mean_error))


def measure_anchors(
    train: Pairs, validation: Pairs, test_codes: Pairs, decoder: Attack, seed: int, folder: Path | None = None
) -> Anchors:
    """Score the mean picture and a decoder trained on shuffled pairs on the test pictures.

    Args:
        train: the attacker's pairs, in their right order.
        validation: pairs of other identities.
        test_codes: the test pairs.
        decoder: an unfitted attack of the kind that the suite uses.
        seed: of the shuffling.
        folder: where the decoder keeps its checkpoint.
    """
    guess = mean_picture(train)
    decoder.fit(train.mismatched(seed), validation.mismatched(seed + 1), folder)
    plain, shuffled = [], []
    for start in range(0, len(test_codes), 64):
        rows = np.arange(start, min(len(test_codes), start + 64))
        pictures = test_codes.pictures(rows)
        plain.append(compare(np.broadcast_to(guess, pictures.shape).copy(), pictures))
        shuffled.append(compare(_reconstruct(decoder, test_codes, rows), pictures))
    return Anchors(_all(plain, "mse"), _all(plain, "ssim"), _all(shuffled, "mse"), _all(shuffled, "ssim"))


def mean_picture(train: Pairs) -> Pictures:
    """Mean of the attacker's pictures ``(H, W, 3)``, uint8."""
    total = np.zeros((*train.picture_size, 3), np.float64)
    for start in range(0, len(train), 256):
        total += train.pictures(np.arange(start, min(len(train), start + 256))).sum(0, dtype=np.float64)
    return np.rint(total / len(train)).astype(np.uint8)


def measurable(floor: Values, strongest: Values, identities: Sequence[str], seed: int = 0) -> tuple[bool, str]:
    """Whether the margin between the floor and the strongest score can carry a statement.

    Args:
        floor: SSIM a picture without the codes.
        strongest: SSIM a picture of the strongest attack known on these pictures: of this variant, or of a
            reference such as the dense network at the same cut.
        identities: of the pictures.
        seed: of the bootstrap.

    Returns:
        True and a text with the margin; or False and why the result is *not measurable* (which is not *private*).
    """
    if len(floor) != len(strongest):
        raise AttackError(f"{len(floor)} floor scores do not pair with {len(strongest)} attack scores")
    margin = estimate([strongest - floor], identities, mean, seed=seed)
    told = f"{margin.value:.3f} SSIM above the floor, standard error {margin.error:.4f}"
    if margin.value < LEAST_MARGIN:
        return False, f"not measurable: the strongest score is only {told} (at least {LEAST_MARGIN} is needed)"
    if margin.value < LEAST_ERRORS * margin.error:
        return False, f"not measurable: {told}, fewer than {LEAST_ERRORS:g} standard errors"
    return True, told


def _reconstruct(attack: Attack, pairs: Pairs, rows: Indices) -> Pictures:
    part = pairs.stored()[0]
    return attack.reconstruct(part.codes, part.indices[rows])


def _all(scores: list[Similarity], name: str) -> tuple[float, ...]:
    return tuple(float(v) for score in scores for v in getattr(score, name))
