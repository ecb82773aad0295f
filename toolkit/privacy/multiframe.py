"""One number for several transmissions of a scene: the strongest attacker on averaged or jointly decoded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toolkit.metrics import Metric
from toolkit.privacy.result import AttackResult, Measure
from toolkit.privacy.statistics import Estimate


def frame_metrics(
    prefix: str,
    frames: int,
    results: Mapping[str, AttackResult],
    machine: str,
    reference: Sequence[float] | None = None,
) -> list[Metric]:
    """``PREFIXssim``, ``mse``, ``r2``, ``ssim_normalized``, and states with a protocol of their own for the gate.

    Args:
        prefix: of the metrics' names.
        frames: transmissions of each scene.
        results: by how the frames were joined; all on the same test pictures and anchors.
        machine: where it was measured.
        reference: scores that show that something can be told (see ``AttackResult.measurable``).
    """
    first = next(iter(results.values()))
    attackers = sum(len(result.attackers) for result in results.values())
    several = f" on {frames} frames" if frames > 1 else ""  # one frame: the wire's own suite and states
    suite = f"worst of {attackers} attackers{several}"

    def metric(name: str, value: float, label: str, interval: tuple[float, float] | None = None) -> Metric:
        return Metric(
            name=name,
            value=value,
            n=len(first.identities),
            interval=interval,
            variant=first.variant,
            machine=machine,
            protocol=f"{suite}: {label}",
            split="test",
        )

    def strongest(measure: Measure) -> tuple[str, AttackResult]:
        sign = 1 if measure == "ssim" else -1
        return max(results.items(), key=lambda item: sign * float(item[1].worst(measure).values(measure).mean()))

    structure, error = strongest("ssim"), strongest("mse")
    scored: list[tuple[str, Measure, tuple[str, AttackResult], Estimate]] = [
        ("ssim", "ssim", structure, structure[1].ssim),
        ("mse", "mse", error, error[1].mse),
    ]
    if structure[1].measurable(reference)[0]:
        scored += [
            ("r2", "mse", error, error[1].r2),
            ("ssim_normalized", "ssim", structure, structure[1].normalized_ssim),
        ]
    rows = [
        metric(f"{prefix}{name}", e.value, _label(way, result, measure), (e.low, e.high))
        for name, measure, (way, result), e in scored
    ]
    label = _label(*structure, "ssim")
    states = {
        "privacy.converged": min(float(result.converged) for result in results.values()),
        "privacy.trusted": min(float(result.trusted) for result in results.values()),
    }
    return rows + [metric(name, value, label) for name, value in states.items() if frames > 1]


def _label(way: str, result: AttackResult, measure: Measure) -> str:
    return f"{result.worst(measure).label} {way}".strip()
