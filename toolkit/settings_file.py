"""Reading a settings file: safe YAML, changes from the command line, errors in one line with the near match."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from toolkit.errors import SettingsError

T = TypeVar("T", bound=BaseModel)
BOOLEAN = "tag:yaml.org,2002:bool"


class SettingsLoader(yaml.SafeLoader):
    """Safe YAML in which only ``true`` and ``false`` are booleans (YAML 1.2): ``off`` is a choice of settings."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [rule for rule in rules if rule[0] != BOOLEAN]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


SettingsLoader.add_implicit_resolver(BOOLEAN, re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse(text: str) -> Any:
    """The value of a YAML text (raises ``yaml.YAMLError``)."""
    loader = SettingsLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_settings(path: Path, model: type[T], changes: Sequence[str] = ()) -> T:
    """Read a YAML file into a settings model.

    Args:
        path: the file.
        model: the schema.
        changes: ``section.key=value`` texts; the value is read as YAML.

    Raises:
        SettingsError: unreadable file, wrong YAML, unknown key, wrong value; one line that names the place.
    """
    body = read_body(path)
    for change in changes:
        apply_change(body, change)
    return checked(body, model, path)


def read_body(path: Path) -> dict[str, Any]:
    """The keys of a YAML file, unchecked.

    Raises:
        SettingsError: unreadable file, wrong YAML, or no keys.
    """
    try:
        body = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(body, dict):
        raise SettingsError(f"{path} holds no settings (expected `key: value` lines)")
    return body


def checked(body: dict[str, Any], model: type[T], path: Path) -> T:
    """A settings model of keys that were read.

    Raises:
        SettingsError: unknown key or wrong value; one line that names the place and the file.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise SettingsError(f"{path}: {settings_error(error, model)}") from error


def apply_change(body: dict[str, Any], change: str) -> None:
    """Set ``section.key=value``, the value read as YAML."""
    place, equals, text = change.partition("=")
    if not equals or not place:
        raise SettingsError(f"--set {change!r}: write section.key=value")
    *parents, last = place.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
        if not isinstance(body, dict):
            raise SettingsError(f"--set {change!r}: {parent} is not a section")
    try:
        body[last] = parse(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {change!r}: the value is not YAML") from error


def settings_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a settings model in one line, with the near match of an unknown key."""
    problems = error.errors(include_url=False)
    problem = problems[0]
    place = ".".join(str(part) for part in problem["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _fields_at(model, [str(part) for part in problem["loc"][:-1]])
        return f"unknown key {place}; {_advice(str(problem['loc'][-1]), known)}{more}"
    if problem["type"] == "missing":
        return f"{place} is missing{more}"
    given = problem.get("input")
    shown = f", not {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    return f"{place or 'settings'}: {problem['msg'].removeprefix('Value error, ')}{shown}{more}"


def _fields_at(model: type[BaseModel], place: list[str]) -> list[str]:
    """Names that are known at a place such as ``attack.attackers.0.ridge``."""
    models: list[Any] = [model]
    for part in place:
        if part.isdigit():
            continue
        found = [fields[part] for fields in map(_fields_of, models) if part in fields]
        if found:
            models = [inner for annotation in found for inner in _models_in(annotation)]
        else:  # the tag of one member of a union
            models = [inner for inner in models if part in get_args(_fields_of(inner).get("kind"))]
    return list(dict.fromkeys(name for inner in models for name in _fields_of(inner)))


def _fields_of(model: Any) -> dict[str, Any]:
    if issubclass(model, BaseModel):
        return {name: field.annotation for name, field in model.model_fields.items()}
    return {field.name: field.type for field in dataclasses.fields(model)}


def _models_in(annotation: Any) -> list[Any]:
    """Models and dataclasses in a type, at any depth of unions and containers."""
    if isinstance(annotation, type) and not get_args(annotation):
        is_model = issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)
        return [annotation] if is_model else []
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _advice(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(known)}" if known else "remove it"
