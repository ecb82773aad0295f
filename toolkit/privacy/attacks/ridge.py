"""Ridge regression from codes to pixels: the sanity line that every learned attack must beat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from toolkit.errors import AttackError
from toolkit.privacy.attacks.base import Attack, AttackerSettings, FitReport, Knowledge, to_pictures
from toolkit.privacy.attacks.ridge_design import Design, PatchDesign, PictureDesign, Values
from toolkit.privacy.codes import Floats, Indices
from toolkit.privacy.pairs import Pairs
from toolkit.privacy.similarity import compare

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
ROWS = 64
CHANGED_PAIRS = 8192  # of a regression with changed pictures, which are made anew for every pass


class RidgeSettings(AttackerSettings):
    """Options of :class:`Ridge`.

    Attributes:
        design: ``picture`` regresses the whole picture on all codes; ``patch`` regresses the pixels under a code
            position on the codes around it, with the same weights everywhere; ``auto`` takes ``picture`` where
            the codes of a picture are at most ``features`` numbers.
        side: longer side of the pictures that the ``picture`` design regresses, in pixels; enlarged afterwards.
        features: most inputs of the regression.
        samples: about so many patches are used by the ``patch`` design.
        penalties: candidates, in units of the inputs' mean variance; chosen on validation pictures.
    """

    kind: Literal["ridge"] = "ridge"
    design: Literal["auto", "picture", "patch"] = "auto"
    side: int = Field(default=32, ge=4, le=256)
    features: int = Field(default=2304, ge=8, le=8192)
    samples: int = Field(default=400_000, ge=1000)
    penalties: tuple[float, ...] = Field(default=PENALTIES, min_length=1)


@dataclass(frozen=True)
class PatchMap:
    """A linear map from the codes around a position to the pixels under it.

    Attributes:
        weights: ``(C * k * k, a * b * 3)``, ``k = 2 * reach + 1``.
        mean_code: ``(C, h, w)``, to subtract first.
        mean_picture: ``(h * a, w * b, 3)``, to add at the end.
        reach: of the window around a position.
        cell: (a, b), pixels under a position.
    """

    weights: Floats
    mean_code: Floats
    mean_picture: Floats
    reach: int
    cell: tuple[int, int]


@dataclass(frozen=True)
class Regression:
    """A fitted regression: ``pixels = inputs(codes - mean_code) @ weights + mean_picture``."""

    design: Design
    weights: Floats
    mean_code: Floats
    mean_picture: Floats

    def decode(self, features: Floats) -> Floats:
        """``(n, C, h, w)`` to pictures ``(n, H, W, 3)``, not clipped."""
        flat = self.design.inputs(features - self.mean_code) @ self.weights
        return self.design.enlarge(self.design.assemble(flat, len(features)) + self.mean_picture)


@dataclass(frozen=True)
class _Fit:
    regression: Regression
    penalty: float
    ssim: float
    mse: float
    pairs: int


class Ridge(Attack):
    """Closed-form linear regression on the codes.

    Where there are changed pictures beside those that a camera gives, one regression is fitted with some of them
    and one without, and the better one on validation pictures is kept. Memory is bounded by about
    ``features^2 + features * targets`` numbers and does not grow with the number of pictures: the moments are
    summed batch by batch.
    """

    kind = "ridge"
    reference = "Hoerl and Kennard, Technometrics 1970"
    knowledge = Knowledge(edge_queries=True, own_pictures=True, training_set=True)
    settings_type: ClassVar[type[AttackerSettings]] = RidgeSettings

    @property
    def settings(self) -> RidgeSettings:
        """The checked options."""
        assert isinstance(self._settings, RidgeSettings)
        return self._settings

    def _fit(self, train: Pairs, validation: Pairs, folder: Path | None) -> FitReport:
        started, held, natural = time.monotonic(), validation.head(512), train.unchanged()
        tried = [train] if natural is train else [train.head(CHANGED_PAIRS), natural]
        fits = [self._regress(pairs, held) for pairs in tried]
        best = min(fits, key=lambda fit: fit.mse)
        self._regression = best.regression
        return FitReport(
            converged=True,
            validation_ssim=best.ssim,
            validation_mse=best.mse,
            gain=0.0,
            steps=0,
            pairs=best.pairs,
            parameters=int(best.regression.weights.size),
            chosen={"penalty": best.penalty, "design": best.regression.design.name},
            seconds=time.monotonic() - started,
        )

    def _regress(self, train: Pairs, validation: Pairs) -> _Fit:
        """The regression on ``train`` with the penalty that has the least validation MSE."""
        design = self._make_design(train)
        means = _means(train, design)
        gram, cross = _moments(train, design, *means)
        unit = float(np.trace(gram)) / len(gram)
        if unit <= 0:
            raise AttackError("ridge: the codes are constant, there is nothing to regress on")
        values, vectors = np.linalg.eigh(gram)
        rotated = vectors.T @ cross
        features, pictures = validation.batch(np.arange(len(validation)))
        best: _Fit | None = None
        for penalty in self.settings.penalties:
            damped = np.clip(values, 0.0, None) + penalty * unit
            weights = (vectors @ (rotated / damped[:, None])).astype(np.float32)
            made = Regression(design, weights, *means)
            score = compare(to_pictures(made.decode(features), self.name), pictures)
            error = float(score.mse.mean())
            if best is None or error <= best.mse:
                best = _Fit(made, penalty, float(score.ssim.mean()), error, len(train))
        assert best is not None
        return best

    def _make_design(self, train: Pairs) -> Design:
        options, shape = self.settings, train.code_shape
        small = int(np.prod(shape)) <= options.features
        if options.design == "picture" and not small:
            raise AttackError(f"ridge: {shape} codes are more than features={options.features}; use design: patch")
        if options.design == "picture" or (options.design == "auto" and small):
            return PictureDesign(shape, train.picture_size, options.side)
        share = options.samples / (len(train) * shape[1] * shape[2])
        return PatchDesign(shape, train.picture_size, options.features, min(1.0, share), options.seed)

    def _decode(self, features: Floats) -> Floats:
        return self._regression.decode(features)

    def patch_map(self) -> PatchMap:
        """What the ``patch`` design has learned.

        Raises:
            AttackError: it was not fitted, or with another design.
        """
        found = getattr(self, "_regression", None)
        if found is None or not isinstance(found.design, PatchDesign):
            raise AttackError("ridge: fit it with design: patch first")
        design = found.design
        return PatchMap(found.weights, found.mean_code, found.mean_picture, design.reach, design.cell)


def _moments(train: Pairs, design: Design, mean_code: Floats, mean_picture: Floats) -> tuple[Values, Values]:
    """Centred ``X'X`` and ``X'Y``, each a row's mean."""
    gram: Values | None = None
    cross: Values | None = None
    count = 0
    for rows in _rows(len(train)):
        features, pictures = train.batch(rows)
        x = design.inputs(features - mean_code)
        y = design.targets(design.shrink(pictures) - mean_picture)
        x, y = design.sample(x, y, int(rows[0]))
        gram = (x.T @ x).astype(np.float64) + (0.0 if gram is None else gram)
        cross = (x.T @ y).astype(np.float64) + (0.0 if cross is None else cross)
        count += len(x)
    assert gram is not None and cross is not None
    return gram / count, cross / count


def _means(train: Pairs, design: Design) -> tuple[Floats, Floats]:
    """Mean code ``(C, h, w)`` and mean shrunk picture, one pass."""
    code = np.zeros(train.code_shape, np.float64)
    picture = np.zeros((*design.size, 3), np.float64)
    for rows in _rows(len(train)):
        features, pictures = train.batch(rows)
        code += features.sum(0)
        picture += design.shrink(pictures).sum(0)
    return (code / len(train)).astype(np.float32), (picture / len(train)).astype(np.float32)


def _rows(count: int) -> Iterator[Indices]:
    for start in range(0, count, ROWS):
        yield np.arange(start, min(count, start + ROWS))
