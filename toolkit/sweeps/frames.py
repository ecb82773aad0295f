"""Several frames of one scene, for the wires of a sweep that draw noise or dropout anew for every frame."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from toolkit.errors import ArtifactError
from toolkit.privacy.anchors import Anchors
from toolkit.privacy.attacks.frames import always_alike, ways_to_join
from toolkit.privacy.codes import WireCodes, encode_once
from toolkit.privacy.settings import AttackSettings
from toolkit.privacy.suite import AttackData, attack_variant
from toolkit.runs import write_atomic
from toolkit.wire.codes import WireFormat

FRAMES = "frames.json"
SAMPLE, BATCH = 16, 64
Scores = dict[int, dict[str, float]]


def measure_frames(
    source: AttackData, fmt: WireFormat, settings: AttackSettings, anchors: Anchors, folder: Path, work: Path
) -> None:
    """Attack every number of frames that the settings ask for, averaged and decoded jointly; ``frames.json``.

    The stronger of the two ways counts. Nothing is written for a wire whose frames are all alike: there, more of
    them change nothing.

    Args:
        source: the job's codes of one frame; its ``encode`` draws anew at every call.
        fmt: of the wire.
        settings: of the attackers; ``frames`` says how many.
        anchors: of the sweep.
        folder: of the job.
        work: for checkpoints.
    """
    counts = [count for count in settings.frames if count > 1]
    send = source.encode
    if not counts or send is None:
        return
    sample = np.asarray(source.pictures[source.test[:SAMPLE]])
    if always_alike(send, sample):
        return
    found: Scores = {}
    for count in counts:
        scores = {"ssim": -np.inf, "r2": -np.inf}
        for way, (encode, form) in ways_to_join(send, count, fmt).items():
            own = work / f"frames-{count}-{way}"
            codes = encode_once(source.pictures, encode, own / "codes.npy", BATCH)
            joined = replace(source, codes=WireCodes.from_format(codes, form), encode=encode)
            result = attack_variant(joined, settings, own, f"{count} frames, {way}", anchors)
            scores["ssim"] = max(scores["ssim"], float(result.normalized_ssim.value))
            scores["r2"] = max(scores["r2"], float(result.r2.value))
        found[count] = scores
    write_atomic(folder / FRAMES, json.dumps(found) + "\n")


def load_frames(path: Path) -> Scores:
    """Read ``frames.json``: frames -> ``ssim`` (normalized) and ``r2``.

    Raises:
        ArtifactError: it is not what :func:`measure_frames` wrote.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return {
            int(count): {name: float(scores[name]) for name in ("ssim", "r2")} for count, scores in body.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete its job and run the sweep again") from error
