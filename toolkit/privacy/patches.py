"""Where sensitive content lies, cut out of pictures and of codes alike, so that one recogniser reads both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from toolkit.datasets.fleet.plate import CELL_H, CELL_W, DIGITS, LETTERS, MARGIN
from toolkit.errors import AttackError
from toolkit.privacy.codes import Floats, Indices, Pictures, WireCodes

CHARACTERS = LETTERS + DIGITS
CONTEXT = 0.35
Quads = npt.NDArray[np.float64]
Reader = Callable[[Indices], Floats]


class TruthLike(Protocol):
    """What is needed of ``toolkit.datasets.fleet.Truth``."""

    @property
    def plate_text(self) -> str: ...
    @property
    def plate_corners(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def occupant_boxes(self) -> Sequence[Sequence[int]]: ...
    @property
    def mask(self) -> npt.NDArray[np.bool_]: ...


@dataclass(frozen=True)
class Regions:
    """Labelled quadrilaterals of pictures.

    Attributes:
        rows: the picture of each region.
        quads: ``(M, 4, 2)`` corners in [0, 1] of the picture's sides (x, y), clockwise from the top left.
        labels: class of each region.
        classes: number of classes.
    """

    rows: Indices
    quads: Quads
    labels: Indices
    classes: int


def plate_characters(truths: Sequence[TruthLike], rows: Sequence[int], least_width: float = 24.0) -> Regions:
    """One region a plate character, straightened by the known corners: the adversary is told where the plate is.

    Args:
        truths: of the pictures in ``rows``.
        rows: of the pictures.
        least_width: plates narrower than this many pixels are left out, as nobody could read them.
    """
    quads, labels, owners = [], [], []
    for row, truth in zip(rows, truths, strict=True):
        corners, size = truth.plate_corners, truth.mask.shape
        if corners is None or not truth.plate_text or np.linalg.norm(corners[1] - corners[0]) < least_width:
            continue
        unit = (np.asarray(corners, np.float64) + 0.5) / (size[1], size[0])
        if unit.min() < 0 or unit.max() > 1:
            continue
        for place, letter in enumerate(truth.plate_text):
            quads.append(_inside(unit, _cell(place, len(truth.plate_text))))
            labels.append(CHARACTERS.index(letter))
            owners.append(row)
    return _regions(quads, labels, owners, len(CHARACTERS))


def occupant_counts(truths: Sequence[TruthLike], rows: Sequence[int], most: int = 2) -> Regions:
    """One region a picture, the vehicle's bounding box; the class is how many occupants are seen (<= ``most``)."""
    labels = [min(most, len(truth.occupant_boxes)) for truth in truths]
    return _regions([_bounding_box(truth.mask) for truth in truths], labels, list(rows), most + 1)


def whole_pictures(values: Sequence[str], rows: Sequence[int]) -> Regions:
    """One region a picture, all of it; the classes are the distinct values (colour, type, camera, ...)."""
    names = sorted(set(values))
    full = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    return _regions([full] * len(values), [names.index(v) for v in values], list(rows), len(names))


def picture_reader(pictures: Pictures) -> Reader:
    """Pictures as maps ``(n, 3, H, W)`` in [0, 1]."""
    return lambda rows: pictures[rows].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def code_reader(codes: WireCodes) -> Reader:
    """Dequantized codes as maps ``(n, C, h, w)``."""
    return codes.features


def cut_out(read: Reader, regions: Regions, positions: Indices, size: tuple[int, int]) -> Floats:
    """Regions resampled to one size ``(n, C, *size)``, bilinear, by the perspective of their corners."""
    rows, where = np.unique(regions.rows[positions], return_inverse=True)
    maps = torch.from_numpy(read(rows))
    grids = np.stack([_grid(regions.quads[i], size) for i in positions])
    taken = F.grid_sample(maps[where], torch.from_numpy(grids), align_corners=False, padding_mode="border")
    out: Floats = taken.numpy()
    return out


def _grid(quad: Quads, size: tuple[int, int]) -> Floats:
    """Sampling places in [-1, 1] ``(h, w, 2)`` of a quadrilateral."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, quad.astype(np.float32))
    y, x = ((np.arange(n) + 0.5) / n for n in size)
    places = np.stack([*np.meshgrid(x, y), np.ones(size)], axis=-1) @ matrix.T
    return (places[..., :2] / places[..., 2:] * 2 - 1).astype(np.float32)


def _cell(place: int, count: int) -> tuple[float, float, float, float]:
    """A character's place on the plate (left, top, right, bottom in [0, 1]) with some context."""
    cells = max(count, 6)
    width, height = cells * CELL_W + 2 * MARGIN + 8, CELL_H + 2 * MARGIN
    left = MARGIN + 4 + (cells - count) * CELL_W // 2 + place * CELL_W
    return (
        (left - CONTEXT * CELL_W) / width,
        0.0,
        (left + (1 + CONTEXT) * CELL_W) / width,
        (MARGIN + CELL_H + MARGIN) / height,
    )


def _inside(quad: Quads, box: tuple[float, float, float, float]) -> Quads:
    """The part ``box`` of a quadrilateral."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, quad.astype(np.float32))
    left, top, right, bottom = box
    points = np.array([(left, top, 1), (right, top, 1), (right, bottom, 1), (left, bottom, 1)]) @ matrix.T
    inside: Quads = (points[:, :2] / points[:, 2:]).astype(np.float64)
    return inside


def _bounding_box(mask: npt.NDArray[np.bool_]) -> Quads:
    y, x = np.nonzero(mask)
    if not len(x):
        return np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    left, right, top, bottom = x.min(), x.max() + 1, y.min(), y.max() + 1
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    unit: Quads = corners / (mask.shape[1], mask.shape[0])
    return unit


def _regions(quads: Sequence[Quads], labels: Sequence[int], rows: Sequence[int], classes: int) -> Regions:
    if not quads:
        raise AttackError("no picture shows this content large enough to be read; use larger pictures")
    return Regions(np.asarray(rows, np.int64), np.stack(quads), np.asarray(labels, np.int64), classes)
