"""VehicleID (Liu et al., CVPR 2016): ``image/NNNNNNN.jpg`` and lists in ``train_test_split``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toolkit.datasets.records import Dataset, Record, Role, make_dataset, read_lines, require_folder
from toolkit.errors import DataError

TEST_SIZES = (800, 1600, 2400)


def read_vehicleid(root: Path, test_identities: int = TEST_SIZES[0]) -> Dataset:
    """Read VehicleID with the test list of ``test_identities`` vehicles.

    The data set names no cameras. Each test picture is a query candidate: the protocol draws one picture per
    identity as gallery, repeatedly.

    Raises:
        DataError: a folder or a list is missing, or a line is not ``picture identity``.
    """
    require_folder(require_folder(root, "data set folder") / "image", "VehicleID picture folder")
    lists = root / "train_test_split"
    records = [
        *_read_list(lists / "train_list.txt", "train"),
        *_read_list(lists / f"test_list_{test_identities}.txt", "query"),
    ]
    return make_dataset("vehicleid", root, records, "vehicleid")


def _read_list(path: Path, role: Role) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path, "VehicleID list"), start=1):
        words = line.split()
        if len(words) != 2:
            raise DataError(f"{path} line {number}: expected 'picture identity', found {line[:40]!r}")
        yield Record(f"image/{words[0].removesuffix('.jpg')}.jpg", words[1], "c000", role)
