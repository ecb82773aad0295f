"""Crops of number plates, in the originals and in what each attacker rebuilt, large enough to judge by eye."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.stages.base import Context
from toolkit.stages.data import RunData
from toolkit.variants import Variant

HEIGHT, WIDTH = 60, 150
MARGIN = 0.3  # of the plate's sides, on each side
MOST = 6  # columns
LEAST = 4  # pixels of a plate's width; a smaller one shows nothing even in the original

Box = tuple[int, int, int, int]


def plate_grid(context: Context, data: RunData, attacks: dict[str, Any]) -> Any:
    """The plates of the pictures that were kept; None for data that has no ground truth of plates."""
    from toolkit.reporting.input import PictureGrid, PictureRow

    if not data.synthetic:
        return None
    first = next(iter(attacks.values()))
    boxes = _boxes(data, first.shown)
    if not boxes:
        return None
    rows = []
    for key, result in attacks.items():
        variant = Variant.from_key(key)
        for attacker in result.attackers:
            if attacker.label in result.reconstructions:
                title = f"{variant.network} {variant.precision.upper()}, {attacker.label}"
                rows.append(PictureRow(title, _crops(result.reconstructions[attacker.label], boxes)))
    originals = _crops(first.reconstructions["original"], boxes)
    note = (
        f"Plates of test pictures that are {context.settings.picture.width} pixels wide; pixels are not smoothed."
    )
    return PictureGrid(originals, tuple(rows), note=note)


def _boxes(data: RunData, shown: tuple[int, ...]) -> dict[int, Box]:
    """Place among the kept pictures -> box of the plate in pixels."""
    from toolkit.datasets.fleet import load_truth

    # The suite scores each test picture once; in VeRi's protocol those are the gallery's.
    rows = np.unique(data.rows["gallery"]) if data.protocol == "veri" else data.test
    height, width = data.pictures.shape[1:3]
    found = {}
    for place, position in enumerate(shown):
        truth = load_truth(data.root, data.paths[rows[position]])
        if truth.plate_box is None:
            continue
        x0, y0, x1, y1 = (value / truth.size for value in truth.plate_box)
        if (x1 - x0) * width < LEAST:
            continue
        dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
        left, right = max(0, int((x0 - dx) * width)), min(width, int(np.ceil((x1 + dx) * width)))
        top, bottom = max(0, int((y0 - dy) * height)), min(height, int(np.ceil((y1 + dy) * height)))
        found[place] = (left, top, right, bottom)
        if len(found) == MOST:
            break
    return found


def _crops(pictures: NDArray[np.uint8], boxes: dict[int, Box]) -> NDArray[np.uint8]:
    """(n, HEIGHT, WIDTH, 3); pixels are enlarged as they are, nothing is smoothed."""
    crops = [
        cv2.resize(pictures[place][y0:y1, x0:x1], (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        for place, (x0, y0, x1, y1) in boxes.items()
    ]
    return np.stack(crops)
