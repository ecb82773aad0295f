"""Judges and fits the latency predictor on published Jetson latencies.

    python -m benchmarks.predictor            # cross-validates, writes results/predictor.* and the package's data

Every row is predicted by a fit that saw no row of its model, its family of models, its device, or its source.
What is judged is the plain prediction for the stated (or highest) clocks: the nuisances of the fit are dropped.
Intervals hold 90 % of these held-out errors, pooled over the four.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks import predictor_fit as fitting
from benchmarks.predictor_plots import scatter
from benchmarks.predictor_report import markdown
from benchmarks.predictor_rows import Row, family, freeze, load
from targets.jetson.catalogue import find_module
from targets.jetson.predictor.energy import int8_macs

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / "targets" / "jetson" / "data" / "predictor.json"
COVERAGE = 0.9
WIDER_WITHOUT_ROWS = 0.7
LEAVE_OUT: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row.model,
    "family": lambda row: family(row.model),
    "device": lambda row: row.module,
    "source": lambda row: row.group,
}


def main() -> None:
    """Fit, cross-validate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--freeze", type=Path, help="make the frozen table from this raw one first")
    chosen = parser.parse_args()
    if chosen.freeze:
        freeze(chosen.freeze)
    rows = load()
    final = fitting.fit(rows)
    held_out = {how: _leave_out(rows, key, final) for how, key in LEAVE_OUT.items()}
    spreads = _spreads(rows, held_out)
    DATA.write_text(json.dumps(_content(rows, final, spreads), indent=1) + "\n", encoding="utf-8")
    RESULTS.mkdir(exist_ok=True)
    table = [
        {
            "graph": row.graph, "precision": row.precision, "module": row.module, "documented": row.documented,
            "source": row.group, "published_ms": row.ms,
            **{f"without_{how}_ms": round(float(values[i]), 4) for how, values in held_out.items()},
        }
        for i, row in enumerate(rows)
    ]  # fmt: skip
    record = {
        "machine": f"{platform.machine()}, fitted on a CPU; all latencies are published ones",
        "nuisances": {
            "added_ms": final.added,
            "slower": {" ".join(place): factor for place, factor in final.slower.items()},
        },
        "rows": table,
    }
    (RESULTS / "predictor.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    strict = {how: _inside_strictly(rows, held_out, how) for how in LEAVE_OUT}
    (RESULTS / "predictor.md").write_text(markdown(rows, held_out, spreads, final, strict), encoding="utf-8")
    scatter(rows, held_out, RESULTS / "predictor.png")


def _leave_out(rows: list[Row], key: Callable[[Row], str], start: fitting.Fit) -> np.ndarray:
    """Milliseconds of every row from a fit without its like."""
    found = np.zeros(len(rows))
    for name in sorted({key(row) for row in rows}):
        without = fitting.fit([row for row in rows if key(row) != name], start)
        own = [i for i, row in enumerate(rows) if key(row) == name]
        found[own] = fitting.Problem.of([rows[i] for i in own]).predict(without.values)
        print(f"left out {name}: {len(own)} rows", flush=True)
    return found


def _spreads(rows: list[Row], held_out: dict[str, np.ndarray]) -> dict[str, float]:
    """Half width of the 90 % interval of a logarithm, by generation, pooled over the ways of leaving out."""
    widths = {name: _width(rows, held_out, np.array(_families(rows)) == name) for name in fitting.FAMILIES}
    return {
        "maxwell": widths["cuda_cores"], "pascal": widths["cuda_cores"], "volta": widths["volta"],
        "ampere": widths["ampere"], "blackwell": max(widths.values()) + WIDER_WITHOUT_ROWS,
    }  # fmt: skip


def _families(rows: list[Row]) -> list[str]:
    return [fitting.FAMILY_OF[find_module(row.module).generation] for row in rows]


def _width(rows: list[Row], held_out: dict[str, np.ndarray], chosen: np.ndarray) -> float:
    observed = np.log([row.ms for row in rows])
    errors = [np.abs(np.log(predicted) - observed)[chosen] for predicted in held_out.values()]
    return float(np.quantile(np.concatenate(errors), COVERAGE))


def _inside_strictly(rows: list[Row], held_out: dict[str, np.ndarray], how: str) -> float:
    """Share of rows in an interval whose width, too, comes from none of their like."""
    observed = np.log([row.ms for row in rows])
    errors = np.abs(np.log(held_out[how]) - observed)
    names = np.array([LEAVE_OUT[how](row) for row in rows])
    families = np.array(_families(rows))
    inside = [
        errors[i]
        <= _width(rows, held_out, _known((families == families[i]) & (names != names[i]), names != names[i]))
        for i in range(len(rows))
    ]
    return float(np.mean(inside))


def _known(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The rows of one generation without their like, or those of all where that leaves none."""
    return own if own.any() else others


def _content(rows: list[Row], final: fitting.Fit, spreads: dict[str, float]) -> dict[str, object]:
    generations = [find_module(row.module).generation for row in rows]
    coefficients = {generation: final.values[family] for generation, family in fitting.FAMILY_OF.items()}
    coefficients["blackwell"] = final.values["ampere"]
    return {
        "version": 1,
        "fitted_by": "benchmarks/predictor.py on benchmarks/data/predictor_eligible.csv",
        "fitted_on": {name: generations.count(name) for name in coefficients},
        "spread": {name: round(value, 4) for name, value in spreads.items()},
        "coefficients": {
            name: {key: round(value, 6) for key, value in values.items()} for name, values in coefficients.items()
        },
        "energy": {name: _energy(rows, name) for name in ("volta", "ampere")},
    }


def _energy(rows: list[Row], generation: str) -> dict[str, float]:
    """Non-negative least squares on relative errors; the width comes from leaving one row out."""
    own = [row for row in rows if row.watts and find_module(row.module).generation == generation]
    watts = np.array([row.watts for row in own], dtype=float)
    matrix = np.array([
        [1.0, row.sms * row.ghz, int8_macs(fitting.graph(row.graph), row.precision) / 1e9 / row.ms] for row in own
    ])  # fmt: skip
    scaled = matrix / watts[:, None]
    full, _ = nnls(scaled, np.ones(len(own)))
    errors = []
    for i in range(len(own)):
        keep = np.arange(len(own)) != i
        part, _ = nnls(scaled[keep], np.ones(int(keep.sum())))
        errors.append(abs(np.log(max(float(matrix[i] @ part), 1e-3) / watts[i])))
    spread = float(np.max(errors)) + 0.2
    return {
        "base": round(float(full[0]), 4), "clock": round(float(full[1]), 4), "work": round(float(full[2]), 4),
        "spread": round(spread, 4), "rows": len(own), "median_error": round(float(np.median(errors)), 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
