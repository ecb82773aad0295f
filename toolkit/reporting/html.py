"""The report as one self-contained HTML file."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from toolkit.errors import ArtifactError
from toolkit.optional import require
from toolkit.reporting.input import ReportInput
from toolkit.reporting.path import path_table
from toolkit.reporting.sections import sections
from toolkit.reporting.words import headline, tiles

logger = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
PICTURE_BUDGETS = (3_000_000, 1_200_000, 300_000, 0)
"""Bytes for pictures that are tried in turn until the file is small enough; one picture always stays."""


def render_report(data: ReportInput, path: Path, publish: bool = False) -> Path:
    """Write the report: no script, nothing from the network, at most :data:`MAX_BYTES`.

    Args:
        data: what to show.
        path: the HTML file; its folder is made.
        publish: leave pictures of real roads out.

    Returns:
        ``path``.

    Raises:
        ArtifactError: the file cannot be written, or is too large even without pictures.
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    for budget in PICTURE_BUDGETS:
        text = render_html(data, publish, budget)
        size = len(text.encode("utf-8"))
        if size <= MAX_BYTES:
            write_page(path, text)
            return path
        logger.info("the report has %d bytes with %d for pictures; trying fewer", size, budget)
    raise ArtifactError(f"the report has {size:,} bytes, more than {MAX_BYTES:,}; leave curves or layers out")


def render_html(data: ReportInput, publish: bool = False, budget: int = PICTURE_BUDGETS[0]) -> str:
    """The text of the report (see :func:`render_report`)."""
    template = template_environment().get_template("report.html.j2")
    text: str = template.render(
        data=data,
        title=data.title or data.name,
        published=publish,
        headline=headline(data),
        tiles=tiles(data),
        groups=path_table(data),
        sections=sections(data, publish, budget),
    )
    return text


def template_environment() -> Any:
    """The pages' templates: everything is escaped, an unknown name is an error.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = require("jinja2", "host")
    return jinja2.Environment(
        loader=jinja2.PackageLoader("toolkit.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, text: str) -> None:
    """Write a page under a temporary name and rename it; its folder is made.

    Raises:
        ArtifactError: it cannot be written.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ArtifactError(f"cannot write the report {path}: {error.strerror}") from error
