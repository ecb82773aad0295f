"""The table and the plot of the privacy matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from toolkit.privacy.anchors import Anchors, measurable
from toolkit.privacy.seeds import LEAST
from toolkit.privacy.settings import AttackSettings

TICKS = (2, 4, 8, 32)
COLOURS = {"dense": "#c44e52", "slim": "#4c72b0"}


def table(body: dict[str, Any]) -> str:
    """The Markdown page."""
    suite, cells = body["suite"], sorted(body["cells"].items(), key=lambda item: _place(item[0]))
    labels = list(dict.fromkeys(label for _, cell in cells for label in cell["attackers"]))
    seeds = f"mean and 95 % interval over {suite['seeds']} seeds" if suite["seeds"] > 1 else "95 %"
    lines = [
        "# Cut x bits x network x attacker",
        "",
        *(f"    {command}" for command in body["commands"]),
        "",
        _conditions(body),
        "",
        f"| cut | network | bits | {' | '.join(f'SSIM {a}' for a in labels)} | normalized SSIM ({seeds}) | R2 |",
        f"|---|---|---:|{'---:|' * (len(labels) + 2)}",
    ]
    for key, cell in cells:
        cut, network, bits = key.split("/")
        found = cell["attackers"]
        scores = " | ".join(f"{found[label]['ssim']:.3f}" if label in found else "failed" for label in labels)
        norm, r2 = _values(cell)
        spread = f"{norm['value']:.3f} ({norm['low']:.3f} to {norm['high']:.3f})"
        spread = spread if _measurable(body, key) else f"not measurable ({spread})"
        lines.append(f"| {cut} | {network} | {bits} | {scores} | {spread} | {r2['value']:.3f} |")
    return "\n".join([*lines, *_doubts(body), ""])


def _conditions(body: dict[str, Any]) -> str:
    cells, suite = body["cells"].values(), body["suite"]
    minutes = sum(cell["cpu_seconds"] for cell in cells) / 60
    tested = max((cell["pictures"] for cell in cells), default=0)
    floor = Anchors(**{k: tuple(v) for k, v in body["anchors"].items()}).floor_ssim
    text = (
        f"{body['machine']}, {minutes:.0f} min of processor time, Python {body['python']}, torch {body['torch']}. "
        f"{body['train']} pictures of the attacker{_copies(suite, body['train'])}, {tested} test pictures, preset "
        f"{suite['preset']}, seed {suite['seed']}. The float edge half and a step of its own for every cell; "
        f"white box knows the edge half, shadow the cloud half. SSIM without the codes: {floor:.3f}."
    )
    if suite["seeds"] > 1:
        few = "" if suite["seeds"] >= LEAST else f" Fewer than {LEAST} seeds are no claim."
        text += f" SSIM and trust are shown of the first seed and of all seeds; the interval is over seeds.{few}"
    return f"{text} {body['note']}".strip()


def _copies(suite: dict[str, Any], pictures: int) -> str:
    settings = AttackSettings(preset=suite["preset"], augmented=suite["augmented"])
    count = settings.copies(pictures)
    changed = f", {count} changed copies" if count else ""
    return f" and their mirror images{changed}"


def _doubts(body: dict[str, Any]) -> list[str]:
    """What speaks against the numbers, each text with the cells it is said of."""
    found: dict[str, list[str]] = {}
    for key, cell in sorted(body["cells"].items(), key=lambda item: _place(item[0])):
        for text in cell["problems"]:
            found.setdefault(text, []).append(key)
    if not found:
        return ["", "Nothing speaks against these numbers."]
    rows = []
    for text, keys in found.items():
        where = "all cells" if len(keys) == len(body["cells"]) else ", ".join(keys)
        rows.append(f"- {text} ({where})")
    return ["", "Not trusted, because:", "", *rows]


def _values(cell: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Normalized SSIM and R2: over seeds where there are several, else over pictures."""
    if "seeds" in cell:
        return cell["seeds"]["ssim_normalized"], cell["seeds"]["r2"]
    return cell["normalized_ssim"], cell["r2"]


def _measurable(body: dict[str, Any], key: str) -> bool:
    """Whether anything can be told: by this cell, or by the dense network's at the same cut."""
    cut = key.split("/", maxsplit=1)[0]
    anchors = Anchors(**{k: tuple(v) for k, v in body["anchors"].items()})
    keys = [key, *(other for other in body["cells"] if other.startswith(f"{cut}/dense/"))]
    scores = [np.asarray(body["cells"][one]["strongest"]) for one in keys]
    return measurable(anchors.floor, max(scores, key=lambda values: float(values.mean())), body["identities"])[0]


def _place(key: str) -> tuple[str, str, int]:
    """Rows by cut, then network, then from many bits to few."""
    cut, network, bits = key.split("/")
    return cut, network, -int(bits)


def plot(body: dict[str, Any], path: Path) -> None:
    """Normalized SSIM over bits, one panel a cut, one line a network; the bars are the table's intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cuts = sorted({key.split("/")[0] for key in body["cells"]})
    figure = Figure(figsize=(1.5 + 2.9 * len(cuts), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(cuts), sharey=True, squeeze=False)[0]
    for panel, cut in zip(panels, cuts, strict=True):
        for network in ("dense", "slim"):
            bits = [b for b in TICKS if f"{cut}/{network}/{b}" in body["cells"]]
            if not bits:
                continue
            values = [_values(body["cells"][f"{cut}/{network}/{b}"])[0] for b in bits]
            middle = np.array([value["value"] for value in values])
            bars = np.array([[v["value"] - v["low"], v["high"] - v["value"]] for v in values]).T
            places = [TICKS.index(b) for b in bits]
            panel.errorbar(
                places, middle, bars, marker="o", capsize=3, color=COLOURS[network], label=network, linewidth=1.6
            )
        panel.set_title(f"cut {cut}", fontsize=10)
        panel.set_xticks(range(len(TICKS)), ["2", "4", "8", "float"])
        panel.set_xlim(-0.3, len(TICKS) - 0.7)
        panel.set_xlabel("bits a code")
        panel.axhline(0, color="grey", linewidth=0.8, linestyle=":")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("normalized SSIM")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=120)
