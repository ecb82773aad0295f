"""Which attackers a suite runs, and from settings to an attack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from toolkit.privacy.attacks.base import Attack
from toolkit.privacy.attacks.inverse_network import InverseNetwork, InverseNetworkSettings
from toolkit.privacy.attacks.ridge import Ridge, RidgeSettings
from toolkit.privacy.attacks.shadow import Shadow, ShadowSettings
from toolkit.privacy.attacks.substitute import Substitute, SubstituteSettings
from toolkit.privacy.attacks.tools import Tools
from toolkit.privacy.attacks.whitebox import WhiteBox, WhiteBoxSettings
from toolkit.privacy.leaks import LeakSettings
from toolkit.privacy.references import ReferenceName

Attacker = Annotated[
    InverseNetworkSettings | RidgeSettings | WhiteBoxSettings | ShadowSettings | SubstituteSettings,
    Field(discriminator="kind"),
]
NO_TOOLS = Tools()
WANTED_PAIRS = 25_000  # of an attacker with the headline preset, its changed pictures among them
MOST_COPIES = 40


class BoundSettings(BaseModel):
    """Options of the bounds.

    Attributes:
        pictures: at which local Lipschitz constants are taken.
        singular_values: largest ones at the first of them.
        side: of the reduced pictures of the null-space bound.
        prior: pictures of the attacker's own behind its prior.
        gram: of these, pictures behind the mean Gram matrix (3 * side^2 passes each).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(default=16, ge=1)
    singular_values: int = Field(default=32, ge=1)
    side: int = Field(default=8, ge=2, le=24)
    prior: int = Field(default=1024, ge=2)
    gram: int = Field(default=16, ge=1)


class AttackSettings(BaseModel):
    """Options of :func:`run_attack`.

    Attributes:
        preset: ``screening`` (minutes, convergence untested) or ``headline`` (trained until it converges).
        attackers: the attackers; empty for the preset's own.
        augmented: further copies of the attacker's pictures in an epoch, zoomed, turned, moved, relit and
            recoloured before they are encoded, anew in every epoch; None for the preset's own (:meth:`copies`).
        synthetic: pictures of the synthetic fleet that attackers with ``pretrain_steps`` learn from first.
        mirror: train on mirror images too, encoded by the variant itself, where an encoder is given.
        minimum_test: fewer test pictures make the result untrusted.
        minimum_train: fewer of the attacker's own pairs make it untrusted.
        pictures_shown: reconstructions kept for the grid.
        leaks: what is read by name from reconstructions and codes; ``null`` leaves it out.
        certificate_scenes: counterfactual scenes per content of the synthetic fleet; 0 leaves certificates out.
        references: rows beside the anchors; None for the preset's own (all with ``headline``, else none).
        shallow_cut: block behind which the shallow dense split cuts; empty for the middle of the edge half.
        noise: standard deviation of the row with private noise, in units of the codes' own; a wire that has noise
            (``wire.noise``) is attacked as it is, without that row.
        frames: numbers of transmissions of one scene that an adversary of a wire with noise or dropout sees, e.g.
            1, 4 and 16; each but 1 is attacked twice (averaged, decoded jointly). Empty leaves it out.
        lpips: safetensors file with AlexNet's and LPIPS's weights, for LPIPS beside the other measures.
        bounds: Lipschitz constants, singular values and the null-space bound of the float edge half; None leaves
            them out.
        seeds: seeds of the attackers; with more than one, the mean over seeds is reported too (at least 3 for a
            claim).
        seed: of everything that is not an attacker's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["screening", "headline"] = "screening"
    attackers: tuple[Attacker, ...] = ()
    mirror: bool = True
    augmented: int | None = Field(default=None, ge=0, le=64)
    synthetic: int = Field(default=0, ge=0)
    minimum_test: int = Field(default=100, ge=1)
    minimum_train: int = Field(default=500, ge=1)
    pictures_shown: int = Field(default=12, ge=0)
    leaks: LeakSettings | None = LeakSettings()
    certificate_scenes: int = Field(default=16, ge=0)
    references: tuple[ReferenceName, ...] | None = None
    shallow_cut: str = ""
    noise: float = Field(default=0.5, gt=0)
    frames: tuple[Annotated[int, Field(ge=1, le=64)], ...] = ()
    lpips: Path | None = None
    bounds: BoundSettings | None = None
    seeds: int = Field(default=1, ge=1, le=20)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _labels(self) -> AttackSettings:
        labels = [a.label or a.kind for a in self.attackers]
        twice = {label for label in labels if labels.count(label) > 1}
        if twice:
            raise ValueError(f"attackers need different labels, {sorted(twice)} is used twice")
        return self

    def rows(self) -> tuple[ReferenceName, ...]:
        """The rows beside the anchors that are measured."""
        if self.references is not None:
            return self.references
        return ("embedding", "shallow", "noise") if self.preset == "headline" else ()

    def copies(self, pictures: int) -> int:
        """Changed copies of so many pictures: with ``headline`` what makes about 25,000 pairs, at most 40."""
        if self.augmented is not None:
            return self.augmented
        if self.preset == "screening":
            return 0
        return min(MOST_COPIES, max(0, round(WANTED_PAIRS / pictures) - 2))

    def reseeded(self, number: int) -> AttackSettings:
        """The same suite with its seeds moved on by ``number``."""
        attackers = tuple(_reseeded(one, number) for one in self.attackers)
        return self.model_copy(update={"attackers": attackers, "seed": self.seed + number})

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
            InverseNetworkSettings.sharp(seed=seed),
            SubstituteSettings(seed=seed, decoder=InverseNetworkSettings.headline(seed=seed)),
        ]
        if tools.edge:
            found.append(WhiteBoxSettings(seed=seed))
        if tools.cloud and tools.identities:
            found.append(ShadowSettings(seed=seed, decoder=InverseNetworkSettings.headline(seed=seed)))
        return tuple(found)

    def fitting(self, tools: Tools) -> tuple[AttackSettings, tuple[tuple[str, str], ...]]:
        """The suite without the attackers that ``tools`` cannot serve, and their labels with the reason."""
        wanted = self.chosen(tools)
        if not self.attackers and self.preset == "headline":
            wanted = (*wanted, *(one for one in OTHERS if one.kind not in {other.kind for other in wanted}))
        reasons = {one.label or one.kind: _lacking(one, tools) for one in wanted}
        kept = tuple(one for one in wanted if not reasons[one.label or one.kind])
        left_out = tuple((label, why) for label, why in reasons.items() if why)
        return self.model_copy(update={"attackers": kept}), left_out


OTHERS: tuple[Attacker, ...] = (WhiteBoxSettings(), ShadowSettings())


def _lacking(one: Attacker, tools: Tools) -> str:
    """Why an attacker does not apply; empty where it does."""
    if isinstance(one, WhiteBoxSettings) and tools.edge is None:
        return "does not apply: there is no differentiable network from pictures to these codes"
    if isinstance(one, ShadowSettings) and (tools.cloud is None or tools.identities is None):
        return "does not apply: there is no cloud half behind these codes that takes them"
    return ""


def _reseeded(one: Attacker, number: int) -> Attacker:
    changes: dict[str, object] = {"seed": one.seed + number}
    if isinstance(one, ShadowSettings | SubstituteSettings):
        changes["decoder"] = _reseeded(one.decoder, number)
    return one.model_copy(update=changes)


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
    if isinstance(settings, SubstituteSettings):
        return Substitute(settings, tools)
    return InverseNetwork(settings, tools)
