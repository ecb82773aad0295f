"""VERI-Wild (Lou et al., CVPR 2019): ``images/<vehicle>/<picture>.jpg`` and lists in ``train_test_split``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from toolkit.datasets.records import Dataset, Record, Role, make_dataset, read_lines, require_folder
from toolkit.errors import DataError

TEST_SIZES = (3000, 5000, 10000)


def read_veriwild(root: Path, test_identities: int = TEST_SIZES[0]) -> Dataset:
    """Read VERI-Wild with the test lists of ``test_identities`` vehicles.

    Raises:
        DataError: a folder or a list is missing, a line cannot be understood, or a listed picture has no camera
            in ``vehicle_info.txt``.
    """
    require_folder(require_folder(root, "data set folder") / "images", "VERI-Wild picture folder")
    lists = root / "train_test_split"
    info = _read_info(lists / "vehicle_info.txt")
    records = [
        *_read_list(lists / "train_list.txt", "train", info),
        *_read_list(lists / f"test_{test_identities}_query.txt", "query", info),
        *_read_list(lists / f"test_{test_identities}.txt", "gallery", info),
    ]
    return make_dataset("veriwild", root, _without_query_copies(records), "veriwild")


def _without_query_copies(records: list[Record]) -> list[Record]:
    """Drop gallery entries of query pictures: the junk rule (same identity and camera) removes them anyway."""
    queries = {record.path for record in records if record.role == "query"}
    return [record for record in records if record.role != "gallery" or record.path not in queries]


def _read_info(path: Path) -> dict[str, dict[str, str]]:
    """Camera and attributes by ``vehicle/picture``; the first line is a header."""
    info: dict[str, dict[str, str]] = {}
    for number, line in enumerate(read_lines(path, "VERI-Wild list")[1:], start=2):
        fields = [field.strip() for field in line.split(";")]
        if len(fields) < 2 or "/" not in fields[0]:
            raise DataError(f"{path} line {number}: expected 'vehicle/picture;camera;...', found {line[:40]!r}")
        names = ("camera", "time", "model", "type", "colour")
        info[fields[0].removesuffix(".jpg")] = dict(zip(names, fields[1:], strict=False))
    return info


def _read_list(path: Path, role: Role, info: dict[str, dict[str, str]]) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path, "VERI-Wild list"), start=1):
        key = line.split()[0].removesuffix(".jpg")
        if key.count("/") != 1:
            raise DataError(f"{path} line {number}: expected 'vehicle/picture', found {line[:40]!r}")
        if key not in info:
            raise DataError(f"{path} line {number}: {key} is not in vehicle_info.txt; fetch the lists again")
        attributes = {name: value for name, value in info[key].items() if name in ("model", "type", "colour")}
        yield Record(f"images/{key}.jpg", key.split("/")[0], f"c{info[key]['camera']}", role, attributes)
