"""Every command block of the documentation works, or at least names commands and options that exist."""

from __future__ import annotations

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.docs.blocks import PAGES, ROOT, Block, blocks_of, commands
from toolkit.cli import app
from toolkit.commands.reference import command_tree, commands_markdown, walk
from toolkit.settings import RunSettings
from toolkit.sweeps.settings import SweepSettings, jobs_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUNNING = sorted({block.page for block in BLOCKS if block.mark})
READ_ONLY = [block for block in BLOCKS if block.language == "bash" and not block.mark]
OTHER_PROGRAMS = {"source", "git", "cd", "scp", "ssh", "sudo", "docker"}
SECTIONS = set(RunSettings.model_fields)


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: str(page.relative_to(ROOT)))
def test_marked_blocks_of_a_page_run_in_order(page: Path, workplace: Path, environment: dict[str, str]) -> None:
    for block in blocks_of(page):
        if block.mark == "file":
            (workplace / block.file).write_text(block.text)
        elif block.mark == "run":
            program = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}[block.language]
            done = subprocess.run(
                [*program, block.text],
                check=False,
                cwd=workplace,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{block.name}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", READ_ONLY, ids=lambda block: block.name)
def test_other_commands_and_their_options_exist(block: Block) -> None:
    for words in commands(block):
        _check(words)


def _check(words: list[str]) -> None:
    name, *arguments = words
    if name in ("patrol-edge", "own_edge.py"):
        _parse(command_tree(app), arguments)
    elif name == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert set(arguments) <= targets, words
    elif name in ("python", "python3"):
        _check_python(arguments)
    elif name == "pip":
        _check_extras(arguments)
    else:
        assert name in OTHER_PROGRAMS, f"what is {name}?"


def _parse(command: Any, arguments: list[str]) -> None:
    """Fails on an unknown command or option; files need not exist."""
    children = getattr(command, "commands", None)
    words = [word for word in arguments if not word.startswith("-")]
    if children is not None and words:
        assert words[0] in children, f"no command {words[0]}"
        _parse(children[words[0]], arguments[arguments.index(words[0]) + 1 :])
        return
    parser = command.make_parser(command.context_class(command, info_name="patrol-edge"))
    try:
        parser.parse_args([word for word in arguments if word.startswith("-")] if children else list(arguments))
    except Exception as error:
        raise AssertionError(f"{arguments}: {error}") from error


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m" and arguments[1] == "pip":
        _check_extras(arguments[2:])
    elif arguments[0] == "-m" and arguments[1] not in ("pytest", "build", "venv", "twine"):
        path = ROOT.joinpath(*arguments[1].split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), arguments
    elif arguments[0] == "own_edge.py":
        _parse(command_tree(app), arguments[1:])
    elif arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).exists(), arguments


def _check_extras(arguments: list[str]) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= set(setup["options.extras_require"]), arguments


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=lambda block: block.name)
def test_settings_in_the_text_are_settings(block: Block) -> None:
    body = yaml.safe_load(block.text)
    if isinstance(body, dict) and "methods" in body:
        jobs_of(SweepSettings.model_validate(body))
        return
    if not isinstance(body, dict) or "limits" in body or not set(body) <= SECTIONS:
        assert isinstance(body, dict) and ("limits" in body or "jobs" in body), block.name
        return
    section = {"name": "example", "data": {"kind": "fleet"}, **body}
    if "enter" in body:
        section["enter"] = {**body["enter"], "path": str(ROOT / "setup.cfg")}
    RunSettings.model_validate(section)


def test_command_page_names_every_command() -> None:
    text = commands_markdown(app)
    for name, command in walk(command_tree(app)):
        assert f"## {name}\n" in text
        for option in command.params:
            shown = option.param_type_name != "argument" and option.help
            assert not shown or option.opts[0] in text, (name, option.name)
    assert text.count("## patrol-edge") >= 15


def test_examples_of_the_runner_itself() -> None:
    """A wrong option, command, target or extra in the documentation is found."""
    for line in (
        "patrol-edge init --daat fleet",
        "patrol-edge frobnicate x.yaml",
        "patrol-edge runs lst",
        "make tset",
        "pip install 'patrol-edge[hsot]'",
        "python -m toolkit.nothing",
        "frobnicate",
    ):
        block = Block(ROOT / "README.md", 1, "bash", line, "")
        with pytest.raises(AssertionError):
            test_other_commands_and_their_options_exist(block)
