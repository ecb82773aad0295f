"""Which gallery pictures count for which query: the rules of the evaluation protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.datasets.records import Protocol
from toolkit.errors import DataError

LabelList = Sequence[int] | Sequence[str] | np.ndarray


@dataclass(frozen=True)
class Labels:
    """Who and where: one entry per picture.

    Attributes:
        identities: ``(N,)`` integers, the same numbering for queries and gallery.
        cameras: ``(N,)`` integers, likewise.
        pictures: ``(N,)`` integers that name the picture, -1 where unknown.
        groups: ``(N,)`` integers; a query searches within its own group (all zero: everywhere).
    """

    identities: np.ndarray
    cameras: np.ndarray
    pictures: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.identities)

    def take(self, indices: np.ndarray) -> Labels:
        """The entries at ``indices``."""
        return Labels(
            self.identities[indices], self.cameras[indices], self.pictures[indices], self.groups[indices]
        )


def pair_labels(
    counts: tuple[int, ...],
    *,
    identities: tuple[LabelList, LabelList],
    cameras: tuple[LabelList, LabelList],
    pictures: tuple[LabelList | None, LabelList | None] = (None, None),
    groups: tuple[LabelList | None, LabelList | None] = (None, None),
) -> tuple[Labels, Labels]:
    """Number the labels of queries and gallery alike.

    Args:
        counts: pictures in queries and gallery.
        identities, cameras: labels (queries, gallery), integers or strings.
        pictures, groups: likewise, or a pair of None.

    Raises:
        DataError: a list of another length, a negative or non-integer number, or one list of a pair missing.
    """
    columns: list[list[np.ndarray]] = [[], []]
    for what, pair, default in (
        ("identities", identities, 0),
        ("cameras", cameras, 0),
        ("picture numbers", pictures, -1),
        ("groups", groups, 0),
    ):
        numbered = _number(pair, counts, what, default)
        for side in (0, 1):
            columns[side].append(numbered[side])
    return Labels(*columns[0]), Labels(*columns[1])


def _number(
    pair: tuple[LabelList | None, LabelList | None], counts: tuple[int, ...], what: str, default: int
) -> tuple[np.ndarray, np.ndarray]:
    query, gallery = pair
    if query is None and gallery is None:
        return np.full(counts[0], default), np.full(counts[1], default)
    if query is None or gallery is None:
        raise DataError(f"{what} are given for one side only; give them for queries and gallery")
    arrays = [_labels(values, count, what) for values, count in zip((query, gallery), counts, strict=True)]
    if arrays[0].dtype.kind != arrays[1].dtype.kind:
        raise DataError(f"{what} of queries and gallery differ in kind: {arrays[0].dtype}, {arrays[1].dtype}")
    numbers = np.unique(np.concatenate(arrays), return_inverse=True)[1].reshape(-1)
    return numbers[: counts[0]], numbers[counts[0] :]


def _labels(values: LabelList, count: int, what: str) -> np.ndarray:
    """One label per picture as int64 or str."""
    array = np.asarray(values)
    if array.shape != (count,):
        raise DataError(f"{count} pictures, but {what} of shape {array.shape}")
    if array.dtype.kind in "iu":
        if int(array.min()) < 0:
            raise DataError(f"{what} have a negative label ({array.min()}); leave such pictures out")
        return array.astype(np.int64)
    if array.dtype.kind == "U" or all(isinstance(value, str) for value in array):
        return array.astype(str)
    raise DataError(f"{what} are integers or strings, not {array.dtype}")


def left_out(protocol: Protocol, query: Labels, gallery: Labels) -> np.ndarray:
    """Mask ``(queries, gallery)`` of the pictures that a query neither finds nor steps over.

    In every protocol: the query picture itself, and other groups. Besides:

    - ``veri``, ``veriwild``: the query's identity in the query's camera (junk); other identities of that
      camera stay.
    - ``two_camera``: everything from the query's camera, so that cameras search each other.
    - ``vehicleid``: nothing (the gallery is one random picture per identity).
    """
    itself = (query.pictures[:, None] == gallery.pictures[None]) & (query.pictures[:, None] >= 0)
    mask = itself | (query.groups[:, None] != gallery.groups[None])
    same_camera = query.cameras[:, None] == gallery.cameras[None]
    if protocol == "two_camera":
        mask |= same_camera
    elif protocol != "vehicleid":
        mask |= same_camera & (query.identities[:, None] == gallery.identities[None])
    return mask


def one_per_identity(identities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions of one random picture of each identity, ascending."""
    shuffled = generator.permutation(len(identities))
    _, first = np.unique(identities[shuffled], return_index=True)
    return np.sort(shuffled[first])


def check_index_files(
    query: Labels, gallery: Labels, good: Sequence[Sequence[int]], junk: Sequence[Sequence[int]]
) -> None:
    """Compare the rule with VeRi-776's ``gt_index.txt`` and ``jk_index.txt``.

    Args:
        query, gallery: labels of ``name_query.txt`` and ``name_test.txt``, in the files' order.
        good: 0-based gallery positions of each query's positives.
        junk: likewise, of what is left out.

    Raises:
        DataError: the files do not have a line per query, or differ from the rule (the first query is named).
    """
    if len(good) != len(query) or len(junk) != len(query):
        raise DataError(f"{len(query)} queries, but {len(good)} lines of positives and {len(junk)} of junk")
    for row in range(len(query)):
        one = query.take(np.array([row]))
        junk_row = left_out("veri", one, gallery)[0]
        good_row = (gallery.identities == one.identities[0]) & ~junk_row
        for name, mask, listed in (("positives", good_row, good[row]), ("junk", junk_row, junk[row])):
            if set(np.flatnonzero(mask).tolist()) != set(listed):
                raise DataError(f"query {row}: the index file's {name} differ from identity and camera labels")
