"""Pictures of the synthetic fleet for an attacker to pre-train on, whatever the target's own data is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from toolkit.datasets.fleet import FleetSettings, draw_scene, render
from toolkit.errors import AttackError
from toolkit.preprocess import Preprocess, resize
from toolkit.privacy.codes import Array, Pictures, WireCodes, encode_once
from toolkit.privacy.pairs import Pairs, Part
from toolkit.progress import track
from toolkit.wire import WireFormat

SEED = 90_001  # no run's own fleet: its test vehicles must stay unseen
VIEWS_EACH = 4


def synthetic_pictures(count: int, preprocess: Preprocess, seed: int = 0) -> Pictures:
    """``(count, H, W, 3)`` uint8 of vehicles that belong to no run's fleet; plates and occupants are drawn anew.

    Raises:
        AttackError: fewer than one picture.
    """
    if count < 1:
        raise AttackError(f"pre-training needs at least one picture, not {count}")
    side = int(np.clip(max(preprocess.height, preprocess.width), 64, 256))
    identities = -(-count // VIEWS_EACH)
    fleet = FleetSettings(
        seed=SEED + seed, size=side, identities_train=max(2, identities), plate="per_picture", views="mixed"
    )
    out = np.empty((count, preprocess.height, preprocess.width, 3), np.uint8)
    for number in track(range(count), "rendering vehicles to pre-train on"):
        identity, picture = divmod(number, VIEWS_EACH)
        scene = draw_scene(fleet, identity, picture, picture % fleet.cameras)
        out[number] = resize(render(scene, side).picture, preprocess)
    return out


def synthetic_pairs(
    count: int,
    preprocess: Preprocess,
    encode: Callable[[Pictures], Array],
    fmt: WireFormat | None,
    folder: Path,
    shared: Path,
    seed: int = 0,
) -> Pairs:
    """Such pictures with the codes of one variant.

    Args:
        count: pictures.
        preprocess: of the run.
        encode: the variant's edge half.
        fmt: of its wire; None for floats.
        folder: where the codes are kept.
        shared: file of the pictures, rendered once for all variants.
        seed: of the vehicles.
    """
    if not shared.exists():
        partial = shared.with_suffix(".partial.npy")
        np.save(partial, synthetic_pictures(count, preprocess, seed), allow_pickle=False)
        partial.replace(shared)
    pictures = np.load(shared, mmap_mode="r", allow_pickle=False)
    codes = encode_once(pictures, encode, folder / "synthetic_codes.npy")
    step = fmt.step if fmt else 1.0
    return Pairs([Part(WireCodes(codes, step), pictures, np.arange(len(pictures)))])
