"""Which attackers a suite runs, and from settings to an attack."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.privacy.attacks.base import Attack
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
from toolkit.privacy.attacks.shadow import Shadow, ShadowSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.whitebox import WhiteBox, WhiteBoxSettings
from toolkit.privacy.leaks import LeakSettings

Attacker = Annotated[
    InverseNetworkSettings | RidgeSettings | WhiteBoxSettings | ShadowSettings, Field(discriminator="kind")
]
NO_TOOLS = Tools()


class AttackSettings(BaseModel):
    """Options of :func:`run_attack`.

    Attributes:
        preset: ``screening`` (minutes, convergence untested) or ``headline`` (trained until it converges).
        attackers: the attackers; empty for the preset's own.
        mirror: train on mirror images too, encoded by the variant itself, where an encoder is given.
        minimum_test: fewer test pictures make the result untrusted.
        minimum_train: fewer of the attacker's own pairs make it untrusted.
        pictures_shown: reconstructions kept for the grid.
        leaks: what is read by name from reconstructions and codes; ``null`` leaves it out.
        certificate_scenes: counterfactual scenes per content of the synthetic fleet; 0 leaves certificates out.
        seed: of everything that is not an attacker's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["screening", "headline"] = "screening"
    attackers: tuple[Attacker, ...] = ()
    mirror: bool = True
    minimum_test: int = Field(default=100, ge=1)
    minimum_train: int = Field(default=500, ge=1)
    pictures_shown: int = Field(default=12, ge=0)
    leaks: LeakSettings | None = LeakSettings()
    certificate_scenes: int = Field(default=16, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _labels(self) -> AttackSettings:
        labels = [a.label or a.kind for a in self.attackers]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise ValueError(f"attackers need different labels, {sorted(twice)} is used twice")
        return self

    def chosen(self, tools: Tools = NO_TOOLS) -> tuple[Attacker, ...]:
        """The attackers to run; the headline preset adds those that ``tools`` allow."""
        if self.attackers:
            return self.attackers
        seed = self.seed
        if self.preset == "screening":
            return RidgeSettings(seed=seed), InverseNetworkSettings.screening(seed=seed)
        found: list[Attacker] = [
            RidgeSettings(seed=seed),
            InverseNetworkSettings.headline(label="headline-ssim", seed=seed),
            InverseNetworkSettings.headline(label="headline-mse", seed=seed, ssim_weight=0.0),
            InverseNetworkSettings.headline(label="headline-cem", seed=seed, decoder="residual_n8c64"),
        ]
        if tools.edge:
            found.append(WhiteBoxSettings(seed=seed))
        if tools.cloud and tools.identities:
            found.append(ShadowSettings(seed=seed, decoder=InverseNetworkSettings.headline(seed=seed)))
        return tuple(found)


def make_attack(settings: Attacker, tools: Tools = NO_TOOLS) -> Attack:
    """The attack that a piece of settings describes.

    Raises:
        AttackError: it needs more of the target model than ``tools`` has.
    """
    if isinstance(settings, RidgeSettings):
        return Ridge(settings)
    if isinstance(settings, WhiteBoxSettings):
        return WhiteBox(settings, tools)
    if isinstance(settings, ShadowSettings):
        return Shadow(settings, tools)
    return InverseNetwork(settings)
