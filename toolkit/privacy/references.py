"""Rows beside the anchors: the same attackers on other things that could have been sent.

- ``embedding``: the cloud's final embedding, which the task discloses anyway. Excess leakage = wire - embedding.
- ``shallow``: the dense network cut earlier, which is what its edge budget would allow without pruning.
- ``noise``: the deployed wire with private Gaussian noise, drawn anew for every picture and never sent.

They are rows, never denominators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from toolkit.errors import AttackError
from toolkit.metrics import Metric
from toolkit.privacy.anchors import r_squared
from toolkit.privacy.codes import Array, Floats, Pictures
from toolkit.privacy.result import AttackResult
from toolkit.privacy.similarity import Values
from toolkit.privacy.statistics import Estimate, estimate
from toolkit.wire import WireFormat, decode, encode

ReferenceName = Literal["embedding", "shallow", "noise"]


def add_private_noise(
    codes: npt.NDArray[np.int8], fmt: WireFormat, sigma: float, random: np.random.Generator
) -> Array:
    """Codes of a wire with noise before its last quantizer: ``encode(decode(codes) + N(0, sigma^2))``.

    The engine's own codes are the signal, so every engine's wire can carry noise; what an adversary learns is
    bounded by ``certificate.certify_noisy`` on the dequantized codes (data processing).

    Args:
        codes: ``(N, C, h, w)`` int8.
        fmt: of the wire; the step stays.
        sigma: standard deviation, in units of the feature.
        random: the device's own generator.

    Raises:
        AttackError: a noise that is not positive.
    """
    if not (np.isfinite(sigma) and sigma > 0):
        raise AttackError(f"private noise has a positive standard deviation, not {sigma}")
    noise = random.standard_normal(codes.shape).astype(np.float32) * np.float32(sigma)
    return encode(decode(codes, fmt) + noise, fmt)


def noisy_encoder(
    encoder: Callable[[Pictures], Array], fmt: WireFormat, sigma: float, seed: int
) -> Callable[[Pictures], Array]:
    """An encoder whose every call draws new private noise."""
    random = np.random.default_rng((seed, 7))
    return lambda pictures: add_private_noise(np.asarray(encoder(pictures), np.int8), fmt, sigma, random)


def as_wire(embeddings: Array) -> Floats:
    """Embeddings ``(N, D)`` as a float wire ``(N, D, 1, 1)``."""
    values = np.asarray(embeddings, np.float32)
    if values.ndim != 2:
        raise AttackError(f"embeddings have shape (N, D), not {values.shape}")
    return values[:, :, None, None]


def reference_metrics(name: str, result: AttackResult, machine: str, can_tell: bool) -> list[Metric]:
    """``privacy.reference.NAME.ssim``, ``.r2`` and ``.ssim_normalized``; the latter two only where measurable."""
    scored: list[tuple[str, Estimate, str]] = [("ssim", result.ssim, result.worst("ssim").label)]
    if can_tell:
        scored += [
            ("r2", result.r2, result.worst("mse").label),
            ("ssim_normalized", result.normalized_ssim, result.worst("ssim").label),
        ]
    return [
        Metric(
            name=f"privacy.reference.{name}.{measure}",
            value=found.value,
            n=len(result.identities),
            interval=(found.low, found.high),
            variant=result.variant,
            machine=machine,
            protocol=f"worst of {len(result.attackers)} attackers: {label}",
            split="test",
        )
        for measure, found, label in scored
    ]


def excess_metrics(wire: AttackResult, embedding: AttackResult, machine: str) -> list[Metric]:
    """``privacy.excess.ssim_normalized`` and ``.r2``: wire minus embedding on the same pictures and anchors.

    Each side's strongest attacker is taken first; the interval is over identities, paired by picture.

    Raises:
        AttackError: the two were scored on other pictures.
    """
    if wire.identities != embedding.identities:
        raise AttackError("wire and embedding were scored on other test pictures")
    ours, theirs = wire.worst("ssim"), embedding.worst("ssim")
    structure = [ours.values("ssim"), theirs.values("ssim"), wire.anchors.floor]
    errors = [
        wire.worst("mse").values("mse"),
        embedding.worst("mse").values("mse"),
        np.asarray(wire.anchors.mean_mse),
    ]
    found = {
        "ssim_normalized": (estimate(structure, wire.identities, _gained), ours.label, theirs.label),
        "r2": (
            estimate(errors, wire.identities, _explained),
            wire.worst("mse").label,
            embedding.worst("mse").label,
        ),
    }
    return [
        Metric(
            name=f"privacy.excess.{name}",
            value=value.value,
            n=len(wire.identities),
            interval=(value.low, value.high),
            variant=wire.variant,
            machine=machine,
            protocol=f"worst of {len(wire.attackers)} attackers: {a} on the wire, {b} on the embedding",
            split="test",
        )
        for name, (value, a, b) in found.items()
    ]


def _gained(wire: Values, embedding: Values, floor: Values) -> Values:
    return np.asarray((wire - embedding) / (1 - floor))


def _explained(wire: Values, embedding: Values, mean: Values) -> Values:
    return r_squared(wire, mean) - r_squared(embedding, mean)
