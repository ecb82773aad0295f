"""What a data set is to the rest of the toolkit: a root folder, pictures with labels, and a test protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from toolkit.errors import DataError

Protocol = Literal["veri", "vehicleid", "veriwild", "two_camera"]
Role = Literal["train", "query", "gallery"]
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True)
class Record:
    """One picture.

    ``path`` is relative to the data set's root, with forward slashes. ``attributes`` holds what the labels
    say beyond identity and camera, for example ``type`` and ``colour``.
    """

    path: str
    identity: str
    camera: str
    role: Role
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Pictures in a fixed order (sorted by role, then path), so that indices mean the same on every machine.

    In the protocols ``vehicleid`` and ``two_camera`` a test picture serves as query and as gallery, so test
    records carry the role ``query`` and no record is ``gallery``.
    """

    name: str
    root: Path
    records: tuple[Record, ...]
    protocol: Protocol

    def path_of(self, index: int) -> Path:
        """Absolute or root-relative path of a record, ready to open."""
        return self.root / self.records[index].path

    def indices_of(self, *roles: Role) -> tuple[int, ...]:
        """Indices of the records with one of these roles, in order."""
        return tuple(i for i, record in enumerate(self.records) if record.role in roles)


@dataclass(frozen=True)
class Labels:
    """Integer labels of some records: ``identities`` and ``cameras`` int64 (n,), with the names they stand for."""

    identities: np.ndarray
    cameras: np.ndarray
    identity_names: tuple[str, ...]
    camera_names: tuple[str, ...]


def labels_of(dataset: Dataset, indices: Sequence[int], *, among: Sequence[int] | None = None) -> Labels:
    """Number identities and cameras 0..K-1 in the sorted order of their names.

    Args:
        dataset: where the records are.
        indices: the records to label.
        among: the records whose names are numbered (default: ``indices``). Pass the union of query and
            gallery to number both alike.

    Raises:
        DataError: a record of ``indices`` has a name that does not occur in ``among``.
    """
    pool = [dataset.records[i] for i in (indices if among is None else among)]
    identity_names = tuple(sorted({record.identity for record in pool}))
    camera_names = tuple(sorted({record.camera for record in pool}))
    identity_numbers = {name: number for number, name in enumerate(identity_names)}
    camera_numbers = {name: number for number, name in enumerate(camera_names)}
    records = [dataset.records[i] for i in indices]
    try:
        identities = np.array([identity_numbers[record.identity] for record in records], np.int64)
        cameras = np.array([camera_numbers[record.camera] for record in records], np.int64)
    except KeyError as error:
        raise DataError(f"{error.args[0]!r} does not occur among the records that give the labels") from error
    return Labels(identities, cameras, identity_names, camera_names)


def make_dataset(name: str, root: Path, records: Iterable[Record], protocol: Protocol) -> Dataset:
    """Sort the records and refuse a data set that cannot train or be tested.

    Raises:
        DataError: empty; fewer than two identities to train on or to test with; one camera only; an identity
            both in training and in test; a path twice.
    """
    order = {"train": 0, "query": 1, "gallery": 2}
    ordered = tuple(sorted(records, key=lambda record: (order[record.role], record.path)))
    dataset = Dataset(name, root, ordered, protocol)
    _refuse_useless(dataset)
    return dataset


def _refuse_useless(dataset: Dataset) -> None:
    label = f"data set {dataset.name} in {dataset.root}"
    if not dataset.records:
        raise DataError(f"{label} has no pictures; check the folder and the layout in docs/architecture.md")
    paths = [record.path for record in dataset.records]
    if len(set(paths)) != len(paths):
        twice = next(a for a, b in zip(sorted(paths), sorted(paths)[1:], strict=False) if a == b)
        raise DataError(f"{label} lists {twice} twice; remove one of the entries")
    train = {record.identity for record in dataset.records if record.role == "train"}
    test = {record.identity for record in dataset.records if record.role != "train"}
    for part, identities in (("training", train), ("test", test)):
        if len(identities) < 2:
            raise DataError(
                f"{label} has {len(identities)} identity in its {part} part; re-identification needs at least 2"
            )
    shared = sorted(train & test)
    if shared:
        raise DataError(
            f"{label}: {len(shared)} identities are both in training and in test (first: {shared[0]}); "
            "move each identity to one side"
        )
    if dataset.protocol != "vehicleid" and len({record.camera for record in dataset.records}) < 2:
        raise DataError(f"{label} has pictures of one camera only; re-identification needs at least two cameras")
    if dataset.protocol in ("veri", "veriwild") and not dataset.indices_of("gallery"):
        raise DataError(f"{label} has no gallery pictures; check the test folder or list")
    if not dataset.indices_of("query"):
        raise DataError(f"{label} has no query pictures; check the query folder or list")


def require_folder(path: Path, what: str) -> Path:
    """``path`` if it is a folder.

    Raises:
        DataError: it is missing or a file.
    """
    if not path.is_dir():
        state = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"{what} {path} {state}; check data.root and data.kind")
    return path


def read_lines(path: Path, what: str) -> list[str]:
    """Non-empty lines of a list file, stripped; a last line without newline counts.

    Raises:
        DataError: the file is missing or unreadable.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(
            f"{what} {path} cannot be read ({error.strerror}); check data.root and data.kind"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def picture_names(folder: Path) -> list[str]:
    """Sorted names of the files in ``folder`` that look like pictures by their suffix."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )
