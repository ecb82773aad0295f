"""How far the codes of two forms, or of a form and the FP32 network, agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import onnx

from calibration.session import open_session, run_all


@dataclass(frozen=True)
class Agreement:
    """Codes of two networks on the same pictures.

    Attributes:
        equal: share of equal codes; within_one: share at most one step apart; largest: largest distance in steps.
        codes: how many were compared.
    """

    equal: float
    within_one: float
    largest: int
    codes: int


@dataclass(frozen=True)
class Fidelity:
    """Decoded codes against the FP32 network's feature, clipped to what the wire can hold.

    Attributes:
        cosine: between the two, over all values.
        sqnr_db: power of the feature over power of the difference, in dB.
        fp32_sqnr_db: the same for the FP32 network's own codes: the wire's share, which no calibration removes.
    """

    cosine: float
    sqnr_db: float
    fp32_sqnr_db: float


def compare_codes(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Compare two int8 arrays of one shape."""
    distance = np.abs(first.astype(np.int16) - second.astype(np.int16))
    return Agreement(
        float(np.mean(distance == 0)), float(np.mean(distance <= 1)), int(distance.max()), distance.size
    )


def run_forms(
    forms: Mapping[str, onnx.ModelProto], pictures: np.ndarray, batch: int, threads: int
) -> dict[str, np.ndarray]:
    """INT8 codes of every form; all but ``cpu`` run as written, with float arithmetic between Q and DQ."""
    return {
        name: run_all(open_session(model, threads, integer_kernels=name == "cpu"), pictures, batch)
        for name, model in forms.items()
    }


def agreements(codes: Mapping[str, np.ndarray]) -> dict[str, Agreement]:
    """All pairs; the key is ``first/second``."""
    return {f"{a}/{b}": compare_codes(codes[a], codes[b]) for a, b in combinations(sorted(codes), 2)}


def fidelity(codes: np.ndarray, reference_codes: np.ndarray, feature: np.ndarray, step: float) -> Fidelity:
    """Compare codes with the FP32 network's feature (already clipped) and its codes."""
    decoded = codes.astype(np.float64) * step
    target = feature.astype(np.float64)
    norm = float(np.linalg.norm(decoded) * np.linalg.norm(target))
    cosine = float(np.sum(decoded * target) / norm) if norm else float(norm == 0)
    return Fidelity(cosine, sqnr(target, decoded), sqnr(target, reference_codes.astype(np.float64) * step))


def sqnr(reference: np.ndarray, approximation: np.ndarray) -> float:
    """Signal to quantization noise ratio in dB; infinite when both are equal."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    noise = float(np.sum(np.square(reference.astype(np.float64) - approximation)))
    if not noise:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal else float("-inf")
