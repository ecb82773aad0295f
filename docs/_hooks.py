"""What MkDocs fills in while it builds: the commands, from the command line itself."""

from __future__ import annotations

from typing import Any

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by the list of commands."""
    if MARK not in markdown:
        return markdown
    from toolkit.cli import app
    from toolkit.commands.reference import commands_markdown

    return markdown.replace(MARK, commands_markdown(app))
