"""What is known about each metric: its words, its group, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Kind:
    """How a metric is shown.

    Attributes:
        label: for people.
        group: heading in the path table.
        better: the direction that is an improvement.
        worst: of several protocols (attackers) the largest value stands for the variant.
        exact: a count or a size, without sampling error.
    """

    label: str
    group: str
    better: Better = "neither"
    worst: bool = False
    exact: bool = False


UTILITY, SIZE, SPEED, WIRE, PRIVACY = "Recognition", "Edge network", "Speed and memory", "Wire", "Privacy"
GROUPS = (UTILITY, SIZE, SPEED, WIRE, PRIVACY)

PATH: dict[str, Kind] = {
    "reid.map": Kind("mAP", UTILITY, "higher"),
    "reid.rank1": Kind("rank-1", UTILITY, "higher"),
    "edge.parameters": Kind("parameters, edge half", SIZE, "lower", exact=True),
    "edge.macs": Kind("multiply-adds, edge half", SIZE, "lower", exact=True),
    "edge.activation_bytes": Kind("largest activations", SIZE, "lower", exact=True),
    "size.onnx": Kind("ONNX file, edge half", SIZE, "lower", exact=True),
    "size.engine": Kind("engine file", SIZE, "lower", exact=True),
    "latency.p50": Kind("latency, median", SPEED, "lower"),
    "latency.p99": Kind("latency, 99th percentile", SPEED, "lower"),
    "throughput": Kind("throughput", SPEED, "higher"),
    "memory.peak": Kind("peak memory", SPEED, "lower"),
    "wire.bytes_raw": Kind("wire, packed, per picture", WIRE, "lower", exact=True),
    "wire.bytes_entropy": Kind("wire, entropy-coded, per picture", WIRE, "lower"),
    "privacy.r2": Kind("worst attacker's R²", PRIVACY, "lower", worst=True),
    "privacy.ssim_normalized": Kind("worst attacker's normalized SSIM", PRIVACY, "lower", worst=True),
}

OTHERS: dict[str, Kind] = {
    "reid.rank5": Kind("rank-5", UTILITY, "higher"),
    "reid.minp": Kind("mINP", UTILITY, "higher"),
    "reid.map_drop": Kind("mAP lost against the dense network", UTILITY, "lower"),
    "latency.p90": Kind("latency, 90th percentile", SPEED, "lower"),
    "latency.ratio": Kind("interleaved ratio of latencies", SPEED, "lower"),
    "privacy.ssim": Kind("SSIM of the reconstruction", PRIVACY, "lower"),
    "privacy.psnr": Kind("PSNR of the reconstruction", PRIVACY, "lower"),
    "privacy.mse": Kind("squared error of the reconstruction", PRIVACY, "higher"),
    "privacy.floor_ssim": Kind("SSIM without the codes (floor)", PRIVACY),
    "privacy.ssim_p95": Kind("SSIM of the picture that leaks most but 5 %", PRIVACY, "lower"),
    "privacy.mse_p95": Kind("squared error of the picture that leaks most but 5 %", PRIVACY, "higher"),
    "privacy.trusted": Kind("nothing speaks against the attack", PRIVACY, "higher", exact=True),
    "privacy.measurable": Kind("floor and attack can be told apart", PRIVACY, "higher", exact=True),
    **{
        f"privacy.certificate.{content}": Kind(
            f"certificate: who knows all else names the {content}", PRIVACY, "lower"
        )
        for content in ("plate", "occupants", "background")
    },
    **{
        f"privacy.certificate.{content}.truth": Kind(
            f"best guess of the {content} on the noisy codes themselves", PRIVACY, "lower"
        )
        for content in ("plate", "occupants", "background")
    },
    "wire.noise": Kind("private noise on the wire", WIRE, exact=True),
    **{
        f"privacy.certificate.{content}.attack": Kind(
            f"an attacker on the same scenes names the {content}", PRIVACY, "lower"
        )
        for content in ("plate", "occupants", "background")
    },
    "privacy.excess.ssim_normalized": Kind("excess over the embedding, SSIM", PRIVACY, "lower", worst=True),
    "privacy.excess.r2": Kind("excess over the embedding, R²", PRIVACY, "lower", worst=True),
    "privacy.bound.bits_raw": Kind("bound: bits sent a picture", PRIVACY, "lower", exact=True),
    "privacy.bound.bits_entropy": Kind("bound: bits of an ideal coder a picture", PRIVACY, "lower"),
    "privacy.bound.lipschitz": Kind("largest local stretch of the edge half", PRIVACY),
    "privacy.bound.null_space_mse": Kind("bound: MSE that the null space leaves", PRIVACY, "higher"),
    "privacy.ms_ssim": Kind("multi-scale SSIM of the reconstruction", PRIVACY, "lower"),
    "privacy.lpips": Kind("LPIPS of the reconstruction", PRIVACY, "higher"),
    "leak.background.ssim": Kind("leak: SSIM outside the vehicle", PRIVACY, "lower", worst=True),
    "privacy.converged": Kind("attacker converged", PRIVACY, "higher", exact=True),
}

_FAMILIES: dict[str, Kind] = {
    "reid": Kind("", UTILITY, "higher"),
    "edge": Kind("", SIZE, "lower", exact=True),
    "size": Kind("", SIZE, "lower", exact=True),
    "latency": Kind("", SPEED, "lower"),
    "memory": Kind("", SPEED, "lower"),
    "clock": Kind("", SPEED),
    "power": Kind("", SPEED, "lower"),
    "energy": Kind("", SPEED, "lower"),
    "leak": Kind("", PRIVACY, "lower", worst=True),
    "identity_evidence": Kind("", PRIVACY, worst=True),
}


def kind_of(name: str) -> Kind:
    """What is known about a metric; its own name as label when nothing is."""
    known = PATH.get(name) or OTHERS.get(name)
    if known is not None:
        return known
    family, _, rest = name.partition(".")
    base = _FAMILIES.get(family, Kind("", "Others"))
    label = f"leak: {rest.replace('_', ' ')}" if family == "leak" else name
    return Kind(label, base.group, base.better, base.worst, base.exact)
