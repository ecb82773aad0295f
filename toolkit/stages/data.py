"""Stage ``data``: pictures decoded once, labels and splits by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.arrays import create_array
from toolkit.datasets.fleet.writer import RENDERER
from toolkit.datasets.loading import load_pictures
from toolkit.datasets.records import Dataset
from toolkit.datasets.settings import DataSettings, open_dataset
from toolkit.datasets.splits import Splits, make_splits
from toolkit.preprocess import Preprocess
from toolkit.settings import RunSettings
from toolkit.stages.base import Context, Stage

PICTURES, INDEX = "pictures.npy", "index.json"
SPLITS = tuple(field.name for field in fields(Splits))


@dataclass(frozen=True)
class RunData:
    """What the stages after this one read.

    Attributes:
        pictures: uint8 (N, H, W, 3) RGB, memory-mapped.
        paths, identities, cameras: names, one per picture.
        rows: per split the rows of its pictures.
        protocol: of the test.
        root: folder of the data set, for its ground truth.
        synthetic: the pictures are rendered, so that they may be published.
    """

    pictures: NDArray[np.uint8]
    paths: tuple[str, ...]
    identities: tuple[str, ...]
    cameras: tuple[str, ...]
    rows: dict[str, NDArray[np.int64]]
    protocol: Any
    root: Path
    synthetic: bool

    @property
    def test(self) -> NDArray[np.int64]:
        """Rows of query and gallery pictures, each once, in order."""
        return np.union1d(self.rows["query"], self.rows["gallery"])

    def numbers(self, names: tuple[str, ...], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels 0..K-1 of some rows, in the sorted order of the names that occur there."""
        chosen = [names[row] for row in rows]
        order = {name: number for number, name in enumerate(sorted(set(chosen)))}
        return np.array([order[name] for name in chosen], np.int64)

    def train_identities(self) -> tuple[str, ...]:
        """Names behind the classifier's outputs."""
        return tuple(sorted({self.identities[row] for row in self.rows["train"]}))

    @classmethod
    def load(cls, context: Context) -> RunData:
        """Read the artifacts of the stage."""
        body = context.read_json("data", INDEX)
        pictures = np.load(context.run.path("data", PICTURES), mmap_mode="r", allow_pickle=False)
        return cls(
            pictures=pictures,
            paths=tuple(body["paths"]),
            identities=tuple(body["identities"]),
            cameras=tuple(body["cameras"]),
            rows={name: np.array(rows, np.int64) for name, rows in body["rows"].items()},
            protocol=body["protocol"],
            root=Path(body["root"]),
            synthetic=body["synthetic"],
        )


class DataStage(Stage):
    """Open the data set, share it out, decode what a run needs."""

    name = "data"
    version = 1
    sections = ("data", "picture")
    inputs = ()

    def run(self, context: Context) -> None:
        settings = _placed(context.settings.data, context.run.root.parent)
        dataset = open_dataset(settings)
        splits = make_splits(dataset, settings, context.settings.seed)
        preprocess = preprocess_of(context.settings)
        wanted = sorted({index for name in SPLITS for index in getattr(splits, name)})
        loaded = load_pictures(dataset, preprocess, wanted, on_error=settings.on_error)
        stored = create_array(context.folder / PICTURES, np.uint8, loaded.pictures.shape)
        stored[:] = loaded.pictures
        stored.flush()
        preprocess.save(context.folder)
        (context.folder / "splits.json").write_text(splits.to_json(dataset), encoding="utf-8")
        body = _index(dataset, splits, loaded.indices)
        body["synthetic"] = settings.kind == "fleet"
        (context.folder / INDEX).write_text(json.dumps(body) + "\n", encoding="utf-8")
        context.summary.update(
            pictures=len(loaded.indices),
            skipped=len(loaded.skipped),
            train_identities=len({dataset.records[index].identity for index in splits.train}),
            test_identities=len({dataset.records[index].identity for index in splits.test}),
        )


def preprocess_of(settings: RunSettings) -> Preprocess:
    """The run's preprocessing; normalization is the network's own."""
    picture = settings.picture
    return Preprocess(height=picture.height, width=picture.width, interpolation=picture.interpolation)


def _placed(settings: DataSettings, runs: Path) -> DataSettings:
    """The fleet is rendered once for all runs with the same fleet settings and renderer."""
    if settings.root is not None:
        return settings
    body = json.dumps([RENDERER, settings.fleet.model_dump(mode="json")], sort_keys=True)
    folder = runs / "fleets" / hashlib.sha256(body.encode()).hexdigest()[:16]
    return settings.model_copy(update={"root": folder})


def _index(dataset: Dataset, splits: Splits, kept: tuple[int, ...]) -> dict[str, Any]:
    row_of = {index: row for row, index in enumerate(kept)}
    records = [dataset.records[index] for index in kept]
    rows = {name: [row_of[index] for index in getattr(splits, name) if index in row_of] for name in SPLITS}
    return {
        "paths": [record.path for record in records],
        "identities": [record.identity for record in records],
        "cameras": [record.camera for record in records],
        "rows": rows,
        "protocol": dataset.protocol,
        "root": str(dataset.root.resolve()),
    }
