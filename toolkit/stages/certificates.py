"""Certificates within the attack stage: which contents of a scene the exact engine lets anyone tell apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.preprocess import Preprocess
from toolkit.progress import track
from toolkit.stages.base import Context
from toolkit.stages.build import Encoder, noise_of

if TYPE_CHECKING:
    from toolkit.privacy.attacks.base import Attack
    from toolkit.privacy.sandwich import NoisyWire, Sandwich, Share
    from toolkit.wire import WireFormat

Scenes = dict[str, list[NDArray[np.uint8]]]
FILE = "certificates.json"
PREFIX = "privacy.certificate."
REFERENCE = f"{PREFIX}with_noise."


def counterfactual_scenes(context: Context) -> Scenes:
    """Counterfactual pictures by content; only the synthetic fleet can render them."""
    from toolkit.privacy.counterfactuals import CONTENTS, counterfactual_pictures

    settings = context.settings
    count = settings.attack.certificate_scenes
    if settings.data.kind != "fleet" or not count:
        return {}
    preprocess = Preprocess.load(context.run.folder("data"))
    names = track(CONTENTS, "counterfactual scenes")
    return {name: counterfactual_pictures(name, settings.data.fleet, preprocess, count) for name in names}


def certify_variant(
    context: Context, key: str, scenes: Scenes, encoder: Encoder, attack: Attack | None, fmt: WireFormat
) -> None:
    """How many variants of one scene the codes of this engine can tell apart, and how many a real attacker does.

    The sandwich: attack <= truth <= certificate. On a wire without noise the certificate is the truth.
    """
    from toolkit.privacy.sandwich import NoisyWire

    noise = noise_of(context, key)
    if noise:
        wire = NoisyWire(encoder.signal, encoder, fmt, noise)
        body = certify_noisy_wire(context, PREFIX, key, scenes, wire, attack)
    else:
        body = _deterministic(context, key, scenes, encoder, attack, fmt)
    if body:
        context.write_json(f"{key}/{FILE}", body)


def certify_noisy_wire(
    context: Context, prefix: str, key: str, scenes: Scenes, wire: NoisyWire, attack: Attack | None
) -> dict[str, Any]:
    """Sandwiches of a wire with private noise as metrics, by content and frames.

    Returns:
        What goes into ``certificates.json``: the noise in steps and, by content, one sandwich for each number of
        frames.
    """
    from toolkit.privacy.sandwich import measure_sandwich

    body: dict[str, Any] = {}
    for content, pictures in scenes.items():
        if not pictures:
            continue
        rebuild = _reconstruction(attack, wire.fmt)
        found = measure_sandwich(content, pictures, wire, reconstruct=rebuild, seed=context.settings.seed)
        for sandwich in found:
            sandwich.check()
            _measure(context, f"{prefix}{content}", key, sandwich, wire.sigma, attack)
        body[content] = {"noise_steps": wire.sigma, "sandwiches": [sandwich.to_dict() for sandwich in found]}
    return body


def _measure(
    context: Context, name: str, key: str, sandwich: Sandwich, sigma: float, attack: Attack | None
) -> None:
    """One name for a single frame, ``.framesN`` behind it for more."""
    bound, frames = sandwich.certificate, sandwich.frames
    name = name if frames == 1 else f"{name}.frames{frames}"
    seen = "1 frame" if frames == 1 else f"{frames} frames"
    condition = f"noise of {sigma:g} steps, {seen}, chance {bound.chance:.3f}"
    protocol = f"bounds every adversary, {condition}"
    context.measure(name, bound.accuracy, n=bound.scenes, variant=key, protocol=protocol)
    _share(context, f"{name}.truth", key, sandwich.truth, f"best guess on the codes sent, {condition}")
    if attack is not None and sandwich.attack is not None:
        _share(context, f"{name}.attack", key, sandwich.attack, f"by {attack.name}, {condition}")


def _share(context: Context, name: str, key: str, share: Share, protocol: str) -> None:
    count = max(1, round(share.trials))
    context.measure(name, share.value, n=count, interval=(share.low, share.high), variant=key, protocol=protocol)


def _deterministic(
    context: Context, key: str, scenes: Scenes, encoder: Encoder, attack: Attack | None, fmt: WireFormat
) -> dict[str, Any]:
    from toolkit.privacy.certificate import certify, matching_accuracy

    body: dict[str, Any] = {}
    for content, pictures in scenes.items():
        if not pictures:
            continue
        found = certify(content, pictures, encoder)
        body[content] = asdict(found)
        protocol = f"chance {found.chance:.3f}, {found.changed:.1%} of the codes change"
        context.measure(f"{PREFIX}{content}", found.accuracy, n=found.scenes, variant=key, protocol=protocol)
        reconstruct = _reconstruction(attack, fmt)
        if attack is None or reconstruct is None:
            continue
        each = matching_accuracy(pictures, encoder, reconstruct)
        found.check(float(np.mean(each)))
        body[content]["attack"] = each
        name = f"{PREFIX}{content}.attack"
        protocol = f"by {attack.name}, chance {found.chance:.3f}"
        context.measure(name, float(np.mean(each)), n=found.scenes, variant=key, protocol=protocol)
    return body


def _reconstruction(attack: Attack | None, fmt: WireFormat) -> Callable[[Any], NDArray[np.uint8]] | None:
    from toolkit.privacy.codes import WireCodes

    if attack is None:
        return None
    return lambda codes: attack.reconstruct(WireCodes.from_format(np.ascontiguousarray(codes), fmt))
