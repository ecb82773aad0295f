"""A small classifier that reads sensitive content from regions of pictures or of codes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from toolkit.errors import AttackError
from toolkit.privacy.attacks.training import one_cycle
from toolkit.privacy.codes import Floats, Indices
from toolkit.privacy.patches import Reader, Regions, cut_out
from toolkit.progress import track

LARGE_REGION = 600
MOST_KEPT = 64_000_000  # numbers of cut regions that are held in memory; more are cut anew in every step


class RecogniserSettings(BaseModel):
    """Options of :class:`Recogniser`.

    Attributes:
        height, width: regions are resampled to this size.
        channels: of its first layers.
        steps, batch, learning_rate: of its training (AdamW, one cycle).
        shift: regions are moved by up to so many samples in training.
        seed: of weights and order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(default=16, ge=8)
    width: int = Field(default=12, ge=8)
    channels: int = Field(default=24, ge=4)
    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=3e-3, gt=0)
    shift: int = Field(default=1, ge=0)
    seed: int = Field(default=0, ge=0)


class Recogniser:
    """Convolutions on standardized regions; the same network for pictures, reconstructions and codes."""

    def __init__(self, regions: Regions, settings: RecogniserSettings) -> None:
        self.regions, self.settings = regions, settings
        self._net: nn.Module | None = None

    def fit(self, read: Reader, train: Indices) -> None:
        """Learn from the regions at ``train``.

        Raises:
            AttackError: the loss is not finite.
        """
        options = self.settings
        first = self._cut(read, train[:512])
        self._mean = first.mean((0, 2, 3), keepdims=True)
        self._std = np.maximum(first.std((0, 2, 3), keepdims=True), first.std() * 1e-3 + 1e-12)
        kept = self._input(read, train) if first[0].size * len(train) <= MOST_KEPT else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self._net = _network(first.shape[1], options, self.regions.classes)
        optimizer = torch.optim.AdamW(self._net.parameters(), lr=options.learning_rate, weight_decay=1e-2)
        for step in track(range(options.steps), "training a recogniser"):
            random = np.random.default_rng((options.seed, step))
            places = random.permutation(len(train))[: options.batch]
            chosen = train[places]
            x = _shifted(self._input(read, chosen) if kept is None else kept[places], options.shift, random)
            with torch.autocast("cpu", torch.bfloat16):
                guess = self._net(x)
            loss = F.cross_entropy(
                guess.float(), torch.from_numpy(self.regions.labels[chosen]), label_smoothing=0.1
            )
            if not math.isfinite(loss.item()):
                raise AttackError(f"the recogniser's loss is not finite at step {step}; lower learning_rate")
            optimizer.param_groups[0]["lr"] = options.learning_rate * one_cycle(step / options.steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        self._net.eval()

    def hits(self, read: Reader, test: Indices) -> npt.NDArray[np.float64]:
        """1 for each region at ``test`` that is read right, else 0."""
        if self._net is None:
            raise AttackError("fit the recogniser before reading with it")
        found = np.empty(len(test))
        for start in range(0, len(test), 256):
            chosen = test[start : start + 256]
            with torch.no_grad():
                guess = self._net(self._input(read, chosen)).argmax(1).numpy()
            found[start : start + 256] = guess == self.regions.labels[chosen]
        return found

    def _cut(self, read: Reader, positions: Indices) -> Floats:
        return cut_out(read, self.regions, positions, (self.settings.height, self.settings.width))

    def _input(self, read: Reader, positions: Indices) -> Tensor:
        return torch.from_numpy(((self._cut(read, positions) - self._mean) / self._std).astype(np.float32))


def _network(channels: int, options: RecogniserSettings, classes: int) -> nn.Module:
    """Four convolutions and a linear layer; regions larger than a character are halved first."""
    width = options.channels
    stride = 1 if options.height * options.width <= LARGE_REGION else 2

    def block(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *block(channels, width, stride),
        *block(width, width),
        nn.MaxPool2d(2),
        *block(width, 2 * width),
        *block(2 * width, 2 * width),
        nn.AdaptiveAvgPool2d((4, 4)),
        nn.Flatten(),
        nn.Linear(32 * width, classes),
    )


def _shifted(x: Tensor, most: int, random: np.random.Generator) -> Tensor:
    if not most:
        return x
    top, left = (int(v) for v in random.integers(0, 2 * most + 1, 2))
    padded = F.pad(x, (most,) * 4, mode="replicate")
    return padded[..., top : top + x.shape[-2], left : left + x.shape[-1]]
