"""VeRi-776 (Liu et al., ICME 2016): folders ``image_train``, ``image_query``, ``image_test`` and XML labels.

File names are ``NNNN_cCCC_FFFFFFFF_I.jpg``: identity, camera, frame, running number. The label files hold one
``Item`` per picture with ``colorID`` and ``typeID``, numbered as in ``list_color.txt`` and ``list_type.txt``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from toolkit.datasets.records import Dataset, Record, Role, make_dataset, picture_names, read_lines, require_folder
from toolkit.errors import DataError

logger = logging.getLogger(__name__)
NAME = re.compile(r"^(?P<identity>\d+)_c(?P<camera>\d{3})")
FOLDERS: tuple[tuple[str, Role], ...] = (
    ("image_train", "train"),
    ("image_query", "query"),
    ("image_test", "gallery"),
)
COLOURS = ("yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black")
TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate")


def read_veri776(root: Path, name: str = "veri776") -> Dataset:
    """Read VeRi-776 or a data set written in its layout.

    Raises:
        DataError: a folder is missing, a picture's name does not say identity and camera, a label file is
            damaged, or ``gt_index.txt``/``jk_index.txt`` contradict the junk rule.
    """
    require_folder(root, "data set folder")
    attributes = {
        **_read_labels(root / "train_label.xml"),
        **_read_labels(root / "test_label.xml"),
    }
    records: list[Record] = []
    for folder, role in FOLDERS:
        for file in picture_names(require_folder(root / folder, "VeRi-776 folder")):
            match = NAME.match(file)
            if match is None:
                raise DataError(
                    f"{root / folder / file} is not named as in VeRi-776 (NNNN_cCCC_*.jpg); rename or remove it"
                )
            path = f"{folder}/{file}"
            camera = f"c{match['camera']}"
            records.append(Record(path, match["identity"], camera, role, attributes.get(file, {})))
    check_index_files(root)
    return make_dataset(name, root, records, "veri")


def _read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Attributes by file name; empty when the label file is absent.

    The original declares gb2312, which Python's parser does not know; all its content is ASCII.
    """
    if not path.exists():
        logger.warning("%s is absent: pictures carry no colour and type", path)
        return {}
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataError(f"{path} declares a document type, which a label file never needs; refused")
    parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314  declarations are refused above
    try:
        tree = ElementTree.fromstring(data, parser)  # noqa: S314
    except ElementTree.ParseError as error:
        raise DataError(f"label file {path} is not valid XML ({error}); fetch it again or remove it") from error
    return {item.get("imageName", ""): _attributes(item.attrib) for item in tree.iter("Item")}


def _attributes(item: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for key, label, names in (("colorID", "colour", COLOURS), ("typeID", "type", TYPES)):
        number = item.get(key, "")
        if number.isdigit() and 1 <= int(number) <= len(names):
            found[label] = names[int(number) - 1]
    return found


def check_index_files(root: Path) -> int:
    """Compare ``gt_index.txt`` and ``jk_index.txt`` with the junk rule, when they are present.

    The files hold, per query, 1-based positions in ``name_test.txt``: positives (same identity, other
    camera) and junk (same identity, same camera).

    Returns:
        The number of queries compared (0 when a file is absent).

    Raises:
        DataError: a line differs from what the names say.
    """
    files = [root / name for name in ("name_query.txt", "name_test.txt", "gt_index.txt", "jk_index.txt")]
    if not all(path.exists() for path in files):
        return 0
    queries, gallery, positives, junk = (read_lines_keeping_empty(path) for path in files)
    by_identity: dict[str, list[tuple[int, str]]] = {}
    for position, file in enumerate(gallery, start=1):
        identity, camera = _parse(file, files[1])
        by_identity.setdefault(identity, []).append((position, camera))
    if not len(queries) == len(positives) == len(junk):
        raise DataError(
            f"{root}: name_query, gt_index and jk_index have different numbers of lines; fetch them again"
        )
    for file, good_line, junk_line in zip(queries, positives, junk, strict=True):
        identity, camera = _parse(file, files[0])
        same = by_identity.get(identity, [])
        good = {position for position, other in same if other != camera}
        bad = {position for position, other in same if other == camera}
        if good != _positions(good_line, files[2]) or bad != _positions(junk_line, files[3]):
            raise DataError(f"{root}: gt_index/jk_index contradict the names for query {file}; fetch them again")
    return len(queries)


def read_lines_keeping_empty(path: Path) -> list[str]:
    """Lines of a file in which an empty line means 'none'."""
    read_lines(path, "index file")
    return path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")


def _parse(file: str, source: Path) -> tuple[str, str]:
    match = NAME.match(file.strip())
    if match is None:
        raise DataError(f"{source}: {file!r} does not follow VeRi-776's naming NNNN_cCCC_*.jpg")
    return match["identity"], match["camera"]


def _positions(line: str, source: Path) -> set[int]:
    try:
        return {int(word) for word in line.split()}
    except ValueError as error:
        raise DataError(f"{source}: {line[:40]!r} is not a list of positions") from error
