"""What is true about a fleet picture, stored beside it and loaded back for the leak metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import ValidationError

from toolkit.datasets.fleet.scene import Box, Rendered, Scene
from toolkit.datasets.records import Dataset
from toolkit.errors import DataError

FOLDER = "truth"
VERSION = 1


@dataclass(frozen=True)
class Truth:
    """Ground truth of one picture of side ``size``; boxes as in ``Rendered``.

    ``scene`` renders the picture again (up to its JPEG compression), or a counterfactual of it.
    """

    size: int
    identity: str
    camera: str
    plate_text: str
    plate_box: Box | None
    plate_corners: np.ndarray | None
    occupant_boxes: tuple[Box, ...]
    mask: np.ndarray
    scene: Scene


def truth_path(root: Path, picture: str) -> Path:
    """Where the truth of a picture (its path or name) lies; a query and its gallery copy share one."""
    return root / FOLDER / f"{PurePosixPath(picture).stem}.json"


def truth_to_json(rendered: Rendered, scene: Scene, identity: str, camera: str) -> str:
    """One picture's truth as JSON; the mask as run lengths, row by row, beginning with a run of background."""
    corners = rendered.plate_corners
    fields = {
        "version": VERSION,
        "size": rendered.picture.shape[0],
        "identity": identity,
        "camera": camera,
        "plate_text": rendered.plate_text,
        "plate_box": rendered.plate_box,
        "plate_corners": None if corners is None else np.round(corners, 2).tolist(),
        "occupant_boxes": rendered.occupant_boxes,
        "mask_runs": encode_mask(rendered.mask),
        "scene": scene.model_dump(mode="json"),
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


def load_truth(root: Path, picture: str) -> Truth:
    """The truth of one picture of the fleet in ``root``.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = truth_path(root, picture)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        size = int(stored["size"])
        corners = stored["plate_corners"]
        return Truth(
            size=size,
            identity=stored["identity"],
            camera=stored["camera"],
            plate_text=stored["plate_text"],
            plate_box=_box(stored["plate_box"]),
            plate_corners=None if corners is None else np.array(corners, np.float32).reshape(4, 2),
            occupant_boxes=tuple(box for box in map(_box, stored["occupant_boxes"]) if box is not None),
            mask=decode_mask(stored["mask_runs"], size),
            scene=Scene.model_validate(stored["scene"]),
        )
    except OSError as error:
        raise DataError(f"no ground truth for {picture} at {path}; only the synthetic fleet has it") from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"ground truth {path} is damaged; delete the fleet's folder and let it be rendered"
        ) from error


def load_truths(dataset: Dataset, indices: Sequence[int]) -> tuple[Truth, ...]:
    """The truth of these records, in order; see ``load_truth``."""
    return tuple(load_truth(dataset.root, dataset.records[i].path) for i in indices)


def encode_mask(mask: np.ndarray) -> list[int]:
    """Run lengths of a bool mask, row by row; the first run is False (and may be 0 long)."""
    flat = np.concatenate([[False], mask.ravel(), [not mask.ravel()[-1]]])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], starts])).tolist()


def decode_mask(runs: Sequence[int], size: int) -> np.ndarray:
    """Bool mask (size, size) from its run lengths.

    Raises:
        ValueError: the runs do not add up to the mask.
    """
    if sum(runs) != size * size:
        raise ValueError("mask runs do not fit the size")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size, size)


def _box(values: Sequence[int] | None) -> Box | None:
    if values is None:
        return None
    x0, y0, x1, y1 = (int(v) for v in values)
    return x0, y0, x1, y1
