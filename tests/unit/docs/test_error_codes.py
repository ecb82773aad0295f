from __future__ import annotations

import re

import pytest

from tests.unit.docs.blocks import DOCS, ROOT

CODE = re.compile(r"\bP[ECT]\d{3}\b")
SOURCES = [
    path for folder in ("toolkit", "calibration", "targets") for path in sorted((ROOT / folder).rglob("*.py"))
]
IN_SOURCE = {code for path in SOURCES for code in CODE.findall(path.read_text(encoding="utf-8"))}
PAGE = (DOCS / "errors.md").read_text(encoding="utf-8")


def test_there_are_codes() -> None:
    assert {"PE100", "PE510", "PC500", "PT000"} <= IN_SOURCE


@pytest.mark.parametrize("code", sorted(IN_SOURCE))
def test_every_code_is_explained_with_what_to_do(code: str) -> None:
    (row,) = re.findall(rf"^\| {code} \| (.+) \| (.+) \|$", PAGE, re.M)
    assert all(len(cell) > 10 for cell in row)


def test_page_explains_no_code_that_is_gone() -> None:
    assert set(CODE.findall(PAGE)) == IN_SOURCE
