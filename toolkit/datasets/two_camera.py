"""A folder of vehicles seen by two (or a few) cameras: ``{type}_{number}_cam{n}.jpg``, lists of names beside it.

The identity is the pair of type and number: numbers repeat across types. ``val.txt``, where present, is the
test fold 0; the other identities are dealt into the remaining folds, each type evenly.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from toolkit.datasets.records import Dataset, Record, make_dataset, picture_names, read_lines, require_folder
from toolkit.errors import DataError

logger = logging.getLogger(__name__)
NAME = re.compile(r"^(?P<type>[A-Za-z][A-Za-z0-9-]*)_(?P<number>\d+)_cam(?P<camera>\d+)\.[A-Za-z]+$")
FOLDS = 5
FOLD_SEED = 0
TestFold = Literal["val", 0, 1, 2, 3, 4]


def read_two_camera(
    root: Path, test_fold: TestFold = "val", on_error: Literal["refuse", "skip"] = "refuse"
) -> Dataset:
    """Read the folder with one of its five identity folds as test.

    Pictures lie in ``images/train``, ``images`` or the folder itself. With ``train.txt``/``val.txt`` only the
    listed pictures are used.

    Args:
        root: the folder.
        test_fold: ``val`` (the identities of ``val.txt``; the same as 0 when the file exists) or 0..4.
        on_error: what to do with a listed picture that is not there.

    Raises:
        DataError: no pictures, a name that does not follow the pattern, a listed picture missing, an identity
            in both lists, no ``val.txt`` for the fold ``val``, or no vehicle seen by two cameras.
    """
    require_folder(root, "data set folder")
    folder = _picture_folder(root)
    listed = _listed(root, folder, on_error)
    files = listed if listed is not None else picture_names(folder)
    parsed = {file: _parse(folder, file) for file in files}
    types = {identity: kind for identity, kind, _ in parsed.values()}
    held_out = _held_out(root, parsed)
    test = assign_folds(types, held_out)
    if test_fold == "val" and not held_out:
        raise DataError(
            f"{root} has no val.txt for the test fold 'val'; set data.test_fold to a number 0..{FOLDS - 1}"
        )
    fold = 0 if test_fold == "val" else int(test_fold)
    prefix = folder.relative_to(root).as_posix()
    records = [
        Record(
            path=file if prefix == "." else f"{prefix}/{file}",
            identity=identity,
            camera=camera,
            role="query" if test[identity] == fold else "train",
            attributes={"type": kind, "fold": str(test[identity])},
        )
        for file, (identity, kind, camera) in parsed.items()
    ]
    dataset = make_dataset("two_camera", root, records, "two_camera")
    _warn_of_single_views(dataset)
    return dataset


def assign_folds(types: dict[str, str], held_out: Iterable[str] = ()) -> dict[str, int]:
    """Deal identities into folds, each type evenly.

    Args:
        types: type of each identity.
        held_out: identities that are fold 0 as given (``val.txt``); when empty, all folds are dealt.

    Returns:
        The fold of each identity. It depends on the names alone, never on a run's seed.
    """
    fixed = set(held_out)
    first = 1 if fixed else 0
    folds = dict.fromkeys(sorted(fixed), 0)
    by_type: dict[str, list[str]] = defaultdict(list)
    for identity in sorted(set(types) - fixed):
        by_type[types[identity]].append(identity)
    dealt = 0  # carried on from type to type, so that small types do not all land in the first fold
    for number, kind in enumerate(sorted(by_type)):
        shuffled = np.random.default_rng([FOLD_SEED, number]).permutation(len(by_type[kind]))
        for position in shuffled:
            folds[by_type[kind][position]] = first + dealt % (FOLDS - first)
            dealt += 1
    return folds


def _picture_folder(root: Path) -> Path:
    for folder in (root / "images" / "train", root / "images", root):
        if folder.is_dir() and picture_names(folder):
            return folder
    raise DataError(f"{root} holds no pictures (looked in images/train, images and the folder itself)")


def _listed(root: Path, folder: Path, on_error: str) -> list[str] | None:
    """Names in the lists, or None without lists."""
    lists = [root / name for name in ("train.txt", "val.txt") if (root / name).exists()]
    if not lists:
        return None
    present = set(picture_names(folder))
    names = [Path(line).name for path in lists for line in read_lines(path, "list")]
    missing = [name for name in names if name not in present]
    if missing and on_error == "refuse":
        raise DataError(
            f"{len(missing)} listed pictures are not in {folder} (first: {missing[0]}); "
            "restore them or set data.on_error: skip"
        )
    if missing:
        logger.warning("%d listed pictures are not in %s and are skipped", len(missing), folder)
    return [name for name in names if name in present]


def _held_out(root: Path, parsed: dict[str, tuple[str, str, str]]) -> set[str]:
    """Identities of ``val.txt``; none may occur in ``train.txt``."""
    groups = {}
    for name in ("train.txt", "val.txt"):
        path = root / name
        lines = read_lines(path, "list") if path.exists() else []
        groups[name] = {parsed[Path(line).name][0] for line in lines if Path(line).name in parsed}
    shared = sorted(groups["train.txt"] & groups["val.txt"])
    if shared:
        raise DataError(
            f"{root}: {shared[0]} and {len(shared) - 1} more are in train.txt and in val.txt; keep one"
        )
    return groups["val.txt"]


def _parse(folder: Path, file: str) -> tuple[str, str, str]:
    match = NAME.match(file)
    if match is None:
        raise DataError(f"{folder / file} does not follow the naming type_number_camN.jpg; rename or remove it")
    return f"{match['type']}_{match['number']}", match["type"], f"cam{match['camera']}"


def _warn_of_single_views(dataset: Dataset) -> None:
    cameras: dict[str, set[str]] = defaultdict(set)
    for record in dataset.records:
        cameras[record.identity].add(record.camera)
    single = sum(len(seen) < 2 for seen in cameras.values())
    if single == len(cameras):
        raise DataError(f"{dataset.root}: no vehicle is seen by two cameras; nothing can be re-identified")
    if single:
        logger.warning("%d of %d vehicles are seen by one camera only and cannot be queried", single, len(cameras))
