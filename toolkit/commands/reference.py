"""Every command with its arguments and options, as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer


def command_tree(app: typer.Typer) -> Any:
    """The root command of an application."""
    return typer.main.get_command(app)


def walk(command: Any, name: str = "patrol-edge") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    children = getattr(command, "commands", None)
    if not children:
        yield name, command
        return
    for child, inner in children.items():
        yield from walk(inner, f"{name} {child}")


def commands_markdown(app: typer.Typer) -> str:
    """One section per command."""
    return "\n".join(_section(name, command) for name, command in walk(command_tree(app)))


def _section(name: str, command: Any) -> str:
    arguments = [entry for entry in command.params if entry.param_type_name == "argument"]
    options = [entry for entry in command.params if entry.param_type_name == "option" and not entry.hidden]
    usage = " ".join([name, *(_usage(entry) for entry in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}", "", " ".join((command.help or "").split()), "", f"    {usage}", ""]
    rows = [(_usage(entry), entry.help) for entry in arguments]
    rows += [(", ".join(f"`{text}`" for text in entry.opts), entry.help) for entry in options if entry.help]
    if rows:
        lines += ["| | |", "|---|---|", *(f"| {left} | {_cell(right)} |" for left, right in rows), ""]
    return "\n".join(lines)


def _usage(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper()).strip("[]")
    return name if argument.required else f"[{name}]"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
