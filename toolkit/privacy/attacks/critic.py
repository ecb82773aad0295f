"""Perceptual and adversarial loss of a decoder: sharp guesses instead of the mean of all that would fit.

A blurred mean scores well in MSE and SSIM and hides a plate from a reader. The critic learns to tell originals
from reconstructions; the decoder has to fool it and to agree with the original in the critic's own features
(feature matching, Salimans et al. 2016; used as perceptual loss because it needs no downloaded weights).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2


class Critic(nn.Module):
    """A patch discriminator of pictures, spectrally normalized (Miyato et al. 2018)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        sides = (3, width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairwise(sides))
        self.last = norm(nn.Conv2d(sides[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pictures ``(N, 3, H, W)`` in [0, 1] to the features of each stage and the verdict a patch."""
        features, x = [], pictures * 2 - 1
        for stage in self.stages:
            x = F.leaky_relu(stage(x), SLOPE)
            features.append(x)
        return features, self.last(x)


class Game:
    """The critic with its optimizer; one call a step of the decoder."""

    def __init__(self, seed: int, learning_rate: float, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic = Critic().to(device)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=learning_rate, betas=(0.5, 0.99))

    def loss(self, guess: Tensor, target: Tensor, adversarial: float, perceptual: float) -> Tensor:
        """The decoder's part: ``adversarial * -verdict + perceptual * mean feature distance``."""
        self.critic.requires_grad_(False)
        made, verdict = self.critic(guess)
        with torch.no_grad():
            real, _ = self.critic(target)
        self.critic.requires_grad_(True)
        gap = torch.stack([(a - b).abs().mean() for a, b in zip(made, real, strict=True)]).mean()
        return perceptual * gap - adversarial * verdict.mean()

    def learn(self, guess: Tensor, target: Tensor) -> None:
        """The critic's part, with the hinge loss."""
        real, made = self.critic(target)[1], self.critic(guess.detach())[1]
        loss = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed training needs, by name."""
        tensors = {f"critic.{name}": value for name, value in self.critic.state_dict().items()}
        return tensors | optimizer_tensors(self.optimizer, "critic_optimizer.")

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Read what :meth:`state` gave."""
        self.critic.load_state_dict(strip(tensors, "critic."))
        load_optimizer(self.optimizer, strip(tensors, "critic_optimizer."))


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """An optimizer's state as named tensors."""
    found: dict[str, Tensor] = {}
    for index, state in optimizer.state_dict()["state"].items():
        found |= {f"{prefix}{index}.{name}": value for name, value in state.items()}
    return found


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Read what :func:`optimizer_tensors` gave, without its prefix."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
