"""Training pictures whose sensitive content is another: the same scene, other plate, occupants and background."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.datasets.fleet.render import render
from toolkit.datasets.fleet.scene import Background, Scene
from toolkit.datasets.fleet.truth import load_truth
from toolkit.datasets.fleet.writer import FILE_NAME
from toolkit.preprocess import Preprocess, resize
from toolkit.progress import track

FOLDER = "counterfactuals"
DIGITS = "0123456789"
SEATS = 4


def changed(scene: Scene, seed: int) -> Scene:
    """The scene with every digit of its plate, its occupants and its place drawn anew."""
    generator = np.random.default_rng(seed)
    text = "".join(str(generator.integers(10)) if sign in DIGITS else sign for sign in scene.plate.text)
    background = Background(kind=scene.background.kind, seed=int(generator.integers(2**31)))
    crew = scene.occupants[:1]
    if crew:
        seats = [seat for seat in range(1, SEATS) if generator.random() < 0.5]
        crew = (*crew, *(crew[0].model_copy(update={"seat": seat}) for seat in seats))
        if crew == scene.occupants:
            crew = ()
    return scene.with_plate(text).with_occupants(crew).with_background(background)


def counterfactuals(root: Path, paths: Sequence[str], preprocess: Preprocess, seed: int = 0) -> NDArray[np.uint8]:
    """One counterfactual of every picture, rendered once and kept beside the fleet.

    Args:
        root: of the fleet.
        paths: of the pictures, relative to it.
        preprocess: of the run.
        seed: of what is drawn.

    Returns:
        uint8 (N, H, W, 3), in the order of ``paths``; compressed as the fleet's pictures are.

    Raises:
        DataError: a picture has no truth beside it.
    """
    body = json.dumps([list(paths), preprocess.model_dump(mode="json"), seed])
    kept = root / FOLDER / f"{hashlib.sha256(body.encode()).hexdigest()[:16]}.npy"
    if not kept.exists():
        numbered = track(list(enumerate(paths)), "rendering counterfactuals")
        quality = int(json.loads((root / FILE_NAME).read_text(encoding="utf-8"))["settings"]["jpeg_quality"])
        made = [_render(root, path, preprocess, quality, seed * len(paths) + number) for number, path in numbered]
        kept.parent.mkdir(exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, np.stack(made), allow_pickle=False)
        temporary.replace(kept)
    found: NDArray[np.uint8] = np.load(kept, allow_pickle=False)
    return found


def _render(root: Path, path: str, preprocess: Preprocess, quality: int, seed: int) -> NDArray[np.uint8]:
    truth = load_truth(root, path)
    picture = render(changed(truth.scene, seed), truth.size).picture
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return resize(np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8), preprocess)
