"""The table of the rows beside the anchors: what the same attackers get from other things that could be sent."""

from __future__ import annotations

from toolkit.reporting import numbers
from toolkit.reporting.blocks import Section
from toolkit.reporting.input import ReportInput
from toolkit.reporting.path import attacker_of

PREFIX, EXCESS, SEEDS, FRAMES = "privacy.reference.", "privacy.excess.", "privacy.seeds.", "privacy.frames."
WORDS = {
    "embedding": "the cloud's final embedding, which the task discloses anyway",
    "shallow": "the dense network, cut earlier",
    "noise": "the deployed wire with private noise",
    "excess": "excess leakage: wire minus embedding",
    "seeds": "the wire, mean over the attackers' seeds",
}
MEASURES = (("ssim_normalized", "normalized SSIM"), ("r2", "R²"), ("ssim", "SSIM"))
COLUMNS = ("what is attacked", "variant", *(f"#{title}" for _, title in MEASURES), "by")


def references(section: Section, data: ReportInput) -> None:
    """Add the table to a section; nothing where no such row was measured."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for metric in data.metrics:
        if not metric.name.startswith((PREFIX, EXCESS, SEEDS, FRAMES)):
            continue
        family, _, measure = metric.name.removeprefix("privacy.").removeprefix("reference.").rpartition(".")
        cells = found.setdefault((family, metric.variant), {})
        spread = numbers.spread(metric)
        count = f"\n{metric.n} seeds" if family.endswith("seeds") else ""
        cells[measure] = numbers.text(metric.value, metric.unit) + (f"\n{spread}" if spread else "") + count
        cells.setdefault("by", attacker_of(metric))
    rows = [
        (
            _words(family),
            data.title_of(variant),
            *(cells.get(measure, "\N{EN DASH}") for measure, _ in MEASURES),
            cells["by"],
        )
        for (family, variant), cells in found.items()
    ]
    if rows:
        section.head("Beside the anchors")
        section.say("The same attackers with the same budget on other things; rows to compare with, no divisors.")
        section.table("What the same attackers reach elsewhere, with 95 % intervals.", COLUMNS, rows)


def _words(family: str) -> str:
    """What is attacked; ``noise.frames.4`` is four transmissions of each scene on the row with noise."""
    row, several, _ = family.rpartition(".seeds")
    if several:
        return f"{_words(row)}, mean over the attackers' seeds"
    row, several, count = family.rpartition("frames.")
    if not several:
        return WORDS.get(family, family)
    what = WORDS.get(row.rstrip("."), "the wire")
    return f"{what}, {count} {'frame' if count == '1' else 'frames'} of each scene"
