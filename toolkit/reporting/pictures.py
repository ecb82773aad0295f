"""Picture grids as inline images with the scores under each picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.reporting import numbers
from toolkit.reporting.input import PictureGrid

LOSSLESS_SIDE = 96
"""Pictures up to this height and width are stored without loss; larger ones as JPEG of high quality."""
JPEG_QUALITY = 92
ROOM = 850
"""CSS pixels beside the row titles on a wide screen."""


@dataclass(frozen=True)
class Shown:
    """One picture: where its data are, what it is, what is written under it."""

    source: str
    alt: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class ShownRow:
    """One row of the grid."""

    title: str
    mean: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class ShownGrid:
    """A grid that is ready to be written; ``left_out`` pictures did not fit into the file, widths in pixels."""

    rows: tuple[ShownRow, ...]
    width: int
    height: int
    shown_width: int
    left_out: int


def data_uri(picture: NDArray[np.uint8]) -> str:
    """A picture, uint8 (H, W, 3) RGB, as the text of an ``src`` attribute."""
    small = max(picture.shape[:2]) <= LOSSLESS_SIDE
    options = [] if small else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(".png" if small else ".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    assert done
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def show_grid(grid: PictureGrid, budget: int, what: str = "Picture") -> ShownGrid:
    """The first pictures of a grid whose data fit into ``budget`` bytes, always at least one."""
    columns: list[list[Shown]] = []
    used = 0
    for index in range(len(grid.originals)):
        column = _column(grid, index, what)
        used += sum(len(shown.source) for shown in column)
        if columns and used > budget:
            break
        columns.append(column)
    titles = ["original", *(row.title for row in grid.rows)]
    means = ["", *(_means(row.scores, len(columns)) for row in grid.rows)]
    rows = tuple(
        ShownRow(title, mean, tuple(column[index] for column in columns))
        for index, (title, mean) in enumerate(zip(titles, means, strict=True))
    )
    height, width = grid.originals.shape[1:3]
    return ShownGrid(rows, width, height, _shown_width(width, len(columns)), len(grid.originals) - len(columns))


def _shown_width(width: int, columns: int) -> int:
    """CSS pixels of a picture: all columns side by side on a wide screen, but never hard to see."""
    smallest = min(max(width, 96), 140)
    return max(smallest, min(ROOM // columns - 8, 220))


def _column(grid: PictureGrid, index: int, what: str) -> list[Shown]:
    caption = grid.captions[index] if grid.captions else ""
    name = f"{what} {index + 1}" + (f", {caption}" if caption else "")
    column = [Shown(data_uri(grid.originals[index]), f"{name}: original", (caption,) if caption else ())]
    for row in grid.rows:
        scores = [f"{score}{numbers.THIN}{numbers.text(values[index])}" for score, values in row.scores.items()]
        alt = f"{name}: reconstruction, {row.title}" + (f", {', '.join(scores)}" if scores else "")
        column.append(Shown(data_uri(row.pictures[index]), alt, tuple(scores)))
    return column


def _means(scores: Mapping[str, Sequence[float]], shown: int) -> str:
    means = [
        f"{name}{numbers.THIN}{numbers.text(float(np.mean(values[:shown])))}" for name, values in scores.items()
    ]
    return f"mean of these {shown}: {', '.join(means)}" if means else ""
