"""Who may see which picture: training, calibration, attacker, test."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from toolkit.datasets.records import Dataset
from toolkit.datasets.settings import DataSettings
from toolkit.errors import DataError

VERSION = 1


@dataclass(frozen=True)
class Splits:
    """Tuples of indices into ``Dataset.records``.

    No identity is on both sides of training and test. ``calibration`` is a part of ``train``.
    ``attacker_train`` and ``attacker_validation`` together are all pictures that are not test, without a
    common identity. A picture may be in ``query`` and in ``gallery``.
    """

    train: tuple[int, ...]
    calibration: tuple[int, ...]
    attacker_train: tuple[int, ...]
    attacker_validation: tuple[int, ...]
    query: tuple[int, ...]
    gallery: tuple[int, ...]

    @property
    def test(self) -> tuple[int, ...]:
        """Query and gallery pictures, each once, in order."""
        return tuple(sorted({*self.query, *self.gallery}))

    def to_json(self, dataset: Dataset) -> str:
        """The splits by name (paths relative to the data set's root)."""
        names = {part.name: [dataset.records[i].path for i in getattr(self, part.name)] for part in fields(self)}
        return json.dumps({"version": VERSION, "dataset": dataset.name, **names}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, dataset: Dataset) -> Splits:
        """Read what ``to_json`` wrote.

        Raises:
            DataError: not such a file, another data set, or a picture that the data set no longer has.
        """
        try:
            stored = json.loads(text)
            version, name = stored["version"], stored["dataset"]
            parts = {part.name: stored[part.name] for part in fields(cls)}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"this is not a file of splits ({error}); delete it and split again") from error
        if version != VERSION or name != dataset.name:
            raise DataError(
                f"splits of data set {name} (version {version}) do not fit {dataset.name}; split again"
            )
        index_of = {record.path: i for i, record in enumerate(dataset.records)}
        try:
            return cls(**{part: tuple(index_of[path] for path in paths) for part, paths in parts.items()})
        except KeyError as error:
            raise DataError(
                f"the splits name {error.args[0]}, which is not in {dataset.root}; restore it or split again"
            ) from error


def make_splits(dataset: Dataset, settings: DataSettings, seed: int) -> Splits:
    """Share out the pictures of ``dataset``.

    The test side is the data set's own (for ``two_camera``: the fold it was opened with). The calibration
    pictures and the attacker's two parts depend on ``seed``.

    Raises:
        DataError: fewer than two identities remain outside the test.
    """
    train = dataset.indices_of("train")
    query = dataset.indices_of("query")
    pooled = dataset.protocol in ("two_camera", "vehicleid")
    validation = _pick_identities(dataset, train, settings.splits.attacker_validation, seed)
    return Splits(
        train=train,
        calibration=_balanced(dataset, train, settings.splits.calibration_pictures, seed),
        attacker_train=tuple(i for i in train if dataset.records[i].identity not in validation),
        attacker_validation=tuple(i for i in train if dataset.records[i].identity in validation),
        query=query,
        gallery=query if pooled else dataset.indices_of("gallery"),
    )


def _pick_identities(dataset: Dataset, indices: Sequence[int], fraction: float, seed: int) -> set[str]:
    """A part of the identities, at least one and at most all but one."""
    names = sorted({dataset.records[i].identity for i in indices})
    if len(names) < 2:
        raise DataError(
            f"data set {dataset.name} has {len(names)} identity outside its test; at least 2 are needed"
        )
    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    chosen = np.random.default_rng([seed, 1]).permutation(len(names))[:count]
    return {names[i] for i in chosen}


def _balanced(dataset: Dataset, indices: Sequence[int], count: int, seed: int) -> tuple[int, ...]:
    """``count`` pictures taken in turns over identities, and within an identity over cameras."""
    rng = np.random.default_rng([seed, 2])
    waiting: dict[str, dict[str, deque[int]]] = defaultdict(lambda: defaultdict(deque))
    for i in rng.permutation(np.asarray(indices, np.int64)):
        record = dataset.records[i]
        waiting[record.identity][record.camera].append(int(i))
    names = sorted(waiting)
    queues = deque(_in_turns(waiting[names[i]], rng) for i in rng.permutation(len(names)))
    chosen: list[int] = []
    while queues and len(chosen) < count:
        queue = queues.popleft()
        chosen.append(queue.popleft())
        if queue:
            queues.append(queue)
    return tuple(sorted(chosen))


def _in_turns(by_camera: dict[str, deque[int]], rng: np.random.Generator) -> deque[int]:
    """One picture of each camera in turn, beginning with a random camera."""
    cameras = sorted(by_camera)
    order = deque(by_camera[cameras[i]] for i in rng.permutation(len(cameras)))
    result: deque[int] = deque()
    while order:
        pictures = order.popleft()
        result.append(pictures.popleft())
        if pictures:
            order.append(pictures)
    return result
