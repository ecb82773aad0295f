"""Fits the predictor's coefficients to published rows: robust least squares on logarithms.

A generation's coefficient is a common one times its own deviation; both have priors, so that a generation with
few rows leans on the others. Two kinds of nuisance are fitted beside them and dropped afterwards: what a source's
way of measuring adds to every inference, and how much slower than at its highest clocks a device ran whose power
mode is not stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from scipy.optimize import least_squares

from benchmarks.predictor_rows import Row, build
from targets.jetson.catalogue import find_module
from targets.jetson.layers import LayerGraph
from targets.jetson.predictor.cost import Coefficients, Machine, layer_times, machine
from targets.jetson.predictor.table import Array, Table, concatenate, tabulate
from toolkit.planning.layers import fuse

FAMILIES = ("cuda_cores", "volta", "ampere")
FAMILY_OF = {"maxwell": "cuda_cores", "pascal": "cuda_cores", "volta": "volta", "ampere": "ampere"}
NAMES = tuple(field.name for field in fields(Coefficients))
PRIOR = {
    "fp32": (0.5, 0.3, 0.1), "fp16": (0.55, 0.4, 0.4), "int8": (0.5, 0.4, 0.15), "tile": (24, 0.5, 0.2),
    "depth": (48, 0.6, 0.3), "winograd": (1.5, 0.3, 0.2), "product": (1.0, 0.3, 0.1), "depthwise": (0.3, 0.5, 0.4),
    "bandwidth": (0.7, 0.2, 0.12), "cached": (0.6, 0.2, 0.1), "launch": (6.0, 0.5, 0.6),
    "launch_int8": (3.0, 0.5, 0.25), "host": (2.0, 0.6, 0.2), "copy": (0.6, 0.4, 0.2), "smooth": (0.4, 0.6, 0.3),
    "reformat": (0.6, 0.3, 0.1), "window": (0.5, 0.7, 0.2), "fixed": (0.03, 0.5, 0.2),
}  # fmt: skip
"""Common value, spread of its logarithm, spread of a generation's deviation from it."""

UPPER = {"fp32": 0.95, "fp16": 0.95, "int8": 0.95, "bandwidth": 0.92, "cached": 0.9, "copy": 1.0, "smooth": 1.0}
LOWER = {"winograd": 1.0}
INT8_SPREAD = 0.1
SOURCE_SPREAD = 0.05
CLOCK_SPREAD = 0.15
NOISE = {True: 0.08, False: 0.15}


@cache
def graph(key: str) -> LayerGraph:
    """A rebuilt network, fused."""
    return fuse(build(key), key)


@cache
def table(key: str, precision: str) -> Table:
    """Its columns."""
    return tabulate(graph(key), precision).unique()


@dataclass(frozen=True)
class Problem:
    """Rows with all their layers behind each other.

    Attributes:
        owner: row of a layer.
        family: index into :data:`FAMILIES` of a row.
        sources, places: what the nuisances are for.
    """

    rows: tuple[Row, ...]
    layers: Table
    device: Machine
    owner: Array
    family: Array
    observed: Array
    sources: tuple[str, ...]
    places: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Problem:
        """Collect the rows' layers."""
        tables = [table(row.graph, row.precision) for row in rows]
        owner = np.repeat(np.arange(len(rows)), [len(one) for one in tables])
        generations = [find_module(row.module).generation for row in rows]
        machines = [machine(name, row.sms, row.ghz, row.gbps) for name, row in zip(generations, rows, strict=True)]
        columns = {
            field.name: np.stack([getattr(one, field.name) for one in machines])[owner]
            for field in fields(Machine)
        }
        return cls(
            tuple(rows),
            concatenate(tables),
            Machine(**columns),
            owner,
            np.array([FAMILIES.index(FAMILY_OF[name]) for name in generations]),
            np.log([row.ms for row in rows]),
            tuple(sorted({row.group for row in rows})),
            tuple(sorted({(row.group, row.module) for row in rows if not row.documented})),
        )

    def predict(self, values: dict[str, dict[str, float]]) -> Array:
        """Milliseconds of every row, from coefficients by family and name."""
        matrix = np.array([[values[family][name] for name in NAMES] for family in FAMILIES])[self.family]
        fitted = Coefficients(**{name: matrix[self.owner, i] for i, name in enumerate(NAMES)})
        times = layer_times(self.layers, self.device, fitted) * self.layers.repeats
        fixed = matrix[:, NAMES.index("fixed")]
        return np.bincount(self.owner, weights=times, minlength=len(self.rows)) + fixed


