"""Bounds within the attack stage: what limits an adversary without running one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from toolkit.preprocess import to_input
from toolkit.stages.base import Context
from toolkit.stages.build import codes_of, running_variants
from toolkit.stages.data import RunData
from toolkit.stages.export import load_network, networks_of, wire_of
from toolkit.variants import Variant

SIZES: dict[str, Literal["none", "zstd"]] = {
    "privacy.bound.size_entropy_bits": "none",
    "privacy.bound.size_entropy_bits_zstd": "zstd",
}


def measure_bounds(context: Context, data: RunData) -> None:
    """``privacy.bound.*`` of every network with its float edge half, and ``bounds.json``.

    The bits are those of a variant's codes: a deterministic wire tells no more about a picture than it sends. What
    the length of a frame alone tells is measured on the frames themselves, uncompressed (as they are sent unless
    someone chooses otherwise) and compressed.
    """
    from toolkit.privacy.bounds import frame_lengths, size_entropy_bits
    from toolkit.wire import entropy_bits

    for key in running_variants(context):
        fmt = wire_of(context, Variant.from_key(key).network)
        codes = np.asarray(codes_of(context, key)[data.test])
        fields: dict[str, Any] = {"unit": "bits", "variant": key, "split": "test", "n": len(codes)}
        context.measure("privacy.bound.bits_raw", float(fmt.elements * fmt.bits), **fields)
        context.measure("privacy.bound.bits_entropy", entropy_bits(codes), **fields)
        for name, compress in SIZES.items():
            bits = size_entropy_bits(frame_lengths(codes, fmt, compress))
            context.measure(name, bits, protocol=f"frames, compression {compress}", **fields)
    if context.settings.enter.kind == "onnx" or context.settings.attack.bounds is None:
        return
    body = {network: _network(context, data, network) for network in networks_of(context)[0]}
    context.write_json("bounds.json", body)


def _network(context: Context, data: RunData, network: str) -> dict[str, Any]:
    import torch

    from toolkit.privacy.bounds import largest_stretch, null_space_bound, singular_values

    options = context.settings.attack.bounds
    assert options is not None
    net, _ = load_network(context, network)
    net.eval().requires_grad_(False)
    owned = data.rows["attacker_train"]
    chosen = owned[np.linspace(0, len(owned) - 1, min(options.prior, len(owned))).round().astype(int)]
    x = torch.from_numpy(to_input(np.asarray(data.pictures[chosen])))
    stretch = largest_stretch(net.edge, x[: options.pictures], seed=context.settings.seed)
    spectrum = singular_values(net.edge, x[:1], options.singular_values, context.settings.seed)
    bound = null_space_bound(net.edge, x, options.side, gram_pictures=options.gram)
    for key in running_variants(context):
        variant = Variant.from_key(key)
        if variant.network != network or variant.precision != "fp32":
            continue
        local = f"float edge half, largest of {len(stretch)} pictures"
        context.measure(
            "privacy.bound.lipschitz", float(stretch.max()), n=len(stretch), variant=key, protocol=local
        )
        assumed = f"{options.side} x {options.side} pixels; assumes: {bound.assumptions}"
        context.measure("privacy.bound.null_space_mse", bound.mse, n=len(x), variant=key, protocol=assumed)
    return {"lipschitz": stretch.tolist(), "singular_values": spectrum.tolist(), "null_space": asdict(bound)}
