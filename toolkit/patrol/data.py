"""The pictures a phase trains on, and its batches: functions of (seed, epoch, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.errors import DataError
from toolkit.patrol.settings import TrainSettings
from toolkit.patrol.state import fingerprint_of
from toolkit.reid.augmentation import augment
from toolkit.reid.sampling import pk_batches


@dataclass(frozen=True)
class TrainingData:
    """Labelled pictures.

    Attributes:
        pictures: uint8 (N, H, W, 3), RGB.
        labels: int64 (N,), 0..K-1.
        cameras: (N,) camera names or numbers; not used by the losses.
        counterfactuals: uint8 (N, H, W, 3) or None: each picture's scene with its sensitive content changed.

    Raises:
        DataError: arrays that do not fit together, fewer than two identities, or no identity with two pictures.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    cameras: NDArray[np.generic] | None = None
    counterfactuals: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        shape = self.pictures.shape
        if self.pictures.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise DataError(f"training pictures are uint8 (N, H, W, 3), these are {self.pictures.dtype} {shape}")
        if self.labels.shape != shape[:1]:
            raise DataError(f"{shape[0]} pictures but {self.labels.shape} labels; give one label per picture")
        if self.counterfactuals is not None and self.counterfactuals.shape != shape:
            raise DataError(f"counterfactual pictures {self.counterfactuals.shape} do not pair up with {shape}")
        counts = np.unique(self.labels, return_counts=True)[1]
        if len(counts) < 2:
            raise DataError(f"re-identification needs at least two identities to train, these are {len(counts)}")
        if counts.max() < 2:
            raise DataError(
                f"each of the {len(counts)} identities has one picture only; a triplet needs two pictures of an "
                "identity, so give at least two per vehicle"
            )

    @property
    def picture_size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pictures.shape[1], self.pictures.shape[2]

    def fingerprint(self) -> str:
        """sha256 of pictures and labels."""
        parts: list[bytes] = [self.pictures.tobytes(), self.labels.tobytes(), str(self.pictures.shape).encode()]
        if self.counterfactuals is not None:
            parts.append(self.counterfactuals.tobytes())
        return fingerprint_of(*parts)

    def input_of(self, indices: NDArray[np.int64], counterfactual: bool = False) -> Tensor:
        """Pictures as network input, float32 (n, 3, H, W) in [0, 1], channels-last; not augmented.

        Raises:
            DataError: counterfactual pictures are asked for and there are none.
        """
        source = self.counterfactuals if counterfactual else self.pictures
        if source is None:
            raise DataError(
                "lipschitz.perturbation is counterfactual but the training data has no counterfactual pictures; "
                "render them with the synthetic fleet or take perturbation: gaussian"
            )
        return torch.from_numpy(source[indices]).permute(0, 3, 1, 2).float().div_(255.0)


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes:
        pictures: float32 (B, 3, H, W) in [0, 1], augmented.
        labels: int64 (B,).
        indices: (B,) rows of the training data.
        epoch: of the phase.
        step: number of the step in the whole phase.
        weight: of its gradient, where several processes share a batch (``toolkit.patrol.distributed``).
    """

    pictures: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    epoch: int
    step: int
    weight: float = 1.0

    def generator(self, seed: int, purpose: int) -> torch.Generator:
        """A CPU generator that depends on seed, epoch, step and purpose alone."""
        return step_generator(seed, self.epoch, self.step, purpose)


def step_generator(seed: int, epoch: int, step: int, purpose: int) -> torch.Generator:
    """A CPU generator for one purpose in one step."""
    state = np.random.SeedSequence((seed, epoch, step, purpose)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


class Batches:
    """All batches of a phase."""

    def __init__(self, data: TrainingData, settings: TrainSettings, fill: tuple[float, float, float]) -> None:
        """``fill`` is the colour of erased areas: the network's mean, so that they become zeros."""
        self.data = data
        self.settings = settings
        self.fill = fill
        self.identities = min(settings.identities, len(np.unique(data.labels)))
        self.steps_per_epoch = max(len(self._order(0)), 1)

    def _order(self, epoch: int) -> list[NDArray[np.int64]]:
        settings = self.settings
        return pk_batches(self.data.labels, self.identities, settings.pictures, settings.seed, epoch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, always ``steps_per_epoch`` of them."""
        order = self._order(epoch)
        for place in range(self.steps_per_epoch):
            yield self.make(order[place % len(order)], epoch, place)

    def make(self, indices: NDArray[np.int64], epoch: int, place: int) -> Batch:
        """Augment ``augmentations`` copies of the pictures at ``indices``."""
        rows = np.tile(indices, self.settings.augmentations)
        pictures = augment(
            self.data.pictures[rows], self.settings.augment, self.settings.seed, epoch, place, self.fill
        )
        labels = torch.from_numpy(self.data.labels[rows].astype(np.int64))
        return Batch(pictures, labels, rows, epoch, epoch * self.steps_per_epoch + place)
