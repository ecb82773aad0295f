"""Code blocks of the documentation, and what is to be done with each.

A comment in the line before a block marks it: ``<!-- run -->`` runs it (bash or python) in the page's folder, and
``<!-- file: NAME -->`` writes it there. Of every other bash block the commands and their options must exist.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>run|file: (?P<file>\S+)) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, line, and mark (``run``, ``file`` or empty)."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    file: str = ""

    @property
    def name(self) -> str:
        """For a test's name."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["text"],
            "file" if match["file"] else (match["mark"] or ""),
            match["file"] or "",
        )
        for match in BLOCK.finditer(text)
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of every command of a bash block; comments and continuation lines are understood."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words
