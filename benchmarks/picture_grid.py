"""The picture grid of a finished run on the synthetic fleet as one PNG, for the README.

    python -m benchmarks.picture_grid runs/demo --out docs/images/demo.png

Rows: the originals, and what the strongest attacker rebuilds from each variant's codes. Pictures of real roads
are refused: they may show people and plates.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.privacy.result import AttackResult
from toolkit.variants import Variant

SCALE, MARGIN, LABEL, LINE = 2, 6, 190, 20
BLACK, GREY = (20, 20, 20), (110, 110, 110)


def main() -> None:
    """Read a run's attack results and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=8)
    options = parser.parse_args()
    index = json.loads((options.run / "data" / "index.json").read_text(encoding="utf-8"))
    if not index["synthetic"]:
        raise SystemExit(f"{options.run} shows real pictures; only grids of the synthetic fleet are published")
    variants = json.loads((options.run / "build" / "variants.json").read_text(encoding="utf-8"))["variants"]
    rows = []
    for row in variants:
        if row["runs"]:
            result = AttackResult.load(options.run / "attack" / row["key"])
            if not rows:
                rows.append(row("original", "", result.reconstructions["original"][: options.pictures]))
            best = max(result.attackers, key=lambda attacker: float(np.mean(attacker.ssim)))
            title = f"{Variant.from_key(row['key']).network} {row['precision'].upper()}"
            note = f"{best.label}: SSIM {np.mean(best.ssim):.3f}"
            rows.append(row(title, note, result.reconstructions[best.label][: options.pictures]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.out), np.concatenate(rows)[:, :, ::-1])


def row(title: str, note: str, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One row: its name and its pictures, RGB."""
    height, width = (side * SCALE for side in pictures.shape[1:3])
    canvas = np.full((height + MARGIN, LABEL + len(pictures) * (width + MARGIN), 3), 255, np.uint8)
    cv2.putText(canvas, title, (8, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.6, BLACK, 1, cv2.LINE_AA)
    cv2.putText(canvas, note, (8, height // 2 + LINE), cv2.FONT_HERSHEY_SIMPLEX, 0.42, GREY, 1, cv2.LINE_AA)
    for place, picture in enumerate(pictures):
        left = LABEL + place * (width + MARGIN)
        canvas[:height, left : left + width] = cv2.resize(
            picture, (width, height), interpolation=cv2.INTER_NEAREST
        )
    return canvas


if __name__ == "__main__":
    main()
