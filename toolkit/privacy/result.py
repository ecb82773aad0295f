"""What a suite of attacks found on one variant, with the reasons not to believe it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from toolkit.errors import ArtifactError, AttackError
from toolkit.metrics import Metric
from toolkit.privacy.anchors import Anchors, measurable, r_squared
from toolkit.privacy.attacks.base import FitReport
from toolkit.privacy.codes import Pictures
from toolkit.privacy.similarity import Values, psnr_of_mse, worst_picture
from toolkit.privacy.statistics import Estimate, estimate, mean

SCHEMA = 1
Measure = Literal["ssim", "mse"]


@dataclass(frozen=True)
class AttackerResult:
    """One attacker, scored once on the test pictures.

    Attributes:
        label: name in tables, unique in a suite.
        kind: of the attack.
        knowledge: what the adversary was assumed to know.
        fit: how well it was prepared.
        mse, ssim: one value a test picture.
        problems: why this attacker's failure would prove nothing; empty for a trusted one.
        seconds: fitting and reconstructing.
        ms_ssim: multi-scale SSIM a test picture; empty where the pictures are too small for it.
        lpips: perceptual distance a test picture; empty without local weights.
    """

    label: str
    kind: str
    knowledge: dict[str, Any]
    fit: FitReport
    mse: tuple[float, ...]
    ssim: tuple[float, ...]
    problems: tuple[str, ...]
    seconds: float
    ms_ssim: tuple[float, ...] = ()
    lpips: tuple[float, ...] = ()

    def values(self, measure: Measure) -> Values:
        """Scores a picture."""
        return np.asarray(self.ssim if measure == "ssim" else self.mse)


@dataclass(frozen=True)
class AttackResult:
    """All attackers on one variant.

    Attributes:
        variant: key of the variant whose codes were attacked.
        identities: of the test pictures, in order.
        attackers: those that finished.
        failed: label and error of those that did not.
        anchors: the scale.
        problems: why the suite as a whole would prove nothing.
        shown: positions of the test pictures whose reconstructions were kept for the grid.
        reconstructions: label -> ``(len(shown), H, W, 3)``, and ``original``.
    """

    variant: str
    identities: tuple[str, ...]
    attackers: tuple[AttackerResult, ...]
    failed: tuple[tuple[str, str], ...]
    anchors: Anchors
    problems: tuple[str, ...]
    shown: tuple[int, ...]
    reconstructions: dict[str, Pictures]

    def worst(self, measure: Measure = "ssim") -> AttackerResult:
        """The attacker that gets most back: highest mean SSIM or lowest mean MSE on test."""
        if not self.attackers:
            raise AttackError(f"no attacker finished on {self.variant}: {self.failed}")
        sign = 1 if measure == "ssim" else -1
        return max(self.attackers, key=lambda a: sign * float(a.values(measure).mean()))

    def by_validation(self, measure: Measure = "ssim") -> AttackerResult:
        """The attacker that an adversary without the test pictures would choose."""
        if measure == "ssim":
            return max(self.attackers, key=lambda a: a.fit.validation_ssim)
        return min(self.attackers, key=lambda a: a.fit.validation_mse)

    @property
    def ssim(self) -> Estimate:
        """Mean SSIM of the worst attacker."""
        return estimate([self.worst("ssim").values("ssim")], self.identities, mean)

    @property
    def mse(self) -> Estimate:
        """Mean MSE of the worst attacker."""
        return estimate([self.worst("mse").values("mse")], self.identities, mean)

    @property
    def psnr(self) -> Estimate:
        """PSNR in dB of the mean MSE."""
        return estimate([self.worst("mse").values("mse")], self.identities, psnr_of_mse)

    @property
    def r2(self) -> Estimate:
        """``1 - MSE / MSE(mean picture)``."""
        columns = [self.worst("mse").values("mse"), np.asarray(self.anchors.mean_mse)]
        return estimate(columns, self.identities, r_squared)

    @property
    def normalized_ssim(self) -> Estimate:
        """``(SSIM - floor) / (1 - floor)``."""
        columns = [self.worst("ssim").values("ssim"), self.anchors.floor]
        return estimate(columns, self.identities, lambda s, floor: (s - floor) / (1 - floor))

    @property
    def converged(self) -> bool:
        """The learned attackers were shown to gain nothing from more steps, nor (headline) from more pictures."""
        learned = [a.fit.converged for a in self.attackers if a.fit.steps]
        return bool(learned) and all(flag is True for flag in learned)

    @property
    def trusted(self) -> bool:
        """No attacker failed, none has a problem, nor has the suite."""
        return not (self.failed or self.all_problems())

    def all_problems(self) -> list[str]:
        """Every reason not to believe the numbers, with the attacker it belongs to."""
        found = list(self.problems)
        found += [f"{label}: failed: {error}" for label, error in self.failed]
        found += [f"{a.label}: {problem}" for a in self.attackers for problem in a.problems]
        return found

    def measurable(self, reference: Sequence[float] | None = None) -> tuple[bool, str]:
        """Whether the floor is far enough from the strongest score (see :func:`anchors.measurable`).

        Args:
            reference: SSIM a test picture of a stronger attack on the same pictures (e.g. the dense network at the
                same cut); it shows that the measurement can tell something where this variant leaks little.
        """
        own = self.worst("ssim").values("ssim")
        strongest = own
        if reference is not None:
            if len(reference) != len(own):
                raise AttackError("the reference was scored on other test pictures")
            strongest = np.asarray(reference) if np.mean(reference) > own.mean() else own
        return measurable(self.anchors.floor, strongest, self.identities)

    def metrics(self, machine: str, reference: Sequence[float] | None = None) -> list[Metric]:
        """The rows for ``metrics.json``; where nothing can be told, the two normalized ones are absent."""
        scored: list[tuple[str, str, Estimate]] = [
            ("privacy.ssim", "1", self.ssim),
            ("privacy.mse", "1", self.mse),
            ("privacy.psnr", "dB", self.psnr),
        ]
        can_tell = self.measurable(reference)[0]
        if can_tell:
            scored += [("privacy.r2", "1", self.r2), ("privacy.ssim_normalized", "1", self.normalized_ssim)]
        rows = [
            Metric(name=name, value=e.value, unit=unit, interval=(e.low, e.high), **self._common(machine, name))
            for name, unit, e in scored
        ]
        plain = {
            "privacy.floor_ssim": self.anchors.floor_ssim,
            "privacy.ssim_p95": worst_picture(self.worst("ssim").values("ssim"), leak_is_high=True)[1],
            "privacy.mse_p95": worst_picture(self.worst("mse").values("mse"), leak_is_high=False)[1],
            "privacy.converged": float(self.converged),
            "privacy.trusted": float(self.trusted),
            "privacy.measurable": float(can_tell),
        }
        rows += [Metric(name=name, value=v, **self._common(machine, name)) for name, v in plain.items()]
        return [*rows, *self._more("ms_ssim", 1, machine), *self._more("lpips", -1, machine)]

    def _more(self, name: Literal["ms_ssim", "lpips"], sign: int, machine: str) -> list[Metric]:
        """A measure that not every suite has; ``sign`` is 1 where a high value is a leak."""
        scored = {a.label: np.asarray(getattr(a, name)) for a in self.attackers if getattr(a, name)}
        if not scored:
            return []
        label = max(scored, key=lambda one: sign * float(scored[one].mean()))
        found = estimate([scored[label]], self.identities, mean)
        common = self._common(machine, "privacy.ssim")
        common["protocol"] = f"worst of {len(self.attackers)} attackers: {label}"
        return [Metric(name=f"privacy.{name}", value=found.value, interval=(found.low, found.high), **common)]

    def _common(self, machine: str, name: str) -> dict[str, Any]:
        measure: Measure = "mse" if name.split(".")[1] in ("mse", "psnr", "r2", "mse_p95") else "ssim"
        return {
            "n": len(self.identities),
            "variant": self.variant,
            "machine": machine,
            "split": "test",
            "protocol": f"worst of {len(self.attackers)} attackers: {self.worst(measure).label}",
        }

    def save(self, folder: Path) -> None:
        """Write ``attack.json`` and ``reconstructions/LABEL.npy``."""
        (folder / "reconstructions").mkdir(parents=True, exist_ok=True)
        for label, pictures in self.reconstructions.items():
            np.save(folder / "reconstructions" / f"{label}.npy", pictures, allow_pickle=False)
        body = {"schema": SCHEMA} | {k: v for k, v in asdict(self).items() if k != "reconstructions"}
        body["labels"] = sorted(self.reconstructions)
        partial = folder / "attack.json.partial"
        partial.write_text(json.dumps(body) + "\n", encoding="utf-8")
        partial.replace(folder / "attack.json")

    @classmethod
    def load(cls, folder: Path) -> AttackResult:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: missing, truncated or of another version.
        """
        path = folder / "attack.json"
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["schema"] != SCHEMA:
                raise ArtifactError(
                    f"{path}: schema {body['schema']}, expected {SCHEMA}; run the attack stage again"
                )
            return cls(
                variant=body["variant"],
                identities=tuple(body["identities"]),
                attackers=tuple(attacker_from(item) for item in body["attackers"]),
                failed=tuple((label, error) for label, error in body["failed"]),
                anchors=Anchors(**{k: tuple(v) for k, v in body["anchors"].items()}),
                problems=tuple(body["problems"]),
                shown=tuple(body["shown"]),
                reconstructions={label: _load_pictures(folder, label) for label in body["labels"]},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); run the attack stage again") from error


def attacker_from(body: dict[str, Any]) -> AttackerResult:
    """An attacker's result from JSON values."""
    fields = {**body, "fit": FitReport.from_dict(body["fit"])}
    for name in ("mse", "ssim", "problems", "ms_ssim", "lpips"):
        fields[name] = tuple(body.get(name, ()))
    return AttackerResult(**fields)


def _load_pictures(folder: Path, label: str) -> Pictures:
    return cast(Pictures, np.load(folder / "reconstructions" / f"{label}.npy", allow_pickle=False))
