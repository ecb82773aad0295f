"""The predictor's results as a table in words and numbers."""

from __future__ import annotations

import platform
from collections import Counter
from itertools import combinations

import numpy as np

from benchmarks import predictor_fit as fitting
from benchmarks.predictor_rows import Row
from targets.jetson.catalogue import find_module
from targets.jetson.predictor import predict

GAP = 1.2
WHY_WRONG = (
    "What can be told of the reasons, none of which was checked on a device:",
    "",
    "- netspresso's Orin Nano: all its rows take 1.1 to 1.7 times what the module's standard 15 W mode",
    "  predicts, and another source's Orin Nano does not (last table). Its table names neither variant",
    "  nor mode; a lower mode would explain it. On the seven other networks that both ran, the order",
    "  is wrong too; they are not among the pairs only because their published gaps are 8 to 18 %.",
    "- ResNet-50 in INT8: the AGX Orin's row is MLPerf's MaxQ, 16 SMs at 0.625 GHz. It takes 2.5 times",
    "  the same release's MaxP row (1.58 against 0.63 ms), though the GPU's clock is 2.1 times lower and",
    "  the memory's 1.5: these clocks alone do not explain it. The Orin NX at full",
    "  clocks is predicted too slow besides.",
)  # fmt: skip


def markdown(
    rows: list[Row], held_out: dict[str, np.ndarray], spreads: dict[str, float], final: fitting.Fit,
    strict: dict[str, float],
) -> str:  # fmt: skip
    """The results file."""
    observed = np.array([row.ms for row in rows])
    lines = [
        "# Predicted against published Jetson latencies", "",
        "    python -m benchmarks.predictor", "",
        f"Python {platform.python_version()}, numpy {np.__version__}; a fit of published numbers, the same on "
        "every machine.",
        "",
        f"{len(rows)} eligible rows of benchmarks/data/predictor_eligible.csv; every number below is of rows that "
        "the fit did not see. All latencies here are *predicted* or published; none was measured by this project.",
        "",
        "Documented: clocks are stated or locked at their highest (target: median error at most 10 %). Others "
        "name no power mode and are predicted at the highest clocks of the module (target: 20 %).", "",
        "| left out | median error, documented | others | all | 90th percentile | in the 90 % interval | \
in one without them |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    documented = np.array([row.documented for row in rows])
    for how, predicted in held_out.items():
        errors = np.abs(predicted / observed - 1)
        inside = _inside(rows, predicted, spreads)
        lines.append(
            f"| one {how} | {_percent(errors[documented])} ({documented.sum()}) | {_percent(errors[~documented])} "
            f"({(~documented).sum()}) | {_percent(errors)} | {100 * np.quantile(errors, 0.9):.1f} % | "
            f"{100 * inside.mean():.0f} % | {100 * strict[how]:.0f} % |"
        )
    lines += [
        "",
        "The interval's width is a quantile of these same errors; in the last column it comes from the errors "
        "of the other rows alone.",
        "",
        "## By generation and source (one model left out)",
        "",
        *_groups(rows, held_out["model"], spreads),
    ]
    lines += ["", "## Order of devices", "", *_orders(rows, held_out)]
    lines += ["", "## Against a global factor", "", *_baseline(rows, held_out)]
    lines += ["", "## Memory", "", *_memory(rows)]
    lines += ["", "## What a device without a stated power mode seems to have run at", "", *_nuisances(final)]
    return "\n".join(lines) + "\n"


def _percent(errors: np.ndarray) -> str:
    return f"{100 * np.median(errors):.1f} %" if len(errors) else "-"


def _inside(rows: list[Row], predicted: np.ndarray, spreads: dict[str, float]) -> np.ndarray:
    widths = np.array([spreads[find_module(row.module).generation] for row in rows])
    return np.abs(np.log(predicted / np.array([row.ms for row in rows]))) <= widths


def _groups(rows: list[Row], predicted: np.ndarray, spreads: dict[str, float]) -> list[str]:
    observed = np.array([row.ms for row in rows])
    lines = [
        "| generation | precision | source | rows | median error | in the interval |",
        "|---|---|---|---|---|---|",
    ]
    keys = [(find_module(row.module).generation, row.precision, row.group) for row in rows]
    inside = _inside(rows, predicted, spreads)
    for key, count in sorted(Counter(keys).items()):
        own = np.array([one == key for one in keys])
        errors = np.abs(predicted[own] / observed[own] - 1)
        lines.append(f"| {' | '.join(key)} | {count} | {_percent(errors)} | {100 * inside[own].mean():.0f} % |")
    return lines


def _orders(rows: list[Row], held_out: dict[str, np.ndarray]) -> list[str]:
    """Pairs of devices on one network, precision and source whose published times differ by more than 20 %."""
    lines = ["| left out | pairs | in the right order |", "|---|---|---|"]
    pairs = [
        (i, j)
        for i, j in combinations(range(len(rows)), 2)
        if (rows[i].graph, rows[i].precision, rows[i].group) == (rows[j].graph, rows[j].precision, rows[j].group)
        and rows[i].module != rows[j].module
        and max(rows[i].ms, rows[j].ms) / min(rows[i].ms, rows[j].ms) > GAP
    ]
    wrong: dict[tuple[int, int], list[str]] = {}
    for how, predicted in held_out.items():
        missed = [(i, j) for i, j in pairs if (predicted[i] > predicted[j]) != (rows[i].ms > rows[j].ms)]
        right = len(pairs) - len(missed)
        lines.append(f"| one {how} | {len(pairs)} | {right} ({100 * right / len(pairs):.1f} %) |")
        for pair in missed:
            wrong.setdefault(pair, []).append(how)
    return [*lines, *wrong_orders(rows, held_out["model"], wrong)]


def wrong_orders(rows: list[Row], predicted: np.ndarray, wrong: dict[tuple[int, int], list[str]]) -> list[str]:
    """The pairs that come out in the wrong order, with what was predicted with one model left out."""
    if not wrong:
        return []
    lines = ["", "In the wrong order (predicted with one model left out):", ""]
    lines += [
        "| network | source | slower one | published, predicted | faster one | published, predicted | left out |",
        "|---|---|---|---|---|---|---|",
    ]
    for (i, j), hows in sorted(wrong.items()):
        slow, fast = (i, j) if rows[i].ms > rows[j].ms else (j, i)
        cells = [
            f"{rows[one].module}, {rows[one].ghz:.3f} GHz | {rows[one].ms:.2f}, {predicted[one]:.2f} ms"
            for one in (slow, fast)
        ]
        head = f"{rows[i].graph} {rows[i].precision} | {rows[i].group}"
        lines.append(f"| {head} | {cells[0]} | {cells[1]} | {', '.join(hows)} |")
    return [*lines, "", *WHY_WRONG]


def _baseline(rows: list[Row], held_out: dict[str, np.ndarray]) -> list[str]:
    """Mean errors on the devices and the source for which notes give the error of a factor from a desktop GPU."""
    lines = ["| module | rows | mean error, one device left out | one model | a factor from an RTX 3090 (notes) |"]
    lines.append("|---|---|---|---|---|")
    for module, factor in (("orin-nano-8gb", 38), ("orin-nx-16gb", 36), ("agx-orin-64gb", 22.5)):
        own = np.array([row.module == module and row.group == "trtutils" for row in rows])
        observed = np.array([row.ms for row in rows])[own]
        found = [100 * np.mean(np.abs(held_out[how][own] / observed - 1)) for how in ("device", "model")]
        lines.append(f"| {module} | {own.sum()} | {found[0]:.1f} % | {found[1]:.1f} % | {factor} % |")
    note = (
        "The factor was fitted and judged on that source's whole grid (15 networks, 8 sizes), ours on these rows."
    )
    return [*lines, "", note]


def _memory(rows: list[Row]) -> list[str]:
    """Predicted against published memory; nothing was fitted to it."""
    lines = ["| network | module | published, MiB | predicted, MiB | interval |", "|---|---|---|---|---|"]
    errors, inside = [], 0
    for row in (row for row in rows if row.memory_mib):
        module, published = find_module(row.module), row.memory_mib or 0.0
        found = predict(fitting.graph(row.graph), module, module.mode(None), row.precision).memory_mb
        value, low, high = (mb * 1e6 / 2**20 for mb in (found.value, found.low, found.high))
        errors.append(abs(value / published - 1))
        inside += low <= published <= high
        lines.append(f"| {row.graph} | {row.module} | {published:g} | {value:.1f} | {low:.1f} to {high:.1f} |")
    note = (
        f"Median error {_percent(np.array(errors))}; {inside} of {len(errors)} in the interval. The source writes "
        "MB and rounds; its classifiers have 3 classes where our ResNets have 1000 (up to 4 MiB of weights). Its "
        "two large YOLOX on the Orin Nano contradict its own AGX Orin."
    )
    return [*lines, "", note]


def _nuisances(final: fitting.Fit) -> list[str]:
    lines = ["| source | module | time against the highest clocks |", "|---|---|---|"]
    lines += [
        f"| {source} | {module} | x {factor:.2f} |" for (source, module), factor in sorted(final.slower.items())
    ]
    return lines
