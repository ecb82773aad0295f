"""Predicted against published, one panel per way of leaving out."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.predictor_rows import Row
from targets.jetson.catalogue import find_module

COLOURS = {"maxwell": "#4477aa", "pascal": "#66ccee", "volta": "#228833", "ampere": "#cc6677"}


def scatter(rows: list[Row], held_out: dict[str, np.ndarray], path: Path) -> None:
    """Write the picture."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(held_out), figsize=(5 * len(held_out), 5), sharey=True, layout="constrained"
    )
    observed = np.array([row.ms for row in rows])
    generations = np.array([find_module(row.module).generation for row in rows])
    documented = np.array([row.documented for row in rows])
    ends = np.array([0.3, 500.0])
    for axis, (how, predicted) in zip(axes, held_out.items(), strict=True):
        axis.plot(ends, ends, color="black", linewidth=0.8)
        axis.fill_between(ends, ends / 1.2, ends * 1.2, color="0.9", label="within 20 %")
        for name, colour in COLOURS.items():
            for said, marker in ((True, "o"), (False, "x")):
                own = (generations == name) & (documented == said)
                label = f"{name}, clocks {'documented' if said else 'not stated'}"
                if own.any():
                    axis.plot(observed[own], predicted[own], marker, color=colour, markersize=4, label=label)
        axis.set(
            xscale="log", yscale="log", xlim=ends, ylim=ends, title=f"one {how} left out", xlabel="published ms"
        )
    axes[0].set_ylabel("predicted ms")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
