"""A regression attacker in closed form, as an adversary that hardly lags.

A trained decoder always trails the edge half that runs away from it: in tier 1 the training adversary believed in
an R2 of 0.17 where an independent attacker, and plain ridge regression already, reached 0.5. Ridge regression
needs no steps: its solution is a function of second moments, kept as running means over the last batches. A batch
alone has far too few pictures for it: solved on half a batch, it believed in an R2 below 0 where ridge regression
on all of the attacker's pictures reached 0.27 (``benchmarks/patrol/README.md``).

What is linear alone is not enough: an edge half that hides from linear regression still tells a decoder that is
trained long. Random features (A. Rahimi, B. Recht, "Weighted Sums of Random Kitchen Sinks", NIPS 2008) give the
regression a hidden layer of fixed random weights.

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
SOLVE_EVERY = 10  # steps
SEED = 20_081  # of the random features
CONSTANT = 1e-6  # variance relative to the mean square: less is rounding


class LinearAdversary(nn.Module):
    """Ridge regression from everything that is sent to the coarse picture, from the last batches.

    Its buffers are its state; there are no parameters.

    Args:
        feature: (C, h, w) of what is sent.
        picture_size: (H, W).
        settings: weight, memory, ridge, random features.
    """

    steps: Tensor
    mass: Tensor
    x: Tensor
    power: Tensor
    z: Tensor
    y: Tensor
    zz: Tensor
    zy: Tensor
    yy: Tensor
    scale: Tensor
    weights: Tensor
    projection: Tensor
    offset: Tensor

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
        design = values + settings.features
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mass", torch.zeros(()))
        shapes = {"x": (values,), "power": (values,), "z": (design,), "y": (targets,), "yy": ()}
        shapes |= {
            "zz": (design, design),
            "zy": (design, targets),
            "scale": (design,),
            "weights": (design, targets),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        draw = torch.Generator().manual_seed(SEED)
        directions = torch.randn(values, settings.features, generator=draw) / values**0.5
        self.register_buffer("projection", directions)
        self.register_buffer("offset", torch.randn(settings.features, generator=draw))

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
                self._standardize(x, weight)
            z = self._design(x)
            error = self._error(z, y) if int(self.steps) else 1 + 0 * x.sum(1)
            self._remember(z.detach(), y, weight)
        return error

    def _standardize(self, x: Tensor, weight: float) -> None:
        """Take the batch into mean and mean square of the values."""
        seen = {"x": x.mean(0), "power": x.square().mean(0)}
        average(list(seen.values()), weight)
        share = 1 / self.settings.memory
        self.mass = self.mass + share * (1 - self.mass)
        for name, value in seen.items():
            setattr(self, name, torch.lerp(getattr(self, name), value, share))

    def _design(self, x: Tensor) -> Tensor:
        """(N, values + features): standardized values, and rectified random mixtures of them."""
        mean, power = self.x / self.mass, self.power / self.mass
        standard = (x - mean) * _inverse_deviation(power - mean.square(), power)
        mixed = F.relu(standard @ self.projection + self.offset)
        return torch.cat([standard, mixed], 1)

    def _error(self, z: Tensor, y: Tensor) -> Tensor:
        mass = self._mass_before()
        mean = self.y / mass
        energy = (self.yy / mass - mean.square().sum()).clamp_min(1e-12)
        found = (z - self.z / mass) * self.scale @ self.weights
        return (y - mean - found).square().sum(1) / energy

    def _mass_before(self) -> Tensor:
        """Of the moments, which do not hold the current batch yet."""
        share = 1 / self.settings.memory
        return (self.mass - share) / (1 - share) if share < 1 else torch.ones_like(self.mass)

    @torch.no_grad()
    def _remember(self, z: Tensor, y: Tensor, weight: float) -> None:
        count = len(z)
        seen = {
            "z": z.mean(0),
            "y": y.mean(0),
            "zz": z.T @ z / count,
            "zy": z.T @ y / count,
            "yy": y.square().sum() / count,
        }
        average(list(seen.values()), weight)
        for name, value in seen.items():
            getattr(self, name).lerp_(value, 1 / self.settings.memory)
        self.steps += 1
        if int(self.steps) <= self.settings.memory or int(self.steps) % SOLVE_EVERY == 0:
            self._solve()

    def _solve(self) -> None:
        z, y = self.z / self.mass, self.y / self.mass
        covariance = self.zz / self.mass - torch.outer(z, z)
        self.scale = _inverse_deviation(
            covariance.diagonal(), self.zz.diagonal() / self.mass
        )  # a graph has the old
        design = covariance * self.scale[:, None] * self.scale
        design.diagonal().add_(self.settings.ridge)
        target = (self.zy / self.mass - torch.outer(z, y)) * self.scale[:, None]
        self.weights = torch.linalg.solve(design, target)


def _inverse_deviation(variance: Tensor, power: Tensor) -> Tensor:
    """1 / standard deviation; 0 where the value is constant but for rounding."""
    return torch.where(variance > CONSTANT * power, variance.clamp_min(1e-30).rsqrt(), 0.0)