@dataclass(frozen=True)
class Fit:
    """Coefficients and nuisances.

    Attributes:
        common: by name.
        values: by family and name.
        added: milliseconds that a source's way of measuring adds.
        slower: by source and module, factor on the time where the power mode is not stated.
    """

    common: dict[str, float]
    values: dict[str, dict[str, float]]
    added: dict[str, float]
    slower: dict[tuple[str, str], float]


FIRST = Fit(
    {name: PRIOR[name][0] for name in NAMES}, {f: {n: PRIOR[n][0] for n in NAMES} for f in FAMILIES}, {}, {}
)


def fit(rows: Sequence[Row], start: Fit = FIRST) -> Fit:
    """Fit all generations together."""
    problem = Problem.of(rows)
    found = least_squares(
        lambda vector: _residuals(problem, vector), _pack(problem, start), loss="soft_l1", method="trf",
        max_nfev=60 if start is FIRST else 12, diff_step=1e-3,
    )  # fmt: skip
    return _unpack(problem, found.x)


def _pack(problem: Problem, start: Fit) -> Array:
    common = np.log([start.common[name] for name in NAMES])
    own = np.log([[start.values[family][name] for name in NAMES] for family in FAMILIES]) - common
    added = [start.added.get(name, 0.0) for name in problem.sources]
    slower = [np.log(start.slower.get(place, 1.0)) for place in problem.places]
    return np.concatenate([common, own.ravel(), added, slower])


def _unpack(problem: Problem, vector: Array) -> Fit:
    common, own, added, slower = _parts(problem, vector)
    values = {
        family: {name: _bounded(name, common[i] + own[f, i]) for i, name in enumerate(NAMES)}
        for f, family in enumerate(FAMILIES)
    }
    return Fit(
        {name: _bounded(name, common[i]) for i, name in enumerate(NAMES)},
        values,
        {name: float(abs(added[i])) for i, name in enumerate(problem.sources)},
        {place: float(np.exp(slower[i])) for i, place in enumerate(problem.places)},
    )


def _bounded(name: str, logarithm: float) -> float:
    return float(min(max(np.exp(logarithm), LOWER.get(name, 0.0)), UPPER.get(name, np.inf)))


def _parts(problem: Problem, vector: Array) -> tuple[Array, Array, Array, Array]:
    count, wide = len(NAMES), len(NAMES) * len(FAMILIES)
    ends = np.cumsum([count, wide, len(problem.sources)])
    common, own, added, slower = np.split(vector, ends)
    return common, own.reshape(len(FAMILIES), count), added, slower


def _residuals(problem: Problem, vector: Array) -> Array:
    common, own, added, slower = _parts(problem, vector)
    times = np.log(with_nuisance(problem, _unpack(problem, vector)))
    noise = np.array([NOISE[row.documented] for row in problem.rows])
    means, spreads, deviations = np.array([PRIOR[name] for name in NAMES]).T
    return np.concatenate([
        (times - problem.observed) / noise,
        (common - np.log(means)) / spreads,
        (own / deviations).ravel(),
        _int8_like_fp16(common, own),
        added / SOURCE_SPREAD,
        slower / CLOCK_SPREAD,
    ])  # fmt: skip


def _int8_like_fp16(common: Array, own: Array) -> Array:
    """On tensor cores the same tiling serves both precisions, so their shares of the peaks are about equal."""
    total = common + own[1:]
    return (total[:, NAMES.index("int8")] - total[:, NAMES.index("fp16")]) / INT8_SPREAD


def with_nuisance(problem: Problem, found: Fit) -> Array:
    """Milliseconds as the sources would have measured them."""
    times = problem.predict(found.values)
    added = np.array([found.added.get(row.group, 0.0) for row in problem.rows])
    slower = np.array([1.0 if r.documented else found.slower.get((r.group, r.module), 1.0) for r in problem.rows])
    return times * slower + added
