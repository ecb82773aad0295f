"""The best linear attacker in closed form, as an adversary that hardly lags.

A trained decoder always trails the edge half that runs away from it: in tier 1 the training adversary believed in
an R2 of 0.17 where an independent attacker, and plain ridge regression already, reached 0.5. Ridge regression
needs no steps: its solution is a function of second moments, kept as running means over the last batches. A batch
alone has far too few pictures for it: on a feature of 2 x 2 x 64 values, of which regression on 2,000 pictures
explains half of the picture's variance, regression on half a batch explains nothing.

The edge half is rewarded for the error of the current solution. By the envelope theorem its gradient with the
solution held fixed is that of the smallest error itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toolkit.patrol.distributed import average
from toolkit.patrol.settings import LinearSettings

LIMIT = 2048  # values of a feature; more positions than that are averaged
SOLVE_EVERY = 5  # steps
CONSTANT = 1e-6  # variance relative to the mean square: less is rounding


class LinearAdversary(nn.Module):
    """Ridge regression from everything that is sent to the coarse picture, from the last batches.

    Its buffers are its state; there are no parameters.

    Args:
        feature: (C, h, w) of what is sent.
        picture_size: (H, W).
        settings: weight, memory, ridge.
    """

    steps: Tensor
    mass: Tensor
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor
    scale: Tensor
    weights: Tensor

    def __init__(
        self, feature: tuple[int, int, int], picture_size: tuple[int, int], settings: LinearSettings
    ) -> None:
        super().__init__()
        self.settings = settings
        channels, *sides = feature
        while channels * sides[0] * sides[1] > LIMIT and max(sides) > 1:
            sides = [-(-side // 2) for side in sides]
        self.grid = sides[0], sides[1]
        self.coarse = min(settings.coarse, picture_size[0]), min(settings.coarse, picture_size[1])
        values, targets = channels * sides[0] * sides[1], 3 * self.coarse[0] * self.coarse[1]
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mass", torch.zeros(()))
        shapes = {"x": (values,), "y": (targets,), "xx": (values, values), "xy": (values, targets), "yy": ()}
        for name, shape in (shapes | {"scale": (values,), "weights": (values, targets)}).items():
            self.register_buffer(name, torch.zeros(shape))

    def play(self, sent: Tensor, pictures: Tensor, weight: float = 1.0) -> Tensor:
        """(N,): squared error relative to the mean picture's; 1 is no better than it, 0 exact.

        The solution that is judged comes from earlier batches, so its error is one on unseen pictures; then this
        batch is taken into the means. Rescaling a channel changes nothing.

        Args:
            sent: (N, C, h, w), with its gradient.
            pictures: (N, 3, H, W) in [0, 1].
            weight: of this process's share of the batch.
        """
        with torch.autocast(sent.device.type, enabled=False):
            x = F.adaptive_avg_pool2d(sent.float(), self.grid).flatten(1)
            with torch.no_grad():
                y = F.adaptive_avg_pool2d(pictures.float(), self.coarse).flatten(1)
            error = self._error(x, y) if int(self.steps) else 1 + 0 * x.sum(1)
            self._remember(x.detach(), y, weight)
        return error

    def _error(self, x: Tensor, y: Tensor) -> Tensor:
        mean = self.y / self.mass
        energy = (self.yy / self.mass - mean.square().sum()).clamp_min(1e-12)
        found = (x - self.x / self.mass) * self.scale @ self.weights
        return (y - mean - found).square().sum(1) / energy

    @torch.no_grad()
    def _remember(self, x: Tensor, y: Tensor, weight: float) -> None:
        count = len(x)
        seen = {
            "x": x.mean(0),
            "y": y.mean(0),
            "xx": x.T @ x / count,
            "xy": x.T @ y / count,
            "yy": y.square().sum() / count,
        }
        average(list(seen.values()), weight)
        share = 1 / self.settings.memory
        self.mass += share * (1 - self.mass)
        for name, value in seen.items():
            getattr(self, name).lerp_(value, share)
        self.steps += 1
        if int(self.steps) <= self.settings.memory or int(self.steps) % SOLVE_EVERY == 0:
            self._solve()

    def _solve(self) -> None:
        x, y = self.x / self.mass, self.y / self.mass
        covariance = self.xx / self.mass - torch.outer(x, x)
        variance, power = covariance.diagonal(), self.xx.diagonal() / self.mass
        alive = variance > CONSTANT * power
        self.scale = torch.where(alive, variance.clamp_min(1e-30).rsqrt(), 0.0)  # the old one is in a graph
        design = covariance * self.scale[:, None] * self.scale
        design.diagonal().add_(self.settings.ridge)
        target = (self.xy / self.mass - torch.outer(x, y)) * self.scale[:, None]
        self.weights = torch.linalg.solve(design, target)
