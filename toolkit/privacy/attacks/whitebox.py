"""White-box optimization: the picture that explains the observed codes best under a total-variation prior."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from toolkit.errors import AttackError
from toolkit.privacy.attacks.base import Attack, AttackerSettings, FitReport, Knowledge, to_pictures
from toolkit.privacy.attacks.optimization import Distance, Search, search_pictures
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.codes import Floats, Pictures
from toolkit.privacy.pairs import Pairs
from toolkit.privacy.similarity import compare

logger = logging.getLogger(__name__)


class WhiteBoxSettings(AttackerSettings):
    """Options of :class:`WhiteBox`.

    Attributes:
        iterations: Adam steps a picture; He et al. take 500 for shallow cuts and 5000 for deep ones.
        learning_rate: of Adam, on pixels in [0, 1] or on the prior's weights.
        parameterization: ``pixels``, or ``deep_prior``: an untrained network for each picture (stronger where the
            codes say little, and slower).
        prior_width: channels of that network.
        tv: candidates for the weight of the total variation; chosen on validation pictures.
        distance: ``cell`` (zero inside the quantization cell), ``straight_through`` (weaker) or ``feature``.
        start: ``grey`` (paper) or the ``mean`` of the attacker's own pictures.
        tuning_pictures: validation pictures on which ``tv`` and convergence are judged.
        tolerance: SSIM that twice the iterations may gain on them for the search to count as converged.
    """

    kind: Literal["white_box"] = "white_box"
    iterations: int = Field(default=500, ge=1)
    learning_rate: float = Field(default=0.03, gt=0)
    parameterization: Literal["pixels", "deep_prior"] = "pixels"
    prior_width: int = Field(default=24, ge=4)
    tv: tuple[float, ...] = Field(default=(0.0, 0.03, 0.3, 3.0), min_length=1)
    distance: Distance = "cell"
    start: Literal["grey", "mean"] = "mean"
    tuning_pictures: int = Field(default=8, ge=1)
    tolerance: float = Field(default=0.01, gt=0)


class WhiteBox(Attack):
    """Regularized maximum likelihood (rMLE) on the edge half's own weights.

    The float edge half stands for the engine; where the engine computes in integers, its codes lie near the
    cells of the float half. On discrete codes this attack alone proves nothing (Hoefler et al. 2026: 0.059 SSIM
    white-box against 0.428 learned on one-bit codes), so the suite asks for a learned decoder beside it.
    """

    kind = "white_box"
    reference = "He, Zhang, Lee, ACSAC 2019, section 3.2 (rMLE); cell distance ours; prior: Ulyanov et al. 2018"
    knowledge = Knowledge(edge_weights=True, edge_queries=True, architecture=True, own_pictures=True)
    settings_type: ClassVar[type[AttackerSettings]] = WhiteBoxSettings

    def __init__(self, settings: AttackerSettings | dict[str, Any] | None, tools: Tools) -> None:
        super().__init__(settings)
        self._edge = tools.need_edge("white_box")
        self._fmt = tools.fmt
        if isinstance(self._edge, torch.nn.Module):
            self._edge.eval().requires_grad_(False)

    @property
    def settings(self) -> WhiteBoxSettings:
        """The checked options."""
        assert isinstance(self._settings, WhiteBoxSettings)
        return self._settings

    def _fit(self, train: Pairs, validation: Pairs, folder: Path | None) -> FitReport:
        started = time.monotonic()
        self._size = train.picture_size
        self._start = self._starting_point(train)
        self._check_edge(train)
        held = validation.head(self.settings.tuning_pictures)
        features, pictures = held.batch(np.arange(len(held)))
        scores = {tv: self._score(features, pictures, tv, self.settings.iterations) for tv in self.settings.tv}
        self._tv = max(scores, key=lambda tv: scores[tv][0])
        longer = self._score(features, pictures, self._tv, 2 * self.settings.iterations)
        gain = longer[0] - scores[self._tv][0]
        logger.info("white_box: tv %g, SSIM %.3f on %d pictures", self._tv, scores[self._tv][0], len(held))
        return FitReport(
            converged=gain < self.settings.tolerance,
            validation_ssim=scores[self._tv][0],
            validation_mse=scores[self._tv][1],
            gain=gain,
            steps=self.settings.iterations,
            pairs=len(held),
            parameters=0,
            curve=((self.settings.iterations, scores[self._tv][0]), (2 * self.settings.iterations, longer[0])),
            chosen={"tv": self._tv, "distance": self.settings.distance},
            seconds=time.monotonic() - started,
        )

    def _starting_point(self, train: Pairs) -> Tensor:
        """``(1, 3, H, W)``."""
        if self.settings.start == "grey":
            return torch.full((1, 3, *self._size), 0.5)
        sample = train.head(512)
        mean = sample.pictures(np.arange(len(sample))).mean(0) / 255.0
        return torch.from_numpy(mean).float().permute(2, 0, 1)[None]

    def _check_edge(self, train: Pairs) -> None:
        with torch.no_grad():
            shape = tuple(self._edge(self._start).shape[1:])
        if shape != train.code_shape:
            raise AttackError(f"white_box: the edge half gives {shape}, the codes are {train.code_shape}")

    def _score(self, features: Floats, pictures: Pictures, tv: float, iterations: int) -> tuple[float, float]:
        guess = to_pictures(self._search(features, tv, iterations), self.name)
        score = compare(guess, pictures)
        return float(score.ssim.mean()), float(score.mse.mean())

    def _search(self, features: Floats, tv: float, iterations: int) -> Floats:
        target = torch.from_numpy(features)
        start = self._start.expand(len(target), -1, -1, -1).contiguous()
        options = self.settings
        width = options.prior_width if options.parameterization == "deep_prior" else 0
        search = Search(iterations, options.learning_rate, tv, options.distance, width, options.seed)
        found: Floats = search_pictures(self._edge, target, start, self._fmt, search).permute(0, 2, 3, 1).numpy()
        return found

    def _decode(self, features: Floats) -> Floats:
        return self._search(features, self._tv, self.settings.iterations)
