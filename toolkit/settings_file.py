"""Reading a settings file: safe YAML, changes from the command line, errors in one line with the near match."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from toolkit.errors import SettingsError

T = TypeVar("T", bound=BaseModel)


def read_settings(path: Path, model: type[T], changes: Sequence[str] = ()) -> T:
    """Read a YAML file into a settings model.

    Args:
        path: the file.
        model: the schema.
        changes: ``section.key=value`` texts; the value is read as YAML.

    Raises:
        SettingsError: unreadable file, wrong YAML, unknown key, wrong value; one line that names the place.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(body, dict):
        raise SettingsError(f"{path} holds no settings (expected `key: value` lines)")
    for change in changes:
        _apply(body, change)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_line(error, model)}") from error


def _apply(body: dict[str, Any], change: str) -> None:
    place, equals, text = change.partition("=")
    if not equals or not place:
        raise SettingsError(f"--set {change!r}: write section.key=value")
    *parents, last = place.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
        if not isinstance(body, dict):
            raise SettingsError(f"--set {change!r}: {parent} is not a section")
    try:
        body[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {change!r}: the value is not YAML") from error


def _first_line(error: ValidationError, model: type[BaseModel]) -> str:
    problems = error.errors(include_url=False)
    problem = problems[0]
    place = ".".join(str(part) for part in problem["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, [str(part) for part in problem["loc"][:-1]])
        return f"unknown key {place}; {_advice(str(problem['loc'][-1]), known)}{more}"
    if problem["type"] == "missing":
        return f"{place} is missing{more}"
    given = problem.get("input")
    shown = f", not {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    return f"{place or 'settings'}: {problem['msg']}{shown}{more}"


def _fields_at(model: type[BaseModel], place: list[str]) -> list[str]:
    for part in place:
        field = model.model_fields.get(part)
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        models = [item for item in inner if isinstance(item, type) and issubclass(item, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _advice(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(known)}" if known else "remove it"
